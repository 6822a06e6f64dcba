"""Layers that the backbones share. Their initial values follow PyTorch's, as the released model's do."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from sea_jax import axis as ax
from sea_jax.arrays import Array, rescaled

kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
table_init = nn.initializers.variance_scaling(1.0, "fan_avg", "normal")  # Xavier normal
xavier_uniform = nn.initializers.variance_scaling(1.0, "fan_avg", "uniform")


def bias_init(fan_in: int):
    """Uniform within 1 / sqrt(fan_in), PyTorch's default for the bias of a linear layer."""
    bound = fan_in**-0.5
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -bound, bound)


class Dense(nn.Module):
    """x @ kernel + bias, with both readable from outside."""

    inputs: int
    outputs: int
    init: Callable = kernel_init
    has_bias: bool = True

    def setup(self):
        self.kernel = self.param("kernel", self.init, (self.inputs, self.outputs))
        if self.has_bias:
            self.bias = self.param("bias", bias_init(self.inputs), (self.outputs,))

    def __call__(self, x: Float[Array, "n inputs"]) -> Float[Array, "n outputs"]:
        return x @ self.kernel + self.bias if self.has_bias else x @ self.kernel


class BatchNorm(nn.Module):
    """Batch normalisation over all real items of all devices; there is no running average to keep.

    In float32 a column's deviations must stay below 1e18, or their squares overflow; what varies by less than the
    root of `epsilon` is not brought to unit variance, as in PyTorch.
    """

    features: int
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], weights: Float[Array, " n"], axis: ax.Axis) -> Float[Array, "n d"]:
        scale = self.param("scale", nn.initializers.ones, (self.features,))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        count = ax.psum(weights.sum(), axis)
        mean = ax.psum(weights @ x, axis) / count
        variance = ax.psum(weights @ (x - mean) ** 2, axis) / count
        return (x - mean) * (jax.lax.rsqrt(variance + self.epsilon) * scale) + bias


def normalise(x: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    """Rows divided by their L2 norm, whatever their scale; a zero row stays zero and has a finite gradient."""
    x = rescaled(x)  # the squares of a row that is not zero add up to 1/4 or more
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 0.25))


def normalise_above(x: Float[Array, "*n d"], floor: float = 1e-12) -> Float[Array, "*n d"]:
    """Rows divided by their L2 norm or by `floor`, whichever is larger, as PyTorch's normalize: a row that is shorter
    than that stays short. For models in which such rows occur (LGMRec's, where dropout leaves but faint hyperedges).
    """
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), floor**2))
