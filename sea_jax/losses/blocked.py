"""Sums of log-sum-exp over all candidates without keeping the candidates x anchors matrix."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

# Anchors at a time. A CPU works fastest on what stays in its caches; a GPU wants few and large kernels.
CPU_BLOCK, BLOCK = 128, 1024
LANES = 64  # candidates are padded to a multiple of it, or a GPU's program would pad each block's matrix


@partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def logsumexp_sum(
    anchors: Float[Array, "n d"],
    candidates: Float[Array, "m d"],
    candidate_weights: Float[Array, " m"] | None,
    weights: Float[Array, " n"],
    excluded: Int[Array, " n"] | None = None,
    own: Float[Array, " n"] | None = None,
    bound: float | None = None,
    block: int | None = None,
) -> Float[Array, ""]:
    """sum_i w_i log( exp(own_i) + sum_j v_j exp(<a_i, c_j>) ), some anchors at a time.

    Memory O(block x m). When a gradient is wanted, it is made in the forward pass while a block's products are at
    hand (the sum's cotangent only scales it), so that each product and exponential is computed once.

    Args:
      anchors: (n, d), any n.
      candidates: (m, d).
      candidate_weights: (m,) v, 0 leaves a candidate out; a constant, it has no gradient; all 1 if None.
      weights: (n,) w; a constant.
      excluded: (n,) a candidate that each anchor leaves out (-1: none); none if None.
      own: (n,) one more logit of each anchor; none if None.
      bound: a number that no logit exceeds and that all are near (within 80, so that exponentials stay normal), where
        one is known; else each anchor's largest logit is looked for, in one more pass over the matrix.
      block: anchors at a time; by default what suits the platform.
    Returns: the sum.
    """
    return _forward(anchors, candidates, candidate_weights, weights, excluded, own, bound, block)[0]


def _blocks(x, block):
    block = min(block, x.shape[0])
    padded = jnp.pad(x, [(0, -x.shape[0] % block)] + [(0, 0)] * (x.ndim - 1))
    return padded.reshape(-1, block, *x.shape[1:])


def _sum_and_gradients(anchors, candidates, read, weights, excluded, own, *, bound, block):
    """The sum and its gradients to anchors, weighted candidates and own.

    read: (m, d + 1), v_j c_j and v_j, so that one product gives both the normaliser and its gradient.
    """
    inputs = jax.tree.map(lambda x: _blocks(x, block), (anchors, weights, excluded, own))

    def body(carry, inputs):
        total, to_candidates = carry
        rows, weight, left_out, extra = inputs
        logits = candidates @ rows.T  # [m, block]: twice as fast on CPU as [block, m] at m = 18,357
        if left_out is not None:
            logits = jnp.where(jnp.arange(logits.shape[0])[:, None] == left_out, -jnp.inf, logits)
        largest = bound
        if bound is None:
            logits = jnp.where(read[:, -1:] > 0, logits, -jnp.inf)
            largest = jnp.max(logits, axis=0)
            largest = largest if extra is None else jnp.maximum(largest, extra)
        exponentials = jnp.exp(logits - largest)
        both = read.T @ exponentials  # [d + 1, block]
        extra = None if extra is None else jnp.exp(extra - largest)
        normaliser = both[-1] if extra is None else both[-1] + extra
        total = total + weight @ (jnp.log(normaliser) + largest)
        scale = weight / normaliser
        to_candidates = to_candidates + exponentials @ (rows * scale[:, None])
        return (total, to_candidates), ((both[:-1] * scale).T, None if extra is None else extra * scale)

    start = (jnp.zeros((), anchors.dtype), jnp.zeros_like(candidates))
    (total, to_candidates), by_anchor = jax.lax.scan(body, start, inputs)
    to_anchors, to_own = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: anchors.shape[0]], by_anchor)
    return total, to_anchors, to_candidates, to_own


def _forward(anchors, candidates, candidate_weights, weights, excluded, own, bound, block):
    count = candidates.shape[0]
    v = jnp.ones(count, candidates.dtype) if candidate_weights is None else candidate_weights
    # Padding is 0 in `read`, and so adds to no sum whatever its logits are.
    padded, v = jnp.pad(candidates, [(0, -count % LANES), (0, 0)]), jnp.pad(v, (0, -count % LANES))[:, None]
    arguments = anchors, padded, jnp.concatenate([v * padded, v], axis=1), weights, excluded, own
    work = partial(_sum_and_gradients, bound=bound)
    if block is None:
        found = jax.lax.platform_dependent(
            *arguments, cpu=partial(work, block=CPU_BLOCK), default=partial(work, block=BLOCK)
        )
    else:
        found = work(*arguments, block=block)
    total, to_anchors, to_candidates, to_own = found
    return total, (to_anchors, (v * to_candidates)[:count], to_own, candidate_weights, weights)


def _backward(bound, block, saved, cotangent):
    *gradients, candidate_weights, weights = saved
    to_anchors, to_candidates, to_own = jax.tree.map(lambda x: cotangent * x, gradients)
    to_weights = jax.tree.map(jnp.zeros_like, (candidate_weights, weights))
    return to_anchors, to_candidates, *to_weights, None, to_own


logsumexp_sum.defvjp(_forward, _backward)
