"""Sparse product A @ H with its exact gradient on every platform, rows divided over devices or not."""

from functools import partial

import jax
import jax.numpy as jnp
import jraph
from jaxtyping import Float

from sea_jax import axis as ax
from sea_jax.arrays import Array
from sea_jax.graph import Matrix, Rows


def multiply(rows: Rows, nodes: Float[Array, "n width"]) -> Float[Array, "m width"]:
    """These rows of a matrix times the nodes."""
    if isinstance(rows, jraph.GraphsTuple):
        messages = nodes[rows.senders] * rows.edges.astype(nodes.dtype)
        return jraph.segment_sum(messages, rows.receivers, rows.nodes.shape[0], indices_are_sorted=True)
    return rows @ nodes


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(matrix: Matrix, nodes: Float[Array, "n width"], axis: ax.Axis = None) -> Float[Array, "n width"]:
    """matrix @ nodes, both divided by rows over the devices; one gather of the nodes.

    The gradient is transposed @ cotangent by the same forward product: differentiating the CSR kernel falls
    back to a scatter that is many times slower, and a block of rows is not symmetric by itself. The matrix
    itself is constant: its cotangent is zero.

    Args:
      matrix: this device's rows of the matrix and of its transpose.
      nodes: this device's rows of the nodes.
      axis: the device axis or None.
    Returns: this device's rows of the product.
    """
    return multiply(matrix.forward, ax.gather_rows(nodes, axis))


def _forward(matrix, nodes, axis):
    return product(matrix, nodes, axis), matrix


def _backward(axis, matrix, cotangent):
    return None, multiply(matrix.transposed, ax.gather_rows(cotangent, axis))


product.defvjp(_forward, _backward)


def propagate(matrix: Matrix, nodes: Float[Array, "n width"], layers: int, axis: ax.Axis = None):
    """Sum over layers, H + A H + ... + A^layers H (a sum, not a mean, and no self-loops)."""
    total = nodes
    for _ in range(layers):
        nodes = product(matrix, nodes, axis)
        total = total + nodes
    return total


def power(matrix: Matrix, nodes: Float[Array, "n width"], layers: int, axis: ax.Axis = None):
    """A^layers H, without the lower layers."""
    for _ in range(layers):
        nodes = product(matrix, nodes, axis)
    return nodes


def light_gcn(
    matrix: Matrix, users: Float[Array, "u width"], items: Float[Array, "i width"], layers: int, axis: ax.Axis
):
    """This device's users and items after LightGCN: the mean over layers 0 to `layers` of A^l [users; items].

    Source: LightGCN (arXiv 2002.02126), equations 7 and 8.
    """
    nodes = propagate(matrix, jnp.concatenate([users, items]), layers, axis) / (layers + 1)
    return nodes[: users.shape[0]], nodes[users.shape[0] :]


def light_gcn_basket(
    matrix: Matrix, users: Float[Array, "u width"], items: Float[Array, "i width"], layers: int, axis: ax.Axis
):
    """What each of this device's items gives, after LightGCN, a user with an edge to it and no row of its own.

    Times the roots of both degrees: sum over l = 0 .. layers - 1 of (A^l [users; items]) / (layers + 1).
    """
    if layers == 0:
        return jnp.zeros_like(items)
    nodes = propagate(matrix, jnp.concatenate([users, items]), layers - 1, axis) / (layers + 1)
    return nodes[users.shape[0] :]
