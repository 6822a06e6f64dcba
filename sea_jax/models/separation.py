"""SEA's separation of one modality into a generic and a unique part. Any backbone can carry it."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jaxtyping import Float

from sea_jax import axis as ax
from sea_jax.arrays import Array
from sea_jax.models.item_map import Reader, read
from sea_jax.models.layers import BatchNorm, Dense, normalise

PART_WIDTH = 32  # of the generic, unique and aligned vectors that the losses compare


class Separated(NamedTuple):
    """The parts of one modality that the losses compare, each (items, 32)."""

    generic: Float[Array, "items 32"]
    unique: Float[Array, "items 32"]
    aligned: Float[Array, "items 32"]


class Representation(NamedTuple):
    """What a backbone makes of the graph and the features.

    user (users, d), item (items, d): score(u, i) = <user_u, item_i>. parts: by modality, of a backbone that carries the
    separation. views: by name, arrays that the backbone's own loss terms read.
    """

    user: Float[Array, "users d"]
    item: Float[Array, "items d"]
    parts: dict[str, Separated]
    views: dict[str, Any]


class ProjectionHead(nn.Module):
    """What follows the head's first linear layer: BatchNorm, ReLU, 64, BatchNorm, ReLU, 32, L2 norm."""

    inputs: int
    hidden: int = 64

    def setup(self):
        self.dense0 = Dense(self.inputs, self.hidden)
        self.batch_norm0 = BatchNorm(self.hidden)
        self.dense1 = Dense(self.hidden, self.hidden)
        self.batch_norm1 = BatchNorm(self.hidden)
        self.dense2 = Dense(self.hidden, PART_WIDTH)

    def __call__(self, x: Float[Array, "items hidden"], weights, axis) -> Float[Array, "items 32"]:
        x = self.dense1(jax.nn.relu(self.batch_norm0(x, weights, axis)))
        return normalise(self.dense2(jax.nn.relu(self.batch_norm1(x, weights, axis))))


class Separation(nn.Module):
    """Generic map, unique map and alignment head over the two halves of a representation.

    The generic part is the first half of the columns, the larger one if their number is odd. With `subtraction`,
    the rival that the paper argues against, the unique vector is a map of all columns minus the generic vector.

    Args:
      width: columns of the representation that is split.
      subtraction: make the unique part by subtraction.
    """

    width: int
    subtraction: bool = False

    def setup(self):
        half = (self.width + 1) // 2
        self.generic_columns = slice(0, half)
        self.unique_columns = slice(0 if self.subtraction else half, self.width)
        self.projection_head = ProjectionHead(half)
        self.generic_map = Dense(half, PART_WIDTH)
        self.unique_map = Dense(self.width if self.subtraction else self.width - half, PART_WIDTH)

    def readers(self) -> list[Reader]:
        """The first, linear layers: head, generic map, unique map."""
        head = self.projection_head.dense0
        return [
            Reader(head.kernel, head.bias, self.generic_columns),
            Reader(self.generic_map.kernel, self.generic_map.bias, self.generic_columns),
            Reader(self.unique_map.kernel, self.unique_map.bias, self.unique_columns),
        ]

    def __call__(self, first: list[Array], weights: Float[Array, " items"], axis: ax.Axis) -> Separated:
        """The parts, from what the readers made of the representation."""
        head, generic, unique = first
        unique = unique - generic if self.subtraction else unique
        with jax.named_scope("head"):
            return Separated(generic, unique, self.projection_head(head, weights, axis))

    def separate(self, x: Float[Array, "items width"], weights, axis) -> Separated:
        """The parts of a representation that is at hand whole."""
        return self(read(x, self.readers()), weights, axis)
