"""The rivals of CLUB and Solosim: geometric measures that stand in for mutual information and do not bound it."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def _rows(values, weights):
    weights = jnp.ones(values.shape[0], values.dtype) if weights is None else weights
    return weights @ values, jnp.sum(weights)


def cosine(a: Float[Array, "n d"], b: Float[Array, "n d"], floor: float = 1e-12) -> Float[Array, " n"]:
    """Cosine of each row of a with its row of b; 0, with a finite gradient, where either is zero."""
    norms = jnp.maximum(jnp.sum(a * a, axis=1), floor) * jnp.maximum(jnp.sum(b * b, axis=1), floor)
    return jnp.sum(a * b, axis=1) * jax.lax.rsqrt(norms)


def orthogonality(
    a: Float[Array, "n d"], b: Float[Array, "n d"], weights: Float[Array, " n"] | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Squared cosine of a_i and b_i, summed over rows; 0 when each pair is orthogonal, dependent or not.

    Args:
      a, b: (n, d).
      weights: (n,) weight of each row; all 1 if None.
    Returns: weighted sum, sum of weights.
    """
    return _rows(cosine(a, b) ** 2, weights)


def frobenius(
    a: Float[Array, "n d"], b: Float[Array, "n e"], weights: Float[Array, " n"] | None = None
) -> Float[Array, ""]:
    """|| A^T W B ||_F^2 / (sum w)^2: 0 when every column of a is orthogonal to every column of b.

    Source: Bousmalis et al. 2016 (arXiv 1608.06019), equation 5.
    """
    weights = jnp.ones(a.shape[0], a.dtype) if weights is None else weights
    return jnp.sum(((a * weights[:, None]).T @ b) ** 2) / jnp.sum(weights) ** 2


def negative_l2(
    a: Float[Array, "n d"], b: Float[Array, "n d"], weights: Float[Array, " n"] | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """- mean_d (a_i - b_i)^2, summed over rows; unbounded below, so that it wants a small weight.

    Source: a comment in the released SEA code.
    """
    return _rows(-jnp.mean((a - b) ** 2, axis=1), weights)


def cosine_alignment(
    a: Float[Array, "n d"], b: Float[Array, "n d"], weights: Float[Array, " n"] | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """1 - cosine of a_i and b_i, summed over rows: alignment without candidates to tell apart."""
    return _rows(1 - cosine(a, b), weights)
