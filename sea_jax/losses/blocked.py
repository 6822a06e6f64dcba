"""Sums of log-sum-exp over all candidates without keeping the anchors x candidates matrix."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

BLOCK = 512  # rows of the matrix at hand at any moment


@partial(jax.custom_vjp, nondiff_argnums=(6,))
def logsumexp_sum(
    anchors: Float[Array, "n d"],
    candidates: Float[Array, "m d"],
    log_weights: Float[Array, " m"] | None,
    weights: Float[Array, " n"],
    excluded: Int[Array, " n"] | None = None,
    own: Float[Array, " n"] | None = None,
    block: int = BLOCK,
) -> Float[Array, ""]:
    """sum_i w_i log( exp(own_i) + sum_j exp(<a_i, c_j> + log_weights_j) ), `block` anchors at a time.

    Memory O(block x m). When a gradient is wanted, it is made in the forward pass while a block's products are at
    hand (the sum's cotangent only scales it), so that each product and exponential is computed once.

    Args:
      anchors: (n, d), any n.
      candidates: (m, d).
      log_weights: (m,) added to each candidate's logits; -inf leaves it out. A constant: it has no gradient. None
        adds nothing, which saves a pass over the matrix.
      weights: (n,) weight of each anchor. A constant.
      excluded: (n,) a candidate that each anchor leaves out (-1: none); none if None.
      own: (n,) one more logit of each anchor; none if None.
      block: anchors at a time.
    Returns: the sum.
    """
    inputs = jax.tree.map(lambda x: _blocks(x, block), (anchors, weights, excluded, own))

    def body(total, inputs):
        rows, weight, left_out, extra = inputs
        log_sum = jax.nn.logsumexp(_logits(rows, candidates, log_weights, left_out), axis=1)
        return total + weight @ (log_sum if extra is None else jnp.logaddexp(log_sum, extra)), None

    return jax.lax.scan(body, jnp.zeros((), anchors.dtype), inputs)[0]


def _blocks(x, block):
    block = min(block, x.shape[0])
    padded = jnp.pad(x, [(0, -x.shape[0] % block)] + [(0, 0)] * (x.ndim - 1))
    return padded.reshape(-1, block, *x.shape[1:])


def _logits(rows, candidates, log_weights, excluded):
    logits = rows @ candidates.T
    logits = logits if log_weights is None else logits + log_weights
    if excluded is None:
        return logits
    return jnp.where(jnp.arange(candidates.shape[0]) == excluded[:, None], -jnp.inf, logits)


def _forward(anchors, candidates, log_weights, weights, excluded, own, block):
    inputs = jax.tree.map(lambda x: _blocks(x, block), (anchors, weights, excluded, own))

    def body(carry, inputs):
        total, to_candidates = carry
        rows, weight, left_out, extra = inputs
        logits = _logits(rows, candidates, log_weights, left_out)
        largest = jnp.max(logits, axis=1)
        largest = largest if extra is None else jnp.maximum(largest, extra)
        exponentials = jnp.exp(logits - largest[:, None])
        normaliser = jnp.sum(exponentials, axis=1)
        extra = None if extra is None else jnp.exp(extra - largest)
        normaliser = normaliser if extra is None else normaliser + extra
        total = total + weight @ (jnp.log(normaliser) + largest)
        scale = weight / normaliser
        to_candidates = to_candidates + exponentials.T @ (rows * scale[:, None])
        to_own = None if extra is None else extra * scale
        return (total, to_candidates), ((exponentials @ candidates) * scale[:, None], to_own)

    start = (jnp.zeros((), anchors.dtype), jnp.zeros_like(candidates))
    (total, to_candidates), by_anchor = jax.lax.scan(body, start, inputs)
    to_anchors, to_own = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: anchors.shape[0]], by_anchor)
    return total, (to_anchors, to_candidates, to_own, log_weights, weights)


def _backward(block, saved, cotangent):
    *gradients, log_weights, weights = saved
    to_anchors, to_candidates, to_own = jax.tree.map(lambda x: cotangent * x, gradients)
    to_weights = jax.tree.map(jnp.zeros_like, (log_weights, weights))
    return to_anchors, to_candidates, *to_weights, None, to_own


logsumexp_sum.defvjp(_forward, _backward)
