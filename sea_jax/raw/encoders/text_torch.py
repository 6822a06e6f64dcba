"""Text by any model of sentence-transformers (extra `text`, which brings torch)."""

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sea_jax import files
from sea_jax.errors import SeaError, require
from sea_jax.raw.encoders.base import Encoder, Result, batched

BATCH, AHEAD = 32, 4096


class SentenceTransformers(Encoder):
    """A model of sentence-transformers.

    Args:
      source: a folder, or a name on the Hugging Face hub.
      device: "cpu" or "gpu"; a GPU if there is one, without.
    Raises: SeaError if the package is missing or the model cannot be had.
    """

    modality = "text"

    def __init__(self, source: str = "sentence-transformers/all-MiniLM-L6-v2", *, device: str = ""):
        torch = require("torch", "text", f"sentence-transformers:{source}")
        package = require("sentence_transformers", "text", f"sentence-transformers:{source}")
        transformers = require("transformers", "text", f"sentence-transformers:{source}")
        place = torch_device(torch, device)
        try:
            with quiet(transformers):
                self.model = package.SentenceTransformer(source, device=place)
        except Exception as error:  # no network, no such model, a damaged file
            raise SeaError(
                f"sentence-transformers:{source} cannot be loaded ({type(error).__name__}); connect to the internet "
                "once, or name a folder that holds the model."
            ) from error
        config = getattr(getattr(self.model[0], "auto_model", None), "config", None)
        self.name, code = revision("sentence-transformers", source, getattr(config, "_commit_hash", None))
        self.version = f"1-{code}"

    def transform(self, contents: Iterable[tuple[Any, str]]) -> Iterator[Result]:
        most = self.model.max_seq_length
        for ahead in batched(contents, AHEAD):
            ahead.sort(key=lambda pair: -len(pair[1]))
            for start in range(0, len(ahead), BATCH):
                batch = ahead[start : start + BATCH]
                texts = [text for _, text in batch]
                rows = self.model.encode(texts, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)
                lengths = map(len, self.model.tokenizer(texts, truncation=False, verbose=False)["input_ids"])
                for (key, _), row, length in zip(batch, rows, lengths, strict=True):
                    yield Result(key, row, most is not None and length > most)


def torch_device(torch, device: str) -> str:
    """Torch's name of a device: "gpu" is its "cuda". Raises SeaError if a GPU is asked for and there is none."""
    there = torch.cuda.is_available()
    if device == "gpu" and not there:
        raise SeaError("torch sees no GPU here; leave the device out or take cpu.")
    if device not in ("", "cpu", "gpu"):
        raise SeaError(f"{device!r} is no device that torch's encoders run on; they run on cpu and gpu.")
    return "cuda" if there and device != "cpu" else "cpu"


@contextlib.contextmanager
def quiet(transformers) -> Iterator[None]:
    """No progress bars of transformers while a model is loaded."""
    logging = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def revision(kind: str, source: str, commit: str | None) -> tuple[str, str]:
    """An encoder's name without a path of one machine, and a code of its weights: the commit, or a hash of the files."""
    folder = Path(source)
    if not folder.is_dir():
        return f"{kind}:{source}", (commit or "unknown")[:16]
    code = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".safetensors", ".bin", ".txt")):
        code.update(f"{path.relative_to(folder)} {files.sha256(path)}\n".encode())
    return f"{kind}:{folder.name}", code.hexdigest()[:16]
