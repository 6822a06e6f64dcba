"""The recommenders, by the name that --backbone gives them."""

from sea_jax.models.backbones.base import Backbone
from sea_jax.models.backbones.bm3 import BM3
from sea_jax.models.backbones.dragon import DRAGON
from sea_jax.models.backbones.freedom import FREEDOM
from sea_jax.models.backbones.lgmrec import LGMRec
from sea_jax.models.backbones.lightgcn import LightGCN
from sea_jax.models.backbones.mf import MF
from sea_jax.models.backbones.mgcn import MGCN
from sea_jax.models.backbones.pgl import PGL
from sea_jax.models.backbones.sea import SEA
from sea_jax.models.backbones.smore import SMORE
from sea_jax.models.backbones.vbpr import VBPR

BACKBONES: dict[str, type[Backbone]] = {
    "sea": SEA,
    "mf": MF,
    "lightgcn": LightGCN,
    "vbpr": VBPR,
    "freedom": FREEDOM,
    "bm3": BM3,
    "pgl": PGL,
    "mgcn": MGCN,
    "lgmrec": LGMRec,
    "smore": SMORE,
    "dragon": DRAGON,
}
