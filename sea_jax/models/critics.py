"""Critics f(x, y) for the lower bounds. Each scores rows, or every x with every y as one table."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from sea_jax.arrays import Array
from sea_jax.models.layers import Dense


class QuadraticCritic(nn.Module):
    """f(x, y) = x A y + <b, x^2> + <c, y^2>: holds the best critic of jointly Gaussian x and y with independent pairs.

    Parameters start at zero, where every bound is 0.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], y: Float[Array, "m e"]) -> Float[Array, "n m"]:
        """The table of f(x_i, y_j)."""
        bilinear = self.param("bilinear", nn.initializers.zeros, (x.shape[1], y.shape[1]))
        of_x = self.param("of_x", nn.initializers.zeros, (x.shape[1],))
        of_y = self.param("of_y", nn.initializers.zeros, (y.shape[1],))
        return x @ bilinear @ y.T + (x**2 @ of_x)[:, None] + y**2 @ of_y


class SeparableCritic(nn.Module):
    """f(x, y) = <g(x), h(y)> + u(x) + v(y), g and h small networks: no assumption on the distribution."""

    width: int = 32
    hidden: int = 64

    @nn.compact
    def __call__(self, x: Float[Array, "n d"], y: Float[Array, "m e"]) -> Float[Array, "n m"]:
        """The table of f(x_i, y_j)."""
        left, right = (
            Dense(self.hidden, self.width + 1, name=f"{name}1")(
                jax.nn.relu(Dense(rows.shape[1], self.hidden, name=f"{name}0")(rows))
            )
            for name, rows in (("x", x), ("y", y))
        )
        return left[:, 1:] @ right[:, 1:].T + left[:, :1] + right[:, 0]


def joint_and_independent(table: Float[Array, "n n"]) -> tuple[Float[Array, " n"], Float[Array, "n_1 n"]]:
    """A table's diagonal, the scores of joint pairs, and the rest of it, those of independent pairs.

    Raises: ValueError with fewer than two rows.
    """
    count = table.shape[0]
    if count < 2:
        raise ValueError("independent pairs need at least two samples")
    return jnp.diag(table), table.reshape(-1)[1:].reshape(count - 1, count + 1)[:, :-1]
