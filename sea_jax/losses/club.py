"""CLUB, the contrastive log-ratio upper bound of mutual information, for a diagonal Gaussian q(y | x)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def gaussian_nll(
    mean: Float[Array, "n d"], logvar: Float[Array, "n d"], y: Float[Array, "n d"], weights: Float[Array, " n"] | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Negative log-likelihood of y without its constant: 1/2 sum_d [(y - mean)^2 / exp(logvar) + logvar].

    Args:
      mean, logvar: (n, d) of q(y | x) at each row's x.
      y: (n, d).
      weights: (n,) weight of each row; all 1 if None.
    Returns: weighted sum over rows, sum of weights.

    Source: Cheng et al. 2020 (arXiv 2006.12013), section 3.2.
    """
    weights = jnp.ones(y.shape[0], y.dtype) if weights is None else weights
    return weights @ jnp.sum((y - mean) ** 2 * jnp.exp(-logvar) + logvar, axis=1) / 2, jnp.sum(weights)


def club_sampled(
    mean: Float[Array, "n d"],
    logvar: Float[Array, "n d"],
    y: Float[Array, "n d"],
    y_negative: Float[Array, "n d"],
    weights: Float[Array, " n"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Sampled CLUB, log q(y_i | x_i) - log q(y_pi(i) | x_i), an upper bound of I(x; y) in expectation if q is p(y | x).

    Args:
      mean, logvar: (n, d) of q(y | x) at each row's x.
      y: (n, d) the partner of x in each row.
      y_negative: (n, d) the partner of another row, drawn at random.
      weights: (n,) weight of each row; all 1 if None.
    Returns: weighted sum over rows, sum of weights.

    Source: Cheng et al. 2020 (arXiv 2006.12013), equation 10 with one negative.
    """
    weights = jnp.ones(y.shape[0], y.dtype) if weights is None else weights
    gain = ((y_negative - mean) ** 2 - (y - mean) ** 2) * jnp.exp(-logvar)  # logvar cancels
    return weights @ jnp.sum(gain, axis=1) / 2, jnp.sum(weights)


def club_released(
    mean: Float[Array, "n d"],
    logvar: Float[Array, "n d"],
    y: Float[Array, "n d"],
    y_negative: Float[Array, "n d"],
    weights: Float[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Half of sampled CLUB, at least 0, as SEA trains with it; halved, it bounds nothing.

    max(0, 1/2 mean_i [log q(y_i | x_i) - log q(y_pi(i) | x_i)]). Arguments as for `club_sampled`.

    Source: SEA (arXiv 2406.08270), as released.
    """
    total, count = club_sampled(mean, logvar, y, y_negative, weights)
    return jax.nn.relu(total / count / 2)
