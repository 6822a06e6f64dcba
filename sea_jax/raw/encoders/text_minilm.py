"""Text by a BERT-shaped sentence encoder in plain JAX: MiniLM and its relatives, without torch.

It reads the folder of a sentence-transformers model (config.json, model.safetensors, tokenizer.json, modules.json,
1_Pooling, sentence_bert_config.json) and gives the numbers that package gives, to 1e-5.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sea_jax import files
from sea_jax.errors import SeaError, require
from sea_jax.raw.encoders.base import Encoder, Result, batched

DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
FILES = ("config.json", "tokenizer.json", "*.safetensors", "modules.json", "*_Pooling/config.json", "*_config.json")
ACTIVATIONS = {
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_new": jax.nn.gelu,
    "gelu_pytorch_tanh": jax.nn.gelu,
    "relu": jax.nn.relu,
}
BATCH, MULTIPLE = 32, 32  # every batch has 32 texts, padded to a multiple of 32 tokens: few shapes to compile
AHEAD = 1 << 16  # texts that are sorted by length together


class Recipe(NamedTuple):
    """What a model's folder says about encoding, beside its weights."""

    heads: int
    epsilon: float
    activation: str
    length: int  # tokens, the two special ones included
    pooling: str  # mean or cls
    normalise: bool
    lower: bool
    prompt: str


