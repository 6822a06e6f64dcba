"""Sums of log-sum-exp over all candidates without keeping the candidates x anchors matrix."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from sea_jax.arrays import Array, check_shapes

# Anchors at a time. A CPU works fastest on what stays in its caches; a GPU wants few and large kernels.
CPU_BLOCK, BLOCK = 128, 1024
LANES = 64  # candidates are padded to a multiple of it, or a GPU's program would pad each block's matrix


@partial(jax.custom_vjp, nondiff_argnums=(7,))
def logsumexp_sum(
    anchors: Float[Array, "n d"],
    candidates: Float[Array, "m d"],
    candidate_weights: Float[Array, " m"] | None,
    weights: Float[Array, " n"],
    excluded: Int[Array, "n e"] | None = None,
    own: Float[Array, " n"] | None = None,
    bound: float | Float[Array, ""] | None = None,
    block: int | None = None,
) -> Float[Array, ""]:
    """sum_i w_i log( exp(own_i) + sum_j v_j exp(<a_i, c_j>) ), some anchors at a time.

    Memory O(block x m). The gradient is made in the forward pass, always, while a block's products are at hand (the
    sum's cotangent only scales it), so that each product and exponential is computed once.

    Args:
      anchors: (n, d), any n from 1 on.
      candidates: (m, d).
      candidate_weights: (m,) v, 0 leaves a candidate out; a constant, it gets no gradient; all 1 if None.
      weights: (n,) w.
      excluded: (n, e) candidates that each anchor leaves out (-1: none); none if None.
      own: (n,) one more logit of each anchor; none if None.
      bound: a number that no logit exceeds, and that none is so far below (more than 60) that exp would lose it, where
        one is known; else each anchor's largest logit is looked for, in one more pass over the matrix.
      block: anchors at a time; by default what suits the platform.
    Returns: the sum.

    >>> rows = jnp.eye(2)
    >>> float(logsumexp_sum(100 * rows, rows, None, jnp.ones(2)))  # e^100 + 1 is no float32
    200.0
    """
    return _forward(anchors, candidates, candidate_weights, weights, excluded, own, bound, block)[0]


def _blocks(x, block):
    block = min(block, x.shape[0])
    fill = -1 if jnp.issubdtype(x.dtype, jnp.integer) else 0  # padding excludes no candidate, were it the only one
    padded = jnp.pad(x, [(0, -x.shape[0] % block)] + [(0, 0)] * (x.ndim - 1), constant_values=fill)
    return padded.reshape(-1, block, *x.shape[1:])


def _by_anchor(anchors, candidates, weighted, weights, excluded, own, *, bound, block):
    """Each anchor's log-sum, and the weighted sum's gradients to anchors, to v_j c_j, and to own.

    weighted: (m, d + 1), v_j c_j and v_j, so that one product gives both the normaliser and its gradient.
    """
    inputs = jax.tree.map(lambda x: _blocks(x, block), (anchors, weights, excluded, own))

    def body(to_candidates, inputs):
        anchors, weights, excluded, own = inputs
        logits = candidates @ anchors.T  # [m, block]: twice as fast on CPU as [block, m] at m = 18,357
        if excluded is not None and excluded.shape[1] == 1:  # faster than a scatter
            logits = jnp.where(jnp.arange(logits.shape[0])[:, None] == excluded[:, 0], -jnp.inf, logits)
        elif excluded is not None:
            row = jnp.where(excluded < 0, logits.shape[0], excluded)  # past the end: dropped
            logits = logits.at[row, jnp.arange(logits.shape[1])[:, None]].set(-jnp.inf, mode="drop")
        largest = bound
        if bound is None:
            logits = jnp.where(weighted[:, -1:] > 0, logits, -jnp.inf)
            largest = jnp.max(logits, axis=0)
            largest = largest if own is None else jnp.maximum(largest, own)
        exponentials = jnp.exp(logits - largest)
        both = weighted.T @ exponentials  # [d + 1, block]
        own_exponential = 0.0 if own is None else jnp.exp(own - largest)
        normaliser = both[-1] + own_exponential
        scale = weights / normaliser
        to_candidates = to_candidates + exponentials @ (anchors * scale[:, None])
        to_own = None if own is None else own_exponential * scale
        return to_candidates, (jnp.log(normaliser) + largest, (both[:-1] * scale).T, to_own)

    to_candidates, found = jax.lax.scan(body, jnp.zeros_like(candidates), inputs)
    log_sum, to_anchors, to_own = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: anchors.shape[0]], found)
    return log_sum, to_anchors, to_candidates, to_own


def _forward(anchors, candidates, candidate_weights, weights, excluded, own, bound, block):
    check_shapes(
        "logsumexp_sum", anchors=(anchors, "n d"), candidates=(candidates, "m d"),
        candidate_weights=(candidate_weights, "m"), weights=(weights, "n"), excluded=(excluded, "n e"), own=(own, "n"),
    )  # fmt: skip
    count = candidates.shape[0]
    v = jnp.ones(count, candidates.dtype) if candidate_weights is None else candidate_weights
    # Padding is 0 in `weighted`, and so adds to no sum whatever its logits are.
    padded, v = jnp.pad(candidates, [(0, -count % LANES), (0, 0)]), jnp.pad(v, (0, -count % LANES))[:, None]
    arguments = anchors, padded, jnp.concatenate([v * padded, v], axis=1), weights, excluded, own
    work = partial(_by_anchor, bound=bound)
    if block is None:
        found = jax.lax.platform_dependent(
            *arguments, cpu=partial(work, block=CPU_BLOCK), default=partial(work, block=BLOCK)
        )
    else:
        found = work(*arguments, block=block)
    log_sum, to_anchors, to_candidates, to_own = found
    saved = to_anchors, (v * to_candidates)[:count], log_sum, to_own, candidate_weights
    return weights @ log_sum, saved


def _backward(block, saved, cotangent):
    *gradients, candidate_weights = saved
    to_anchors, to_candidates, to_weights, to_own = jax.tree.map(lambda x: cotangent * x, gradients)
    to_candidate_weights = jax.tree.map(jnp.zeros_like, candidate_weights)
    to_excluded = to_bound = None  # integers; what is subtracted and added again
    return to_anchors, to_candidates, to_candidate_weights, to_weights, to_excluded, to_own, to_bound


logsumexp_sum.defvjp(_forward, _backward)
