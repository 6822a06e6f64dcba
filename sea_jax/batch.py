"""A batch, what a step draws besides it, and shares of means over the rows of all devices."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from sea_jax import axis as ax
from sea_jax.arrays import Array
from sea_jax.data import Data


class Batch(NamedTuple):
    """Training triples; every device holds the whole batch and works on its share.

    users, positives, negatives: (n,) int32. weights: (n,) float32, 0 for padding. further_negatives: (n, e) int32, which
    the ranking alone compares with, or None.
    """

    users: Int[Array, " n"]
    positives: Int[Array, " n"]
    negatives: Int[Array, " n"]
    weights: Float[Array, " n"]
    further_negatives: Int[Array, "n e"] | None = None


class Draws(NamedTuple):
    """What a step draws besides the batch.

    permutations: by modality, (I,) int32, the CLUB negatives: row i is compared with row permutations[m][i].
    candidates: (n,) int32 distinct items that the alignment compares with, or None for all. noise: the backbone's own.
    rivals: (n,) int32 distinct items that the softmax ranking compares with, or None for all.
    """

    permutations: dict[str, Int[Array, " items"]]
    candidates: Int[Array, " n"] | None = None
    noise: Any = None
    rivals: Int[Array, " n"] | None = None


def mean(total: Array, count: Array, axis: ax.Axis) -> Array:
    """This device's share of a mean over the rows of all devices."""
    return total / ax.psum(count, axis)


def weights_of(data: Data, name: str) -> Float[Array, " items"]:
    """1 for an item that has the modality, 0 for one that lacks it and for padding."""
    return data.item_weights if data.present is None else data.item_weights * data.present[name]


def padded(batch: Batch, axis: ax.Axis) -> Batch:
    """The batch with as many rows as divide evenly over the devices, the further ones weighing nothing."""
    padding = -batch.users.shape[0] % ax.size(axis)
    return jax.tree.map(lambda column: jnp.pad(column, [(0, padding)] + [(0, 0)] * (column.ndim - 1)), batch)
