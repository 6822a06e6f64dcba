"""Solosim: InfoNCE between vectors of unit length, one direction."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sea_jax.losses.blocked import BLOCK, logsumexp_sum


def solosim(
    anchors: Float[Array, "n d"],
    candidates: Float[Array, "m d"],
    positives: Int[Array, " n"],
    weights: Float[Array, " n"] | None = None,
    *,
    temperature: float,
    candidate_weights: Float[Array, " m"] | None = None,
    block: int = BLOCK,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """- log( exp(<a_i, c_pos(i)> / t) / sum_j w_j exp(<a_i, c_j> / t) ), summed over anchors.

    log m minus its mean is a lower bound of the mutual information of anchor and candidate, at most log m.

    Args:
      anchors: (n, d), normalised by the caller.
      candidates: (m, d), normalised by the caller.
      positives: (n,) the candidate that belongs to each anchor.
      weights: (n,) weight of each anchor; all 1 if None.
      temperature: t.
      candidate_weights: (m,) w: 0 leaves a candidate out, 1 / (its probability of having been drawn) makes the
        sum over drawn candidates unbiased; all 1 if None.
      block: anchors at a time, see `logsumexp_sum`.
    Returns: weighted sum over anchors, sum of weights.

    Source: SEA (arXiv 2406.08270); van den Oord et al. 2018 (arXiv 1807.03748), equation 4.
    """
    weights = jnp.ones(anchors.shape[0], anchors.dtype) if weights is None else weights
    candidate_weights = jnp.ones(candidates.shape[0], anchors.dtype) if candidate_weights is None else candidate_weights
    anchors = anchors / temperature
    # Padding anchors may name a candidate past the end; any will do, they weigh nothing.
    own = jnp.sum(anchors * candidates[jnp.minimum(positives, candidates.shape[0] - 1)], axis=1)
    log_sum = logsumexp_sum(anchors, candidates, jnp.log(candidate_weights), weights, None, block)
    return log_sum - weights @ own, jnp.sum(weights)
