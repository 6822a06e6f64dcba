"""Bayesian personalised ranking."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Float

from sea_jax.arrays import Array, check_shapes


def bpr(
    positive: Float[Array, " n"],
    negative: Float[Array, " n"],
    weights: Float[Array, " n"] | None = None,
    *,
    base: float = 2.0,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Pairwise ranking loss, - log_base sigmoid(positive - negative), summed over rows.

    Computed as softplus(negative - positive) / ln(base), which neither overflows nor loses its gradient.

    Args:
      positive, negative: (n,) scores of an item the user chose and of one not chosen.
      weights: (n,) weight of each row; all 1 if None.
      base: of the logarithm; SEA uses 2.
    Returns: weighted sum, sum of weights.

    >>> total, count = bpr(jnp.array([1.0]), jnp.array([1.0]))
    >>> float(total / count)  # an undecided pair costs one bit
    1.0

    Source: Rendle et al. 2009 (arXiv 1205.2618), section 4.1.
    """
    check_shapes("bpr", positive=(positive, "n"), negative=(negative, "n"), weights=(weights, "n"))
    weights = jnp.ones_like(positive) if weights is None else weights
    return jnp.sum(weights * jax.nn.softplus(negative - positive)) / math.log(base), jnp.sum(weights)
