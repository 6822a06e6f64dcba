"""One modality of a backbone that carries SEA's separation: its item map, the encoder that reads it, and its parts."""

import flax.linen as nn
import jax
from jaxtyping import Float

from sea_jax import axis as ax
from sea_jax.arrays import Array
from sea_jax.models.item_map import Reader, item_map
from sea_jax.models.layers import Dense, bias_init, kernel_init
from sea_jax.models.separation import Separation


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
