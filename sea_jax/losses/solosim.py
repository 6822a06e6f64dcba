"""Solosim: InfoNCE between vectors of unit length, one direction."""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from sea_jax.arrays import Array, check_shapes
from sea_jax.losses.blocked import logsumexp_sum


def solosim(
    anchors: Float[Array, "n d"],
    candidates: Float[Array, "m d"],
    positives: Int[Array, " n"],
    weights: Float[Array, " n"] | None = None,
    *,
    temperature: float | Float[Array, ""],
    candidate_weights: Float[Array, " m"] | None = None,
    left_out: Int[Array, "n e"] | None = None,
    unit_rows: bool = False,
    block: int | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """- log( exp(<a_i, c_pos(i)> / t) / sum_j w_j exp(<a_i, c_j> / t) ), summed over anchors.

    log m minus its mean is a lower bound of the mutual information of anchor and candidate, at most log m.

    Args:
      anchors: (n, d), normalised by the caller.
      candidates: (m, d), normalised by the caller.
      positives: (n,) the candidate that belongs to each anchor.
      weights: (n,) weight of each anchor; all 1 if None.
      temperature: t; an array must be at least 1/30 where `unit_rows` is set.
      candidate_weights: (m,) w: 0 leaves a candidate out, 1 / (its probability of having been drawn) makes the
        sum over drawn candidates unbiased; all 1 if None.
      left_out: (n, e) candidates that are no rivals of the anchor's positive (-1: none); the positive itself may be
        among them and counts, with weight 1, in any case.
      unit_rows: all rows have length 1 or less: their logits are bounded, which spares a pass over them.
      block: anchors at a time, see `logsumexp_sum`.
    Returns: weighted sum over anchors, sum of weights.

    >>> rows = jnp.eye(4)
    >>> total, count = solosim(rows, jnp.ones((4, 4)) / 2, jnp.arange(4), temperature=0.2)
    >>> round(float(total / count), 4)  # no candidate stands out: log 4
    1.3863

    Source: SEA (arXiv 2406.08270); van den Oord et al. 2018 (arXiv 1807.03748), equation 4.
    """
    check_shapes(
        "solosim", anchors=(anchors, "n d"), candidates=(candidates, "m d"), positives=(positives, "n"),
        weights=(weights, "n"), candidate_weights=(candidate_weights, "m"), left_out=(left_out, "n e"),
    )  # fmt: skip
    weights = jnp.ones(anchors.shape[0], anchors.dtype) if weights is None else weights
    anchors = anchors / temperature
    # Padding anchors may name a candidate past the end; any will do, they weigh nothing.
    own = jnp.sum(anchors * candidates[jnp.minimum(positives, candidates.shape[0] - 1)], axis=1)
    rivals = {} if left_out is None else {"excluded": jnp.column_stack([left_out, positives]), "own": own}
    log_sum = logsumexp_sum(
        anchors, candidates, candidate_weights, weights, bound=_bound(temperature, unit_rows), block=block, **rivals
    )
    return log_sum - weights @ own, jnp.sum(weights)


def solosim_sampled(
    anchors: Float[Array, "n d"],
    positives: Float[Array, "n d"],
    candidates: Float[Array, "m d"],
    place: Int[Array, " n"],
    weights: Float[Array, " n"] | None = None,
    *,
    temperature: float | Float[Array, ""],
    probability: float | Float[Array, ""],
    candidate_weights: Float[Array, " m"] | None = None,
    left_out: Int[Array, "n e"] | None = None,
    unit_rows: bool = False,
    block: int | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Solosim with a sample of the candidates in place of all, summed over anchors.

    - log( exp(<a_i, p_i> / t) / ( exp(<a_i, p_i> / t) + sum over drawn j != i of exp(<a_i, c_j> / t) / probability ) )

    Dividing by the probability (the logQ correction) makes the inner sum unbiased. Its logarithm is not: by
    Jensen's inequality the loss is too small on average, by about half the relative variance of the sum.

    Args:
      anchors: (n, d), normalised by the caller.
      positives: (n, d), the candidate that belongs to each anchor.
      candidates: (m, d), drawn without replacement from all.
      place: (n,) where each anchor's positive is among the drawn, -1 if it was not drawn.
      weights: (n,) weight of each anchor; all 1 if None.
      temperature: t; an array must be at least 1/30 where `unit_rows` is set.
      probability: of a candidate to have been drawn.
      candidate_weights: (m,) weight of each drawn candidate, 0 leaves it out; all 1 if None.
      left_out: (n, e) places among the drawn of candidates that are no rivals (-1: none); none if None.
      unit_rows, block: as for `solosim`.
    Returns: weighted sum over anchors, sum of weights.

    >>> rows = jnp.eye(4)
    >>> drawn, place = jnp.array([0, 2]), jnp.array([0, -1, 1, -1])
    >>> total, count = solosim_sampled(rows, rows, rows[drawn], place, temperature=1.0, probability=0.5)
    >>> round(float(total / count), 4)  # log(e + others / 0.5) - 1, with one other drawn or two
    0.7281

    Source: Yi et al. 2019 (RecSys, sampling-bias-corrected neural modeling) for the correction.
    """
    check_shapes(
        "solosim_sampled", anchors=(anchors, "n d"), positives=(positives, "n d"), candidates=(candidates, "m d"),
        place=(place, "n"), weights=(weights, "n"), candidate_weights=(candidate_weights, "m"),
        left_out=(left_out, "n e"),
    )  # fmt: skip
    weights = jnp.ones(anchors.shape[0], anchors.dtype) if weights is None else weights
    anchors = anchors / temperature
    own = jnp.sum(anchors * positives, axis=1)
    # log(e^own + sum / p) = log(p e^own + sum) - log p, so that the candidates stay as they are.
    log_probability = jnp.log(probability)
    excluded = place[:, None] if left_out is None else jnp.column_stack([left_out, place])
    log_sum = logsumexp_sum(
        anchors, candidates, candidate_weights, weights, excluded, own + log_probability,
        bound=_bound(temperature, unit_rows), block=block,
    )  # fmt: skip
    return log_sum - weights @ (own + log_probability), jnp.sum(weights)


def _bound(temperature: float | Float[Array, ""], unit_rows: bool) -> float | Float[Array, ""] | None:
    """What no logit of unit rows exceeds, 1 / t, unless some may lie so far below (2 / t) that exp would lose them."""
    small = not isinstance(temperature, jax.Array) and temperature < 1 / 30
    return None if small or not unit_rows else 1 / temperature
