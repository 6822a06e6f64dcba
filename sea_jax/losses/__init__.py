"""Losses and bounds as pure functions of arrays. They know no models.

A loss over rows returns (sum, count), so that callers divide, mask and add up over devices as they need.
"""

from sea_jax.losses.blocked import logsumexp_sum
from sea_jax.losses.bpr import bpr
from sea_jax.losses.club import club_all_pairs, club_released, club_sampled, gaussian_nll, l1out, vub, weighted_moments
from sea_jax.losses.lower_bounds import donsker_varadhan, info_nce, mine, nwj, off_diagonal, smile, tuba
from sea_jax.losses.separation import cosine, cosine_alignment, frobenius, negative_l2, orthogonality
from sea_jax.losses.solosim import solosim, solosim_sampled

__all__ = [
    "bpr",
    "club_all_pairs",
    "club_released",
    "club_sampled",
    "cosine",
    "cosine_alignment",
    "donsker_varadhan",
    "frobenius",
    "gaussian_nll",
    "info_nce",
    "l1out",
    "logsumexp_sum",
    "mine",
    "negative_l2",
    "nwj",
    "off_diagonal",
    "orthogonality",
    "smile",
    "solosim",
    "solosim_sampled",
    "tuba",
    "vub",
    "weighted_moments",
]