class MiniLM(Encoder):
    """A BERT-shaped sentence encoder.

    Args:
      source: a model's folder, or its name on the Hugging Face hub.
      device: "cpu", "gpu" or "tpu"; JAX's default without.
    Raises: SeaError if a package or file is missing, or the model is of another shape.
    """

    modality = "text"

    def __init__(self, source: str = DEFAULT, *, device: str = ""):
        self.name = f"minilm:{Path(source).name if Path(source).is_dir() else source}"  # no path of one machine
        self._tokenizers = require("tokenizers", "encode", "minilm")
        safetensors = require("safetensors.numpy", "encode", "minilm")
        self.folder = model_folder(source)
        self.recipe, self.tokenizer = read_recipe(self.folder), self._tokenizer()
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(self.recipe.length)
        weights = read_weights(self.folder, safetensors)
        self.width = weights["embeddings"]["word"].shape[1]
        if self.tokenizer.get_vocab_size() > len(weights["embeddings"]["word"]):
            raise SeaError(
                f"{self.folder}: tokenizer.json knows more words than the weights; they are not of one model."
            )
        self.version = f"1-{fingerprint(self.folder)}"
        try:
            self._device = jax.devices(device)[0] if device else None
        except RuntimeError as error:
            raise SeaError(f"minilm: JAX sees no device of the kind {device!r} here.") from error
        self.weights = jax.device_put(weights, self._device)

    def _tokenizer(self):
        path = self.folder / "tokenizer.json"
        try:
            return self._tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises Exception itself
            raise SeaError(f"{path} is missing or damaged; download the model's folder again.") from error

    def transform(self, contents: Iterable[tuple[bytes, str]]) -> Iterator[Result]:
        for ahead in batched(contents, AHEAD):
            yield from self._sorted(ahead)

    def _sorted(self, contents) -> Iterator[Result]:
        keys = [key for key, _ in contents]
        tokens, cut = self.tokenize([text for _, text in contents])
        order = sorted(
            range(len(keys)), key=lambda place: -len(tokens[place])
        )  # longest first: memory is known at once
        for start in range(0, len(order), BATCH):
            places = order[start : start + BATCH]
            rows = self.forward([tokens[place] for place in places])
            for place, row in zip(places, rows, strict=True):
                yield Result(keys[place], row, cut[place])

    def tokenize(self, texts: list[str]) -> tuple[list[list[int]], list[bool]]:
        """Token numbers of each text, and whether it was longer than the model reads."""
        prompt, lower = self.recipe.prompt, self.recipe.lower
        texts = [prompt + text.strip() for text in texts]
        encodings = self.tokenizer.encode_batch(
            [(text.lower() if lower else text).encode("utf-8", "replace").decode() for text in texts]
        )
        return [encoding.ids for encoding in encodings], [bool(encoding.overflowing) for encoding in encodings]

    def forward(self, tokens: list[list[int]]) -> np.ndarray:
        """The rows of at most 32 texts, (n, width) float32."""
        longest = max(map(len, tokens))
        shape = BATCH, min(-(-longest // MULTIPLE) * MULTIPLE, self.recipe.length)
        ids, mask = np.zeros(shape, np.int32), np.zeros(shape, bool)
        for place in range(BATCH):
            of = tokens[min(place, len(tokens) - 1)]  # a batch that is not full repeats its last text
            ids[place, : len(of)], mask[place, : len(of)] = of, True
        ids, mask = jax.device_put((ids, mask), self._device)
        return np.asarray(_forward(self.weights, ids, mask, recipe=self.recipe._replace(prompt="", length=0)))[
            : len(tokens)
        ]


@functools.partial(jax.jit, static_argnames="recipe")
def _forward(weights, ids, mask, *, recipe: Recipe):
    with jax.default_matmul_precision("highest"):
        table = weights["embeddings"]
        x = table["word"][ids] + table["position"][: ids.shape[1]] + table["kind"][0]
        x = _norm(x, table["norm"], recipe.epsilon)
        bias = jnp.where(mask, 0.0, jnp.finfo(x.dtype).min)[:, None, None, :]
        for layer in weights["layers"]:
            x = _norm(x + _attend(x, bias, layer, recipe.heads), layer["attention_norm"], recipe.epsilon)
            hidden = ACTIVATIONS[recipe.activation](_dense(x, layer["wide"]))
            x = _norm(x + _dense(hidden, layer["narrow"]), layer["norm"], recipe.epsilon)
        if recipe.pooling == "cls":
            x = x[:, 0]
        else:
            x = jnp.where(mask[..., None], x, 0).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12) if recipe.normalise else x


def _dense(x, layer):
    return x @ layer["kernel"] + layer["bias"]


def _norm(x, layer, epsilon):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / jnp.sqrt((x * x).mean(axis=-1, keepdims=True) + epsilon) * layer["weight"] + layer["bias"]


def _attend(x, bias, layer, heads):
    split = *x.shape[:2], heads, -1
    # Heads before tokens, and kernels stored (in, out): XLA's CPU code is twice as fast so.
    query, key, value = (_dense(x, layer[name]).reshape(split).swapaxes(1, 2) for name in ("query", "key", "value"))
    scores = query @ key.swapaxes(2, 3) / np.sqrt(query.shape[-1]) + bias
    mixed = jax.nn.softmax(scores, axis=-1) @ value
    return _dense(mixed.swapaxes(1, 2).reshape(x.shape), layer["out"])


def model_folder(source: str) -> Path:
    """The folder of a model: `source` itself, or the hub's copy of it."""
    if Path(source).expanduser().is_dir():
        return Path(source).expanduser()
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        raise SeaError(f"minilm:{source} is no folder, nor a name of the hub such as {DEFAULT}.")
    hub = require("huggingface_hub", "encode", f"minilm:{source}")
    try:
        return Path(hub.snapshot_download(source, allow_patterns=list(FILES)))
    except Exception as error:  # no network, no such model, a gate: the hub has some twenty kinds
        raise SeaError(
            f"minilm:{source} cannot be had from the Hugging Face hub ({type(error).__name__}); "
            "connect to the internet once, or download its folder elsewhere and write minilm:FOLDER."
        ) from error


def read_recipe(folder: Path) -> Recipe:
    """What the folder's JSON files say; raises SeaError for a model of another shape."""
    config = _json(folder / "config.json")
    kind, activation = config.get("model_type"), config.get("hidden_act", "gelu")
    positions = config.get("position_embedding_type") or "absolute"
    if kind != "bert" or positions != "absolute" or activation not in ACTIVATIONS or config.get("is_decoder"):
        raise SeaError(
            f"{folder} is not BERT-shaped (model_type {kind}, positions {positions}, activation {activation}); "
            "use the encoder sentence-transformers:NAME for it."
        )
    pooling, normalise = "mean", False  # what sentence-transformers does where modules.json is missing
    for module in _json(folder / "modules.json", []):
        name = module["type"].rpartition(".")[2]
        if name == "Pooling":
            pooling = _pooling(folder / module["path"] / "config.json")
        elif name == "Normalize":
            normalise = True
        elif name != "Transformer":
            raise SeaError(f"{folder} has a module {name}; use the encoder sentence-transformers:NAME for it.")
    sentence = _json(folder / "sentence_bert_config.json", {})
    limits = sentence.get("max_seq_length"), _json(folder / "tokenizer_config.json", {}).get("model_max_length")
    length = next((limit for limit in limits if limit), config["max_position_embeddings"])
    prompts = _json(folder / "config_sentence_transformers.json", {})
    return Recipe(
        heads=config["num_attention_heads"],
        epsilon=config.get("layer_norm_eps", 1e-12),
        activation=activation,
        length=min(int(length), config["max_position_embeddings"]),
        pooling=pooling,
        normalise=normalise,
        lower=bool(sentence.get("do_lower_case")),
        prompt=(prompts.get("prompts") or {}).get(prompts.get("default_prompt_name"), ""),
    )


def _pooling(path: Path) -> str:
    config = _json(path)
    old = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    modes = [old.get(name, name) for name, value in config.items() if name.startswith("pooling_mode_") and value]
    if "pooling_mode" in config:  # newer folders name it
        modes = config["pooling_mode"] if isinstance(config["pooling_mode"], list) else [config["pooling_mode"]]
    if len(modes) != 1 or modes[0] not in ("mean", "cls"):
        raise SeaError(f"{path} pools by {' and '.join(modes) or 'nothing'}; this encoder pools by mean or by cls.")
    return modes[0]


def _json(path: Path, default=None):
    if default is not None and not path.exists():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SeaError(f"{path} is missing or damaged; download the model's folder again.") from error


def read_weights(folder: Path, safetensors) -> dict:
    """The weights as a tree of float32 arrays; raises SeaError if one is missing."""
    flat = {}
    paths = sorted(folder.glob("model*.safetensors"))
    for path in paths:
        try:
            flat.update(safetensors.load_file(path))
        except Exception as error:  # safetensors has an exception of its own
            raise SeaError(f"{path} is damaged; download the model's folder again.") from error
    if not paths:
        raise SeaError(f"{folder} has no model.safetensors; use the encoder sentence-transformers:{folder} for it.")
    flat = {name.removeprefix("bert."): value for name, value in flat.items()}

    def take(name):
        if name not in flat:
            raise SeaError(f"{folder}: the weights lack {name}; the model is not BERT-shaped or the file is damaged.")
        return np.asarray(flat[name], np.float32)

    def dense(name):
        return {"kernel": np.ascontiguousarray(take(f"{name}.weight").T), "bias": take(f"{name}.bias")}

    def norm(name):
        return {"weight": take(f"{name}.weight"), "bias": take(f"{name}.bias")}

    layers = []
    for number in range(_json(folder / "config.json")["num_hidden_layers"]):
        at = f"encoder.layer.{number}"
        layers.append(
            {
                "query": dense(f"{at}.attention.self.query"),
                "key": dense(f"{at}.attention.self.key"),
                "value": dense(f"{at}.attention.self.value"),
                "out": dense(f"{at}.attention.output.dense"),
                "attention_norm": norm(f"{at}.attention.output.LayerNorm"),
                "wide": dense(f"{at}.intermediate.dense"),
                "narrow": dense(f"{at}.output.dense"),
                "norm": norm(f"{at}.output.LayerNorm"),
            }
        )
    embeddings = {
        "word": take("embeddings.word_embeddings.weight"),
        "position": take("embeddings.position_embeddings.weight"),
        "kind": take("embeddings.token_type_embeddings.weight"),
        "norm": norm("embeddings.LayerNorm"),
    }
    return {"embeddings": embeddings, "layers": layers}


def fingerprint(folder: Path) -> str:
    """A hash of every file that the rows depend on."""
    code = hashlib.sha256()
    for path in sorted({path for pattern in FILES for path in folder.glob(pattern)}):
        code.update(f"{path.relative_to(folder)} {files.sha256(path)}\n".encode())
    return code.hexdigest()[:16]
