"""Losses and bounds as pure functions of arrays. They know no models.

A loss over rows returns (sum, count), so that callers divide, mask and add up over devices as they need.
"""

from sea_jax.losses.blocked import logsumexp_products
from sea_jax.losses.bpr import bpr
from sea_jax.losses.club import club_released, club_sampled, gaussian_nll
from sea_jax.losses.solosim import solosim

__all__ = ["bpr", "club_released", "club_sampled", "gaussian_nll", "logsumexp_products", "solosim"]
