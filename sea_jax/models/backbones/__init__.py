"""The recommenders, by the name that --backbone gives them."""

from sea_jax.models.backbones.base import Backbone
from sea_jax.models.backbones.dragon import DRAGON
from sea_jax.models.backbones.lgmrec import LGMRec
from sea_jax.models.backbones.mgcn import MGCN
from sea_jax.models.backbones.sea import SEA
from sea_jax.models.backbones.smore import SMORE
from sea_jax.models.backbones.vbpr import VBPR

BACKBONES: dict[str, type[Backbone]] = {
    "sea": SEA,
    "vbpr": VBPR,
    "mgcn": MGCN,
    "lgmrec": LGMRec,
    "smore": SMORE,
    "dragon": DRAGON,
}
