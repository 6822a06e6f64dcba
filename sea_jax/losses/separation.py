"""The rivals of CLUB and Solosim: geometric measures that stand in for mutual information and do not bound it."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from sea_jax.arrays import Array, check_shapes, rescaled


def _rows(values, weights):
    weights = jnp.ones(values.shape[0], values.dtype) if weights is None else weights
    return weights @ values, jnp.sum(weights)


def _check(what, a, b, weights=None):
    check_shapes(what, a=(a, "n d"), b=(b, "n d"), weights=(weights, "n"))


def cosine(a: Float[Array, "n d"], b: Float[Array, "n d"]) -> Float[Array, " n"]:
    """Cosine of each row of a with its row of b, whatever their scale; 0, with a finite gradient, where either is zero.

    Args:
      a, b: (n, d).
    Returns: (n,).

    >>> cosine(jnp.array([[1.0, 1.0], [0.0, 0.0]]), jnp.array([[1e30, 1e30], [1.0, 0.0]])).round(6).tolist()
    [1.0, 0.0]
    """
    _check("cosine", a, b)
    a, b = rescaled(a), rescaled(b)  # the squares of a row that is not zero add up to 1/4 or more
    norms = jnp.maximum(jnp.sum(a * a, axis=1), 0.25) * jnp.maximum(jnp.sum(b * b, axis=1), 0.25)
    return jnp.sum(a * b, axis=1) * jax.lax.rsqrt(norms)


def orthogonality(
    a: Float[Array, "n d"], b: Float[Array, "n d"], weights: Float[Array, " n"] | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Squared cosine of a_i and b_i, summed over rows; 0 when each pair is orthogonal, dependent or not.

    Args:
      a, b: (n, d).
      weights: (n,) weight of each row; all 1 if None.
    Returns: weighted sum, sum of weights.

    >>> total, count = orthogonality(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 3.0]]))
    >>> float(total / count)
    0.0
    """
    _check("orthogonality", a, b, weights)
    return _rows(cosine(a, b) ** 2, weights)


def frobenius(
    a: Float[Array, "n d"], b: Float[Array, "n e"], weights: Float[Array, " n"] | None = None
) -> Float[Array, ""]:
    """|| A^T W B ||_F^2 / (sum w)^2: 0 when every column of a is orthogonal to every column of b.

    Args:
      a, b: (n, d), (n, e).
      weights: (n,) weight of each row; all 1 if None.
    Returns: the measure.

    >>> float(frobenius(jnp.array([[1.0], [1.0]]), jnp.array([[1.0, 2.0], [-1.0, 2.0]])))
    4.0

    Source: Bousmalis et al. 2016 (arXiv 1608.06019), equation 5.
    """
    check_shapes("frobenius", a=(a, "n d"), b=(b, "n e"), weights=(weights, "n"))
    weights = jnp.ones(a.shape[0], a.dtype) if weights is None else weights
    return jnp.sum(((a * (weights / jnp.sum(weights))[:, None]).T @ b) ** 2)


def negative_l2(
    a: Float[Array, "n d"], b: Float[Array, "n d"], weights: Float[Array, " n"] | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """- mean_d (a_i - b_i)^2, summed over rows; unbounded below, so that it wants a small weight.

    Args:
      a, b: (n, d).
      weights: (n,) weight of each row; all 1 if None.
    Returns: weighted sum, sum of weights.

    >>> total, count = negative_l2(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 4.0]]))
    >>> float(total / count)
    -2.0

    Source: a comment in the released SEA code.
    """
    _check("negative_l2", a, b, weights)
    return _rows(-jnp.mean((a - b) ** 2, axis=1), weights)


def cosine_alignment(
    a: Float[Array, "n d"], b: Float[Array, "n d"], weights: Float[Array, " n"] | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """1 - cosine of a_i and b_i, summed over rows: alignment without candidates to tell apart.

    Args:
      a, b: (n, d).
      weights: (n,) weight of each row; all 1 if None.
    Returns: weighted sum, sum of weights.

    >>> total, count = cosine_alignment(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 3.0]]))
    >>> float(total / count)
    1.0
    """
    _check("cosine_alignment", a, b, weights)
    return _rows(1 - cosine(a, b), weights)
