"""Pictures and texts in one space: CLIP and SigLIP by transformers (extra `image`)."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from sea_jax.errors import SeaError, require
from sea_jax.raw.encoders.base import Broken, Encoder, Result, batched, unit
from sea_jax.raw.encoders.pictures import decode
from sea_jax.raw.encoders.text_torch import quiet, revision, torch_device

DEFAULT = "openai/clip-vit-base-patch32"
BATCH = 32


class _Clip(Encoder):
    """A model with an image and a text tower; rows of unit length.

    Args:
      source: a folder, or a name on the Hugging Face hub.
      device: "cpu" or "gpu"; a GPU if there is one, without.
    Raises: SeaError if packages are missing or the model cannot be had or has no two towers.
    """

    def __init__(self, source: str = DEFAULT, *, device: str = ""):
        self._torch = torch = require("torch", "image", f"clip:{source}")
        transformers = require("transformers", "image", f"clip:{source}")
        try:
            with quiet(transformers):
                self.model = transformers.AutoModel.from_pretrained(source).eval()
                self.processor = transformers.AutoProcessor.from_pretrained(source)
        except Exception as error:  # no network, no such model, a damaged file
            raise SeaError(
                f"clip:{source} cannot be loaded ({type(error).__name__}); connect to the internet once, or name a "
                "folder that holds the model."
            ) from error
        if not hasattr(self.model, "get_image_features"):
            raise SeaError(f"clip:{source} is a {type(self.model).__name__}, which has no image and text towers.")
        self.name, code = revision("clip", source, getattr(self.model.config, "_commit_hash", None))
        self.version = f"1-{code}"
        self.device = torch_device(torch, device)
        self.model.to(self.device)

    def _rows(self, features) -> np.ndarray:
        features = getattr(features, "pooler_output", features)  # transformers 5 wraps them
        return unit(features.float().cpu().numpy().astype(np.float64)).astype(np.float32)


class ClipImage(_Clip):
    """CLIP's image tower."""

    modality = "image"

    def transform(self, contents: Iterable[tuple[Any, bytes]]) -> Iterator[Result]:
        for batch in batched(contents, BATCH):
            good, images = [], []
            for key, content in batch:
                try:
                    images.append(decode(content))
                    good.append(key)
                except Broken as error:
                    yield Result(key, problem=str(error))
            if good:
                inputs = self.processor(images=images, return_tensors="pt").to(self.device)
                with self._torch.inference_mode():
                    yield from map(Result, good, self._rows(self.model.get_image_features(**inputs)))


class ClipText(_Clip):
    """CLIP's text tower: at most 77 tokens (SigLIP 64); the rest is cut."""

    modality = "text"

    def transform(self, contents: Iterable[tuple[Any, str]]) -> Iterator[Result]:
        length = getattr(self.model.config, "text_config", self.model.config).max_position_embeddings
        tokenizer = self.processor.tokenizer
        for batch in batched(contents, BATCH):
            texts = [text for _, text in batch]
            tokens = tokenizer(texts, padding=False, truncation=False, verbose=False)["input_ids"]
            inputs = tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt").to(
                self.device
            )
            with self._torch.inference_mode():
                rows = self._rows(self.model.get_text_features(**inputs))
            for (key, _), row, of in zip(batch, rows, tokens, strict=True):
                yield Result(key, row, len(of) > length)
