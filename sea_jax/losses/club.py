"""Upper bounds of mutual information from a diagonal Gaussian q(y | x): CLUB in its forms, and leave-one-out."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from sea_jax.arrays import Array, check_shapes
from sea_jax.losses.blocked import logsumexp_sum


def _check(what, mean, logvar, y, weights, **more):
    check_shapes(what, mean=(mean, "n d"), logvar=(logvar, "n d"), y=(y, "n d"), weights=(weights, "n"), **more)


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
      mean, logvar: (n, d) of q(y | x) at each sample's x; exp(-logvar) must be a number, in float32 logvar > -88.
      y: (n, d).
      weights: (n,) weight of each sample; all 1 if None.
      samples: the axis of the samples; with 1 they are columns, (d, n).
    Returns: weighted sum over samples, sum of weights.

    >>> total, count = gaussian_nll(jnp.array([[0.0]]), jnp.array([[0.0]]), jnp.array([[2.0]]))
    >>> float(total / count)  # two standard deviations from the mean
    2.0

    Source: Cheng et al. 2020 (arXiv 2006.12013), section 3.2.
    """
    if samples not in (0, 1):
        raise ValueError(f"gaussian_nll: samples are axis 0 or 1, not {samples}")
    shape = ("n d", "d n")[samples]
    check_shapes("gaussian_nll", mean=(mean, shape), logvar=(logvar, shape), y=(y, shape), weights=(weights, "n"))
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

    >>> mean, y = jnp.array([[1.0], [-1.0]]), jnp.array([[1.0], [-1.0]])
    >>> total, count = club_sampled(mean, jnp.zeros((2, 1)), y, y[::-1])
    >>> float(total / count)
    2.0

    Source: Cheng et al. 2020 (arXiv 2006.12013), equation 10 with one negative.
    """
    _check("club_sampled", mean, logvar, y, weights, y_negative=(y_negative, "n d"))
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

    max(0, 1/2 mean_i [log q(y_i | x_i) - log q(y_pi(i) | x_i)]).

    Args:
      mean, logvar, y, y_negative, weights: as for `club_sampled`.
    Returns: the loss.

    >>> mean, y = jnp.array([[1.0], [-1.0]]), jnp.array([[1.0], [-1.0]])
    >>> float(club_released(mean, jnp.zeros((2, 1)), y, y[::-1]))
    1.0
    >>> float(club_released(-mean, jnp.zeros((2, 1)), y, y[::-1]))
    0.0

    Source: SEA (arXiv 2406.08270), as released.
    """
    _check("club_released", mean, logvar, y, weights, y_negative=(y_negative, "n d"))
    total, count = club_sampled(mean, logvar, y, y_negative, weights)
    return jax.nn.relu(total / count / 2)


def weighted_moments(
    y: Float[Array, "n d"], weights: Float[Array, " n"], centre: Float[Array, " d"] | None = None
) -> tuple[Float[Array, ""], Float[Array, " d"], Float[Array, " d"]]:
    """Sums from which mean and variance follow, and which add up over parts of the rows: of w, w (y - c), w (y - c)^2.

    Args:
      y: (n, d).
      weights: (n,) w.
      centre: (d,) c, one for all parts, near the mean: about 0 a variance is lost where the mean is a thousand times
        the deviation. 0 if None.
    Returns: (), (d,), (d,).

    >>> y = jnp.array([[1001.0], [1003.0]])
    >>> count, first, second = weighted_moments(y, jnp.ones(2), centre=jnp.array([1000.0]))
    >>> (second / count - (first / count) ** 2).tolist()  # the variance
    [1.0]
    """
    check_shapes("weighted_moments", y=(y, "n d"), weights=(weights, "n"), centre=(centre, "d"))
    y = y if centre is None else y - centre
    return jnp.sum(weights), weights @ y, weights @ y**2


