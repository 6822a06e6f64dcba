"""What every backbone is told, offers and may use."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import scipy.sparse
from jaxtyping import Float, Shaped

from sea_jax import axis as ax
from sea_jax.arrays import Array
from sea_jax.bundle import Bundle
from sea_jax.config import Config
from sea_jax.data import Data
from sea_jax.models.item_map import matmul
from sea_jax.models.layers import Dense, kernel_init, table_init
from sea_jax.models.modality import Modality
from sea_jax.models.separation import Representation, Separated, Separation


class Encoded(NamedTuple):
    """A modality's items as its encoder makes them.

    x: (items, d). parts: from the backbone's own representation of that modality to SEA's parts of it, or to None where
    neither separation nor alignment is asked for.
    """

    x: Float[Array, "items d"]
    parts: Callable[[Float[Array, "items d"]], Separated | None]


class Backbone(nn.Module):
    """The contract of a backbone: one file here, one line of the registry, one of config, one of objective.

    `__call__(data, noise)` maps parameters, graphs and features to a Representation of this device's users and items;
    score(u, i) is the inner product of their rows. It knows no loss, no optimiser and no file. What its own loss terms
    (objective.OWN_TERMS) need besides the final rows stands in the Representation's `views`.

    A backbone may besides offer
      graphs(bundle, config): scipy matrices that it wants in `data.graphs` (names of user graphs begin with "user").
      for_epoch(key, data): the data of one epoch, a graph thinned say; drawn once an epoch, the same on all devices.
      draw(key): what one training step draws (dropout masks, noise), whole and the same on every number of devices;
        it arrives as `noise`, which is None at evaluation. Device rows are cut out of it by `mine`.
      columns(): name -> columns of the final rows that belong to a modality or another source, by which a score is
        explained as a sum.
    A view "basket_items" (items, d), of backbones whose users are nothing but propagated items: what an item gives a
    user who has an edge to it and no row of its own, times the roots of both degrees.
    Parameters with a row per user or item come from `table`; several devices divide their rows, which is seen from
    their shapes. Parameters called MODALITY_feature_table start as the features (see `features`).

    Args:
      num_users, num_items: of the whole dataset.
      widths: (modality, columns of its features) in order.
      config: the settings.
      parts, axis: number of devices and their axis.
    """

    num_users: int
    num_items: int
    widths: tuple[tuple[str, int], ...]
    config: Config
    parts: int = 1
    axis: ax.Axis = None

    has_modalities: ClassVar[bool] = True  # whether it reads features; one that does not cannot carry the separation

    @staticmethod
    def graphs(bundle: Bundle, config: Config) -> dict[str, scipy.sparse.csr_matrix]:
        """Graphs besides the user-item graph, by name, as host matrices."""
        del bundle, config
        return {}

    def for_epoch(self, key: Array, data: Data) -> Data:
        """The data of one epoch."""
        del key
        return data

    def draw(self, key: Array) -> Any:
        """What one training step draws."""
        del key
        return None

    def columns(self) -> dict[str, slice]:
        """Columns of the final rows by where they come from; empty where they cannot be told apart."""
        return {}

    def columns_by_modality(self) -> dict[str, slice]:
        """`columns` of a backbone whose rows are its modalities side by side, each a linear map of what is split."""
        found = {}
        for number, (name, _) in enumerate(self.widths):
            start, end = number * self.dim, (number + 1) * self.dim
            halved = self.config.separation not in ("none", "subtraction")  # which makes its unique part of all columns
            if halved and self.config.split == "representation":
                half = start + (self.dim + 1) // 2
                found |= {f"{name} generic": slice(start, half), f"{name} unique": slice(half, end)}
            else:
                found[name] = slice(start, end)
        return found

    @property
    def dim(self) -> int:
        """Width of a user or item in one modality."""
        return self.config.embedding_dim

    @property
    def separated(self) -> bool:
        """Whether SEA's parts of each modality are asked for."""
        return self.config.separation != "none" or self.config.alignment != "none"

    def table(self, name: str, rows: int, width: int, init: Callable = table_init) -> Float[Array, "rows width"]:
        """A parameter with a row per user or item, this device's rows."""
        return self.param(name, init, (-(-rows // self.parts), width))

    def mine(self, rows: Shaped[Array, "all ..."], count: int) -> Shaped[Array, "rows ..."]:
        """This device's rows of an array with a row per user or item that every device holds whole."""
        if self.axis is None:
            return rows
        padding = [(0, -(-count // self.parts) * self.parts - rows.shape[0])] + [(0, 0)] * (rows.ndim - 1)
        return ax.local_slice(jnp.pad(rows, padding), self.axis)

    def features(self, data: Data, name: str, width: int) -> Float[Array, "items width"]:
        """A modality's features: frozen from the data, or a table of parameters that starts as them."""
        if not self.config.train_features:
            return data.features[name]
        if self.has_variable("params", f"{name}_feature_table"):  # read a second time
            return self.get_variable("params", f"{name}_feature_table")
        return self.table(f"{name}_feature_table", self.num_items, width, nn.initializers.zeros)

    def encode(self, data: Data, name: str, width: int, init: Callable = kernel_init, bias: bool = True) -> Encoded:
        """A modality's features mapped to `dim` columns, by one linear layer MODALITY_projection.

        With the separation and --split=input, SEA's item map stands before it and is what is split.
        """
        if self.separated and self.config.split == "input":
            return self.encode_split_input(data, name, width, (self.dim,))
        layer = Dense(width, self.dim, init, bias, name=f"{name}_projection")
        x = matmul(self.features(data, name, width), layer.kernel)
        return Encoded(x + layer.bias if bias else x, self.splitter(data, name))

    def encode_split_input(self, data: Data, name: str, width: int, encoder: tuple[int, ...]) -> Encoded:
        """A modality's features through SEA's item map and layers of these widths after it."""
        subtraction = self.config.separation == "subtraction"
        modality = Modality(width, encoder, self.config.split, subtraction, self.parts, self.axis, name=name)
        x, first = modality.encode(self.features(data, name, width))
        return Encoded(x, lambda representation: modality.separate(first, representation, data.item_weights))

    def splitter(self, data: Data, name: str) -> Callable:
        """From a modality's representation of `dim` columns to SEA's parts of it; to None without the separation."""
        if not self.separated:
            return lambda representation: None
        separation = Separation(self.dim, self.config.separation == "subtraction", name=f"{name}_separation")
        return lambda representation: separation.separate(representation, data.item_weights, self.axis)

    def represent(self, user, item, parts: dict[str, Separated | None] | None = None, /, **views) -> Representation:
        """The Representation, without parts where there are none."""
        found = {name: of for name, of in (parts or {}).items() if of is not None}
        return Representation(user, item, found, views)


def softmax_init(key, shape, dtype=jnp.float32):
    """A softmax over the second axis of Xavier noise: free weights of modalities."""
    return jax.nn.softmax(table_init(key, shape, dtype), axis=1)
