"""Encoders: texts, pictures and sound to rows of numbers, looked up by name, with optional packages imported late.

    encoder = encoders.get("text", "tfidf")
    encoded = encoder.encode(["a red lamp", None, "a blue lamp"])
    encoded.features, encoded.missing, encoded.sentences()

A new encoder is one file with a class that follows `base.Encoder`, and one line of the tables below.
"""

import importlib
import inspect

from sea_jax.errors import SeaError
from sea_jax.raw.encoders.base import Encoded, Encoder, Problem
from sea_jax.raw.encoders.cache import Cache

__all__ = ["DEFAULTS", "ENCODERS", "Cache", "Encoded", "Encoder", "Problem", "get"]

# By modality: name -> module, class, what may follow the name after a colon.
ENCODERS = {
    "text": {
        "tfidf": ("text_tfidf", "Tfidf", ""),
        "minilm": ("text_minilm", "MiniLM", "FOLDER or hub name of a BERT-shaped model; all-MiniLM-L6-v2 without"),
        "sentence-transformers": ("text_torch", "SentenceTransformers", "FOLDER or hub name"),
        "clip": ("clip", "ClipText", "FOLDER or hub name"),
    },
    "image": {
        "colours": ("pictures", "Colours", ""),
        "torchvision": ("pictures_torch", "Torchvision", "MODEL, or MODEL@FILE with its weights"),
        "clip": ("clip", "ClipImage", "FOLDER or hub name"),
    },
    "audio": {
        "logmel": ("sound", "LogMel", ""),
    },
}
DEFAULTS = {"text": "tfidf", "image": "colours", "audio": "logmel"}


def get(modality: str, spec: str = "", *, device: str = "", **options) -> Encoder:
    """The encoder that `spec` names: `NAME` or `NAME:ARGUMENT`, such as `minilm:/models/bge-small`.

    Args:
      modality: "text", "image" or "audio".
      spec: empty for the modality's default, which needs no weights.
      device: "cpu", "gpu" or "tpu" for encoders that compute on one (NumPy's do not care); the best there is, without.
      options: of the encoder's class, such as `width` of tfidf.
    Raises: SeaError for an unknown name, an argument too many or too few, a package or weights that are missing.
    """
    if modality not in ENCODERS:
        raise SeaError(f"there are no encoders of {modality!r}; there are of {', '.join(ENCODERS)}.")
    name, colon, argument = (spec or DEFAULTS[modality]).partition(":")
    known = ENCODERS[modality]
    if name not in known:
        raise SeaError(f"{spec!r} is no encoder of {modality}; there are {', '.join(known)}.")
    module, kind, wants = known[name]
    if colon and (not wants or not argument):
        raise SeaError(f"{spec!r}: {name} takes {f'{wants} after the colon' if wants else 'nothing after its name'}.")
    make = getattr(importlib.import_module(f"{__name__}.{module}"), kind)
    if device and "device" in inspect.signature(make).parameters:
        options["device"] = device
    return make(argument, **options) if argument else make(**options)