def club_all_pairs(
    mean: Float[Array, "n d"],
    logvar: Float[Array, "n d"],
    y: Float[Array, "n d"],
    weights: Float[Array, " n"] | None = None,
    *,
    moments: tuple[Float[Array, ""], Float[Array, " d"], Float[Array, " d"]] | None = None,
    centre: Float[Array, " d"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """CLUB over all pairs, log q(y_i | x_i) - mean_j log q(y_j | x_i), in O(n d): the mean needs two moments of y.

    An upper bound of I(x; y) if q is p(y | x). Sampled CLUB's mean over permutations is this.

    Args:
      mean, logvar: (n, d) of q(y | x) at each row's x.
      y: (n, d) the partner of x in each row.
      weights: (n,) weight of each row; all 1 if None.
      moments: `weighted_moments` of the y of all rows, where these are a part of them.
      centre: (d,) about which the moments were taken; 0 if None. Without `moments`, the mean of y if None.
    Returns: weighted sum over rows, sum of weights.

    >>> mean, y = jnp.array([[1.0], [-1.0]]), jnp.array([[1.0], [-1.0]])
    >>> total, count = club_all_pairs(mean, jnp.zeros((2, 1)), y)
    >>> float(total / count)  # half the pairs are a row with itself
    1.0

    Source: Cheng et al. 2020 (arXiv 2006.12013), equation 10.
    """
    count, first, second = (None,) * 3 if moments is None else moments
    _check(
        "club_all_pairs", mean, logvar, y, weights, centre=(centre, "d"),
        **{"moments[0]": (count, ""), "moments[1]": (first, "d"), "moments[2]": (second, "d")},
    )  # fmt: skip
    weights = jnp.ones(y.shape[0], y.dtype) if weights is None else weights
    if moments is None:
        centre = _mean(y, weights) if centre is None else centre
        count, first, second = weighted_moments(y, weights, centre)
    if centre is not None:
        mean, y = mean - centre, y - centre
    shift = first / count
    variance = second / count - shift**2
    # (shift - mean)^2 - (y - mean)^2, without the squares of a mean that is far from both.
    gain = (variance + (shift - y) * ((shift - mean) + (y - mean))) * jnp.exp(-logvar)
    return weights @ jnp.sum(gain, axis=1) / 2, jnp.sum(weights)


def _mean(rows, weights):
    """Weighted mean of rows, a place to measure from: what is measured does not depend on it, so no gradient does."""
    rows, weights = jax.lax.stop_gradient((rows, weights))
    return weights @ rows / jnp.sum(weights)


def l1out(
    mean: Float[Array, "n d"],
    logvar: Float[Array, "n d"],
    y: Float[Array, "n d"],
    weights: Float[Array, " n"] | None = None,
    *,
    others: tuple[Float[Array, "m d"], Float[Array, "m d"], Float[Array, " m"], Int[Array, " n"]] | None = None,
    block: int | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Leave-one-out bound, log q(y_i | x_i) - log 1/(N-1) sum_{j != i} q(y_i | x_j); no N x N array is kept.

    An upper bound of I(x; y) if q is p(y | x). Wherever the rows lie, its error in float32 is about 1e-7 times the
    largest of their squared distances from their mean, over the variance.

    Args:
      mean, logvar: (n, d) of q(y | x) at each row's x.
      y: (n, d) the partner of x in each row.
      weights: (n,) weight of each row; all 1 if None.
      others: mean, logvar, weights of all rows and the place of these rows among them, where these are a part.
      block: rows at a time, see `logsumexp_sum`.
    Returns: weighted sum over rows, sum of weights.
    Raises: ValueError with fewer than two rows.

    >>> mean, y = jnp.array([[1.0], [-1.0]]), jnp.array([[1.0], [-1.0]])
    >>> total, count = l1out(mean, jnp.zeros((2, 1)), y)
    >>> float(total / count)
    2.0

    Source: Poole et al. 2019 (arXiv 1905.06922), section 2.2.
    """
    all_mean, all_logvar, all_weights, index = (mean, logvar, weights, None) if others is None else others
    _check(
        "l1out", mean, logvar, y, weights,
        **{"others[0]": (all_mean, "m d"), "others[1]": (all_logvar, "m d"), "others[2]": (all_weights, "m")},
        **{"others[3]": (index, "n")},
    )  # fmt: skip
    if all_mean.shape[0] < 2:
        raise ValueError("the leave-one-out bound needs at least two samples")
    weights = jnp.ones(y.shape[0], y.dtype) if weights is None else weights
    if others is None:
        all_weights, index = weights, jnp.arange(y.shape[0])
    # log q(y | x_j) is linear in (y^2, y, 1), so that all pairs are products of vectors. Squares are taken about a
    # centre, or those of rows far from 0 would drown the differences.
    centre = _mean(all_mean, all_weights)
    own = -jnp.sum((y - mean) ** 2 * jnp.exp(-logvar) + logvar, axis=1) / 2
    all_mean, y = all_mean - centre, y - centre
    precision = jnp.exp(-all_logvar)
    shift = -jnp.sum(all_mean**2 * precision + all_logvar, axis=1, keepdims=True) / 2
    candidates = jnp.concatenate([-precision / 2, all_mean * precision, shift], axis=1)
    anchors = jnp.concatenate([y**2, y, jnp.ones_like(y[:, :1])], axis=1)
    log_sum = logsumexp_sum(anchors, candidates, all_weights, weights, index[:, None], block=block)
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

    >>> total, count = vub(jnp.array([[2.0]]), jnp.array([[0.0]]))
    >>> float(total / count)
    2.0

    Source: Alemi et al. 2017 (arXiv 1612.00410), equation 14; Poole et al. 2019 (arXiv 1905.06922), equation 2.
    """
    check_shapes("vub", mean=(mean, "n d"), logvar=(logvar, "n d"), weights=(weights, "n"))
    weights = jnp.ones(mean.shape[0], mean.dtype) if weights is None else weights
    return weights @ jnp.sum(mean**2 + (jnp.expm1(logvar) - logvar), axis=1) / 2, jnp.sum(weights)
