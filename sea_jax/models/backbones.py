"""The recommenders that carry the separation: SEA's own graph network, and VBPR."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sea_jax import axis as ax
from sea_jax.models.item_map import Reader, item_map
from sea_jax.models.layers import Dense, bias_init, kernel_init, normalise, table_init
from sea_jax.models.separation import Representation, Separation
from sea_jax.propagation import product, propagate

# Parameters with one row per user, per item or per input feature: several devices divide their rows.
DIVIDED = ("user_preference", "user_modality_weight", "user_table", "item_table", "item_linear/kernel")


class ItemLinear(nn.Module):
    """Kernel and bias of the item map; its rows are divided over the devices."""

    width: int
    parts: int

    def setup(self):
        rows = -(-self.width // self.parts)
        self.kernel = self.param("kernel", kernel_init, (rows, self.width))
        self.bias = self.param("bias", bias_init(self.width), (self.width,))


class Modality(nn.Module):
    """One modality: its item map, the encoder that reads it, and its separation.

    Args:
      width: columns of the features.
      encoder: widths of the layers after the item map, LeakyReLU between them.
      split: "input" splits the item map, "representation" what the backbone makes of it.
      subtraction: see Separation.
      parts: number of devices the item map's kernel is divided over.
      axis: the device axis or None.
    """

    width: int
    encoder: tuple[int, ...]
    split: str
    subtraction: bool
    parts: int = 1
    axis: ax.Axis = None

    def setup(self):
        self.item_linear = ItemLinear(self.width, self.parts)
        inputs = (self.width, *self.encoder)
        self.mlp = [Dense(*pair) for pair in zip(inputs, self.encoder, strict=False)]
        self.separation = Separation(self.width if self.split == "input" else self.encoder[-1], self.subtraction)

    def encode(self, features: Float[Array, "items width"]) -> tuple[Float[Array, "items d"], list[Array]]:
        """The encoded items, and what the separation's first layers read of the item map."""
        readers = [Reader(self.mlp[0].kernel, self.mlp[0].bias, slice(None))]
        if self.split == "input":
            readers += self.separation.readers()
        with jax.named_scope("item_map"):
            x, *first = item_map(features, self.item_linear.kernel, self.item_linear.bias, readers, self.axis)
        for dense in self.mlp[1:]:
            x = dense(jax.nn.leaky_relu(x, 0.01))
        return x, first

    def separate(self, first: list[Array], representation: Float[Array, "items d"], weights):
        """The modality's parts, split where `split` says."""
        if self.split == "input":
            return self.separation(first, weights, self.axis)
        return self.separation.separate(representation, weights, self.axis)


class Backbone(nn.Module):
    """What both recommenders are told.

    Args:
      num_users, num_items: of the whole dataset.
      widths: (modality, columns of its features) in order.
      dim: width of a user or item in one modality.
      layers: of propagation.
      split, subtraction: see Modality.
      parts, axis: number of devices and their axis.
    """

    num_users: int
    num_items: int
    widths: tuple[tuple[str, int], ...]
    dim: int = 64
    layers: int = 2
    split: str = "input"
    subtraction: bool = False
    parts: int = 1
    axis: ax.Axis = None

    def modality(self, name: str, width: int, encoder: tuple[int, ...]) -> Modality:
        return Modality(width, encoder, self.split, self.subtraction, self.parts, self.axis, name=name)

    def table(self, name: str, rows: int, width: int) -> Float[Array, "rows width"]:
        return self.param(name, table_init, (-(-rows // self.parts), width))


class SEA(Backbone):
    """SEA's graph network (arXiv 2406.08270): propagation per modality, then over the item graph."""

    @nn.compact
    def __call__(self, data) -> Representation:
        """data: training.state.Data, this device's share. Returns this device's users and items."""
        tables, encoded, first, modalities = [], [], {}, {}
        for name, width in self.widths:
            modalities[name] = self.modality(name, width, (256, self.dim))
            tables.append(self.table(f"{name}_user_preference", self.num_users, self.dim))
            x, first[name] = modalities[name].encode(data.features[name])
            encoded.append(x)

        nodes = jnp.stack([jnp.concatenate(pair) for pair in zip(tables, encoded, strict=True)], axis=1)
        with jax.named_scope("propagation"):
            # The modalities share the graph: one product over their columns side by side.
            flat = normalise(nodes).reshape(nodes.shape[0], -1)
            flat = propagate(data.adjacency, flat, self.layers, self.axis)
            users = tables[0].shape[0]
            user, item = flat[:users].reshape(users, -1, self.dim), flat[users:]
            enriched = item + product(data.item_graph, item, self.axis)

        weight = self.param("user_modality_weight", _softmax_init, (users, len(self.widths)))
        with jax.named_scope("separation"):
            parts = {
                name: modalities[name].separate(first[name], x, data.item_weights)
                for (name, _), x in zip(self.widths, jnp.split(item, len(self.widths), axis=1), strict=True)
            }
        return Representation((user * weight[..., None]).reshape(users, -1), enriched, parts)


class VBPR(Backbone):
    """VBPR (arXiv 1510.01784) over all modalities: score = <p_u, q_i> + <t_u, sum over m of F^m_i>."""

    @nn.compact
    def __call__(self, data) -> Representation:
        """data: training.state.Data, this device's share. Returns this device's users and items."""
        user = self.table("user_table", self.num_users, 2 * self.dim)
        item = self.table("item_table", self.num_items, self.dim)
        content, parts = 0.0, {}
        for name, width in self.widths:
            modality = self.modality(name, width, (self.dim,))
            x, first = modality.encode(data.features[name])
            content = content + x
            parts[name] = modality.separate(first, x, data.item_weights)
        return Representation(user, jnp.concatenate([item, content], axis=1), parts)


BACKBONES = {"sea": SEA, "vbpr": VBPR}


def _softmax_init(key, shape, dtype=jnp.float32):
    return jax.nn.softmax(table_init(key, shape, dtype), axis=1)
