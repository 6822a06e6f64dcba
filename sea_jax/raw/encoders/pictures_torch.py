"""Pictures by torchvision's networks, without their last linear layer (extra `image`)."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from sea_jax import files
from sea_jax.errors import SeaError, require
from sea_jax.raw.encoders.base import Broken, Encoder, Result, batched
from sea_jax.raw.encoders.pictures import decode
from sea_jax.raw.encoders.text_torch import torch_device

BATCH = 32


class Torchvision(Encoder):
    """What enters a network's last linear layer: 1280 wide for mobilenet_v2, 2048 for resnet50, 4096 for vgg19.

    Args:
      source: a model's name in torchvision, which fetches its default weights; or MODEL@FILE with a state_dict.
      device: "cpu" or "gpu"; a GPU if there is one, without.
    Raises: SeaError if packages are missing, the model is unknown or its weights cannot be had.
    """

    modality = "image"

    def __init__(self, source: str = "mobilenet_v2", *, device: str = ""):
        model, _, path = source.partition("@")
        self.name = f"torchvision:{model}"
        self._torch = torch = require("torch", "image", self.name)
        models = require("torchvision.models", "image", self.name)
        try:
            choices = models.get_model_weights(model)
        except ValueError as error:
            raise SeaError(f"{self.name}: torchvision has no such model; mobilenet_v2 and resnet50 are two.") from error
        # A file that bears the name of torchvision's own is prepared as those weights are.
        weights = next((each for each in choices if path and Path(each.url).name == Path(path).name), choices.DEFAULT)
        if path:
            network = models.get_model(model, weights=None)
            try:
                network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
                code = files.sha256(path)[:16]
            except Exception as error:  # torch has many kinds
                raise SeaError(f"{path} holds no weights of {model} that torch can read: {_first(error)}") from error
        else:
            try:
                network = models.get_model(model, weights=weights)
            except OSError as error:  # URLError among them
                raise SeaError(
                    f"{self.name}: its weights cannot be downloaded ({error}); write torchvision:{model}@FILE."
                ) from error
            code = Path(weights.url).stem
        last = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Linear)]
        if not last:
            raise SeaError(f"{self.name} has no linear layer at its end; choose another model.")
        parent, _, child = last[-1].rpartition(".")
        setattr(network.get_submodule(parent), child, torch.nn.Identity())
        self.device = torch_device(torch, device)
        self.network, self.prepare = network.eval().to(self.device), weights.transforms()
        self.version = f"1-{code}-{weights.name}"

    def transform(self, contents: Iterable[tuple[bytes, bytes]]) -> Iterator[Result]:
        for batch in batched(contents, BATCH):
            good, prepared = [], []
            for key, content in batch:
                try:
                    prepared.append(self.prepare(decode(content)))
                    good.append(key)
                except Broken as error:
                    yield Result(key, problem=str(error))
            if good:
                with self._torch.inference_mode():
                    rows = self.network(self._torch.stack(prepared).to(self.device)).flatten(1).cpu().numpy()
                yield from map(Result, good, np.asarray(rows, np.float32))


def _first(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
