"""log-sum-exp over all candidates without keeping the anchors x candidates matrix."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

BLOCK = 512  # rows of the matrix at hand at any moment


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def logsumexp_products(
    anchors: Float[Array, "n d"], candidates: Float[Array, "m d"], log_weights: Float[Array, " m"], block: int = BLOCK
) -> Float[Array, " n"]:
    """log sum_j exp(<a_i, c_j> + log_weights_j) for every anchor i, `block` anchors at a time.

    Forward and backward each make the products of a block, use them and drop them: memory O(block x m).

    Args:
      anchors: (n, d), any n.
      candidates: (m, d).
      log_weights: (m,) added to each candidate's logits; -inf leaves it out. A constant: it has no gradient.
      block: anchors at a time.
    Returns: (n,).
    """
    return _forward(anchors, candidates, log_weights, block)[0]


def _blocks(x, block):
    block = min(block, x.shape[0])
    padded = jnp.pad(x, [(0, -x.shape[0] % block)] + [(0, 0)] * (x.ndim - 1))
    return padded.reshape(-1, block, *x.shape[1:])


def _forward(anchors, candidates, log_weights, block):
    def body(rows):
        return jax.nn.logsumexp(rows @ candidates.T + log_weights, axis=1)

    found = jax.lax.map(body, _blocks(anchors, block)).reshape(-1)[: anchors.shape[0]]
    return found, (anchors, candidates, log_weights, found)


def _backward(block, saved, cotangent):
    anchors, candidates, log_weights, found = saved

    def body(total, inputs):
        rows, log_sum, weight = inputs
        softmax = jnp.exp(rows @ candidates.T + log_weights - log_sum[:, None]) * weight[:, None]
        return total + softmax.T @ rows, softmax @ candidates

    inputs = (_blocks(anchors, block), _blocks(found, block), _blocks(cotangent, block))
    to_candidates, to_anchors = jax.lax.scan(body, jnp.zeros_like(candidates), inputs)
    return to_anchors.reshape(-1, anchors.shape[1])[: anchors.shape[0]], to_candidates, jnp.zeros_like(log_weights)


logsumexp_products.defvjp(_forward, _backward)
