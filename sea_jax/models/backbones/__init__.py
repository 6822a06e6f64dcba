"""The recommenders, by the name that --backbone gives them."""

from sea_jax.models.backbones.base import Backbone
from sea_jax.models.backbones.sea import SEA
from sea_jax.models.backbones.vbpr import VBPR

BACKBONES: dict[str, type[Backbone]] = {
    "sea": SEA,
    "vbpr": VBPR,
}
