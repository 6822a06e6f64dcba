"""Upper bounds of mutual information from a diagonal Gaussian q(y | x): CLUB in its forms, and leave-one-out."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sea_jax.losses.blocked import logsumexp_sum


def gaussian_nll(
    mean: Float[Array, "a b"],
    logvar: Float[Array, "a b"],
    y: Float[Array, "a b"],
    weights: Float[Array, " n"] | None = None,
    *,
    samples: int = 0,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Negative log-likelihood of y without its constant: 1/2 sum_d [(y - mean)^2 / exp(logvar) + logvar].

    Args:
      mean, logvar: (n, d) of q(y | x) at each sample's x.
      y: (n, d).
      weights: (n,) weight of each sample; all 1 if None.
      samples: the axis of the samples; with 1 they are columns, (d, n).
    Returns: weighted sum over samples, sum of weights.

    Source: Cheng et al. 2020 (arXiv 2006.12013), section 3.2.
    """
    weights = jnp.ones(y.shape[samples], y.dtype) if weights is None else weights
    # mean - y, not y - mean: the gradient to the mean is then no array of its own. The sum over samples is a product,
    # as on CPU a sum of columns takes longer than all the rest.
    terms = (mean - y) ** 2 * jnp.exp(-logvar) + logvar
    return jnp.sum(jnp.tensordot(weights, terms, (0, samples))) / 2, jnp.sum(weights)


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


def weighted_moments(y: Float[Array, "n d"], weights: Float[Array, " n"]) -> tuple[Array, Array, Array]:
    """Sums from which mean and variance follow: sum of weights, of w y (d,), of w y^2 (d,)."""
    return jnp.sum(weights), weights @ y, weights @ y**2


def club_all_pairs(
    mean: Float[Array, "n d"],
    logvar: Float[Array, "n d"],
    y: Float[Array, "n d"],
    weights: Float[Array, " n"] | None = None,
    *,
    moments: tuple[Array, Array, Array] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """CLUB over all pairs, log q(y_i | x_i) - mean_j log q(y_j | x_i), in O(n d): the mean needs two moments of y.

    An upper bound of I(x; y) if q is p(y | x). Sampled CLUB's mean over permutations is this.

    Args:
      mean, logvar: (n, d) of q(y | x) at each row's x.
      y: (n, d) the partner of x in each row.
      weights: (n,) weight of each row; all 1 if None.
      moments: `weighted_moments` of the y of all rows, where these are a part of them.
    Returns: weighted sum over rows, sum of weights.

    Source: Cheng et al. 2020 (arXiv 2006.12013), equation 10.
    """
    weights = jnp.ones(y.shape[0], y.dtype) if weights is None else weights
    count, first, second = weighted_moments(y, weights) if moments is None else moments
    centre = first / count
    variance = second / count - centre**2
    gain = (variance + (centre - mean) ** 2 - (y - mean) ** 2) * jnp.exp(-logvar)
    return weights @ jnp.sum(gain, axis=1) / 2, jnp.sum(weights)


def l1out(
    mean: Float[Array, "n d"],
    logvar: Float[Array, "n d"],
    y: Float[Array, "n d"],
    weights: Float[Array, " n"] | None = None,
    *,
    others: tuple[Array, Array, Array, Array] | None = None,
    block: int | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Leave-one-out bound, log q(y_i | x_i) - log 1/(N-1) sum_{j != i} q(y_i | x_j); no N x N array is kept.

    An upper bound of I(x; y) if q is p(y | x).

    Args:
      mean, logvar: (n, d) of q(y | x) at each row's x.
      y: (n, d) the partner of x in each row.
      weights: (n,) weight of each row; all 1 if None.
      others: mean, logvar, weights of all rows and the place of these rows among them, where these are a part.
      block: rows at a time, see `logsumexp_sum`.
    Returns: weighted sum over rows, sum of weights.
    Raises: ValueError with fewer than two rows.

    Source: Poole et al. 2019 (arXiv 1905.06922), section 2.2.
    """
    weights = jnp.ones(y.shape[0], y.dtype) if weights is None else weights
    index = jnp.arange(y.shape[0])
    all_mean, all_logvar, all_weights, index = (mean, logvar, weights, index) if others is None else others
    if all_mean.shape[0] < 2:
        raise ValueError("the leave-one-out bound needs at least two samples")
    # log q(y | x_j) is linear in (y^2, y, 1), so that all pairs are products of vectors.
    precision = jnp.exp(-all_logvar)
    shift = -jnp.sum(all_mean**2 * precision + all_logvar, axis=1, keepdims=True) / 2
    candidates = jnp.concatenate([-precision / 2, all_mean * precision, shift], axis=1)
    anchors = jnp.concatenate([y**2, y, jnp.ones_like(y[:, :1])], axis=1)
    log_sum = logsumexp_sum(anchors, candidates, all_weights, weights, index, block=block)
    own = -jnp.sum((y - mean) ** 2 * jnp.exp(-logvar) + logvar, axis=1) / 2
    return weights @ (own + jnp.log(jnp.sum(all_weights) - 1)) - log_sum, jnp.sum(weights)


def vub(
    mean: Float[Array, "n d"], logvar: Float[Array, "n d"], weights: Float[Array, " n"] | None = None
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Variational upper bound with a standard normal marginal, KL( q(. | x_i) || N(0, 1) ), summed over rows.

    An upper bound of I(x; y) whatever the marginal, if q is p(y | x); its slack is KL(p(y) || N(0, 1)).

    Args:
      mean, logvar: (n, d) of q(y | x) at each row's x.
      weights: (n,) weight of each row; all 1 if None.
    Returns: weighted sum over rows, sum of weights.

    Source: Alemi et al. 2017 (arXiv 1612.00410), equation 14; Poole et al. 2019 (arXiv 1905.06922), equation 2.
    """
    weights = jnp.ones(mean.shape[0], mean.dtype) if weights is None else weights
    return weights @ jnp.sum(mean**2 + jnp.exp(logvar) - logvar - 1, axis=1) / 2, jnp.sum(weights)
