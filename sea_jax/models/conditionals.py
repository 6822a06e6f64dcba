"""Conditional distributions q(y | x) for the variational bounds."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

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


class LinearGaussianConditional(nn.Module):
    """Diagonal Gaussian q(y | x) with a linear mean and a constant log variance: exact for jointly Gaussian pairs."""

    width: int

    @nn.compact
    def __call__(self, x: Float[Array, "n d"]) -> tuple[Float[Array, "n e"], Float[Array, "n e"]]:
        """Mean and log variance of y at each x."""
        mean = Dense(x.shape[1], self.width, name="mean")(x)
        logvar = self.param("logvar", nn.initializers.zeros, (self.width,))
        return mean, jnp.broadcast_to(logvar, mean.shape)
