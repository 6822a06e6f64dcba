"""Scores of several recommenders made comparable and added. NumPy alone."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float


def standardised(scores: Float[np.ndarray, "n items"]) -> Float[np.ndarray, "n items"]:
    """z = (s - mean of s) / deviation of s, each row over all its items; zeros where a row is constant.

    A row depends on no other.
    """
    mean = scores.mean(axis=1, dtype=np.float64, keepdims=True)
    spread = scores.std(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
    found = scores - mean.astype(np.float32)
    return np.where(spread > 0, found / np.where(spread > 0, spread, 1), np.float32(0))


def blended(
    parts: Iterable[Float[np.ndarray, "n items"]], weights: Float[np.ndarray, " members"]
) -> Float[np.ndarray, "n items"]:
    """sum over members of w_m z_m, in the members' order.

    parts: `standardised` scores of each member; an iterator is asked for one after the other.
    """
    return sum(np.float32(weight) * part for part, weight in zip(parts, weights, strict=True) if weight)


def mean_likeness(
    parts: Iterable[Float[np.ndarray, "n items"]], weights: Float[np.ndarray, " members"]
) -> Float[np.ndarray, "n items"]:
    """The weighted mean of members' cosines; one of -inf (an item of zeros) counts as 0, and -inf is what all say so of."""
    total, alike, known = np.float32(weights.sum()), np.float32(0), np.bool_(False)
    for part, weight in zip(parts, weights, strict=True):
        real = part > -np.inf
        alike, known = alike + np.float32(weight) * np.where(real, part, 0), known | real
    return np.where(known, alike / total, -np.inf).astype(np.float32)
