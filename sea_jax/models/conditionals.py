"""Conditional distributions q(y | x) for the variational bounds."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from sea_jax.arrays import Array
from sea_jax.models.layers import Dense


class GaussianConditional(nn.Module):
    """Diagonal Gaussian q(y | x): mean d -> 8 -> d (ReLU), logvar d -> 8 -> d (ReLU, then tanh); SEA's q.

    The first layers of mean and logvar read the same x and are one product.
    """

    width: int
    hidden: int = 8

    def setup(self):
        self.mu0 = Dense(self.width, self.hidden)
        self.mu1 = Dense(self.hidden, self.width)
        self.logvar0 = Dense(self.width, self.hidden)
        self.logvar1 = Dense(self.hidden, self.width)

    def __call__(self, x: Float[Array, "n d"]) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
        """Mean and log variance of y at each x."""
        kernel = jnp.concatenate([self.mu0.kernel, self.logvar0.kernel], axis=1)
        bias = jnp.concatenate([self.mu0.bias, self.logvar0.bias])
        hidden = jax.nn.relu(x @ kernel + bias)
        mean, logvar = hidden[:, : self.hidden], hidden[:, self.hidden :]
        return self.mu1(mean), jnp.tanh(self.logvar1(logvar))


class Merged(NamedTuple):
    """A GaussianConditional's parameters with both networks as one, mean's first: few programs a step for a long fit.

    first: kernels of the first layers, the biases as last row. second, bias: of the second layers.
    """

    first: Float[Array, "d+1 two_h"]
    second: Float[Array, "2 h d"]
    bias: Float[Array, "2 d"]


def merge(params: dict) -> Merged:
    """Merged from the tree of a GaussianConditional."""
    first = [jnp.concatenate([params[name]["kernel"], params[name]["bias"][None]]) for name in ("mu0", "logvar0")]
    second, bias = (jnp.stack([params[name][kind] for name in ("mu1", "logvar1")]) for kind in ("kernel", "bias"))
    return Merged(jnp.concatenate(first, axis=1), second, bias)


def unmerge(merged: Merged) -> dict:
    """The inverse of `merge`."""
    params = {}
    for half, name in enumerate(("mu", "logvar")):
        first = jnp.split(merged.first, 2, axis=1)[half]
        params[f"{name}0"] = {"kernel": first[:-1], "bias": first[-1]}
        params[f"{name}1"] = {"kernel": merged.second[half], "bias": merged.bias[half]}
    return params


def gaussian_columns(merged: Merged, x: Float[Array, "e n"]) -> tuple[Float[Array, "d n"], Float[Array, "d n"]]:
    """Mean and log variance as GaussianConditional computes them, samples as columns.

    Args:
      merged: parameters.
      x: one sample a column, a last row of ones for the bias.
    """
    hidden = jax.nn.relu(merged.first.T @ x).reshape(2, -1, x.shape[1])
    # One batched product is one kernel on a GPU. On CPU a fit with it takes 1.7 times as long as with two products,
    # and beside collectives it makes emulated devices (JAX 0.10.2) wait for each other for ever.
    mean, logvar = jax.lax.platform_dependent(
        merged.second.swapaxes(1, 2),
        hidden,
        merged.bias[..., None],
        cpu=lambda kernels, hidden, bias: tuple(kernels[n] @ hidden[n] + bias[n] for n in range(2)),
        default=lambda kernels, hidden, bias: tuple(kernels @ hidden + bias),
    )
    return mean, jnp.tanh(logvar)


class LinearGaussianConditional(nn.Module):
    """Diagonal Gaussian q(y | x) with a linear mean and a constant log variance: exact for jointly Gaussian pairs."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "n d"]) -> tuple[Float[Array, "n e"], Float[Array, "n e"]]:
        """Mean and log variance of y at each x."""
        mean = Dense(x.shape[1], self.width, name="mean")(x)
        logvar = self.param("logvar", nn.initializers.zeros, (self.width,))
        return mean, jnp.broadcast_to(logvar, mean.shape)
