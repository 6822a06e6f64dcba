"""SEA: separate learning for multimodal recommendation, in JAX and Flax (arXiv 2406.08270).

>>> import sea_jax  # quick: nothing is loaded before it is used

`build` or `load` a dataset, `fit` a model, ask its `recommender()`; `open_run` opens a run again.
"""

import importlib
import importlib.metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sea_jax.bundle import Bundle, load
    from sea_jax.config import Config
    from sea_jax.errors import SeaError
    from sea_jax.raw.arrays import build
    from sea_jax.recommender import Recommender
    from sea_jax.training.runs import fit, open_run

    __version__: str

_HOMES = {
    "Bundle": "sea_jax.bundle",
    "Config": "sea_jax.config",
    "Recommender": "sea_jax.recommender",
    "SeaError": "sea_jax.errors",
    "build": "sea_jax.raw.arrays",
    "fit": "sea_jax.training.runs",
    "load": "sea_jax.bundle",
    "open_run": "sea_jax.training.runs",
}

__all__ = ["Bundle", "Config", "Recommender", "SeaError", "__version__", "build", "fit", "load", "open_run"]


def __getattr__(name: str):
    if name == "__version__":
        return importlib.metadata.version("sea_jax")
    if name not in _HOMES:
        raise AttributeError(f"module 'sea_jax' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__():
    return sorted(__all__)
