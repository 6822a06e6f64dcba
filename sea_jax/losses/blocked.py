"""log-sum-exp over all candidates without keeping the anchors x candidates matrix."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

BLOCK = 512  # rows of the matrix at hand at any moment


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def logsumexp_products(
    anchors: Float[Array, "n d"],
    candidates: Float[Array, "m d"],
    log_weights: Float[Array, " m"],
    excluded: Int[Array, " n"] | None = None,
    block: int = BLOCK,
) -> Float[Array, " n"]:
    """log sum_j exp(<a_i, c_j> + log_weights_j) for every anchor i, `block` anchors at a time.

    Forward and backward each make the products of a block, use them and drop them: memory O(block x m).

    Args:
      anchors: (n, d), any n.
      candidates: (m, d).
      log_weights: (m,) added to each candidate's logits; -inf leaves it out. A constant: it has no gradient.
      excluded: (n,) a candidate that each anchor leaves out; none if None.
      block: anchors at a time.
    Returns: (n,).
    """
    return _forward(anchors, candidates, log_weights, excluded, block)[0]


def _blocks(x, block):
    block = min(block, x.shape[0])
    padded = jnp.pad(x, [(0, -x.shape[0] % block)] + [(0, 0)] * (x.ndim - 1))
    return padded.reshape(-1, block, *x.shape[1:])


def _logits(rows, candidates, log_weights, excluded):
    logits = rows @ candidates.T + log_weights
    if excluded is None:
        return logits
    return jnp.where(jnp.arange(candidates.shape[0]) == excluded[:, None], -jnp.inf, logits)


def _forward(anchors, candidates, log_weights, excluded, block):
    inputs = jax.tree.map(lambda x: _blocks(x, block), (anchors, excluded))
    found = jax.lax.map(lambda x: jax.nn.logsumexp(_logits(x[0], candidates, log_weights, x[1]), axis=1), inputs)
    found = found.reshape(-1)[: anchors.shape[0]]
    return found, (anchors, candidates, log_weights, excluded, found)


def _backward(block, saved, cotangent):
    anchors, candidates, log_weights, excluded, found = saved

    def body(total, inputs):
        rows, left_out, log_sum, weight = inputs
        logits = _logits(rows, candidates, log_weights, left_out)
        softmax = jnp.exp(logits - log_sum[:, None]) * weight[:, None]
        return total + softmax.T @ rows, softmax @ candidates

    inputs = jax.tree.map(lambda x: _blocks(x, block), (anchors, excluded, found, cotangent))
    to_candidates, to_anchors = jax.lax.scan(body, jnp.zeros_like(candidates), inputs)
    return (
        to_anchors.reshape(-1, anchors.shape[1])[: anchors.shape[0]],
        to_candidates,
        jnp.zeros_like(log_weights),
        None,
    )


logsumexp_products.defvjp(_forward, _backward)
