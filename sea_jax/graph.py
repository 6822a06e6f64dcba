"""Sparse matrices on the device: a jraph graph or its CSR twin, whole or divided by rows.

All graph code that knows jraph or `jax.experimental.sparse` is here and in propagation.py.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import jraph
import numpy as np
import scipy.sparse
from jax.experimental import sparse

from sea_jax.arrays import Array

Rows = jraph.GraphsTuple | sparse.BCSR  # some rows of a sparse matrix, in one of two forms


class Matrix(NamedTuple):
    """This device's rows of a sparse matrix and of its transpose (the same object if it is symmetric)."""

    forward: Rows
    transposed: Rows


def resolve_propagation(choice: str) -> str:
    """The sparse product for this platform: CSR has a fast kernel on CPU only (benchmarks/README.md)."""
    if choice != "auto":
        return choice
    return "csr" if jax.default_backend() == "cpu" else "jraph"


def as_graph(rows: scipy.sparse.csr_matrix, edges: int) -> jraph.GraphsTuple:
    """A jraph graph whose receivers are the matrix's rows, senders its columns, padded to `edges` edges.

    The edges carry the normalised weights, so that nothing is counted again at each step; padding edges weigh 0.
    """
    coo = rows.tocoo()
    padding = edges - coo.nnz
    receivers = np.append(coo.row, np.full(padding, rows.shape[0] - 1)).astype(np.int32)
    return jraph.GraphsTuple(
        nodes=np.zeros((rows.shape[0], 0), np.float32),
        edges=np.append(coo.data, np.zeros(padding)).astype(np.float32)[:, None],
        senders=np.append(coo.col, np.zeros(padding)).astype(np.int32),
        receivers=receivers,
        globals=None,
        n_node=np.array([rows.shape[0]], np.int32),
        n_edge=np.array([edges], np.int32),
    )


def as_csr(rows: scipy.sparse.csr_matrix, edges: int) -> sparse.BCSR:
    """The same rows as a BCSR matrix, padded with zeros in its last row."""
    padding = edges - rows.nnz
    indptr = rows.indptr.astype(np.int32)
    indptr[-1] += padding
    data = np.append(rows.data, np.zeros(padding)).astype(np.float32)
    indices = np.append(rows.indices, np.zeros(padding)).astype(np.int32)
    return sparse.BCSR((data, indices, indptr), shape=rows.shape)


def divide(matrix: scipy.sparse.csr_matrix, parts: int, form: str, symmetric: bool) -> list[Matrix]:
    """The rows of a square matrix for each of `parts` devices; its size must be a multiple of `parts`.

    Args:
      matrix: (n, n); row r of it gathers into node r.
      parts: number of devices.
      form: "jraph" or "csr".
      symmetric: whether the transpose is the matrix itself.
    """
    forward = _divide(matrix, parts, form)
    transposed = forward if symmetric else _divide(matrix.T.tocsr(), parts, form)
    return [Matrix(*pair) for pair in zip(forward, transposed, strict=True)]


def _divide(matrix, parts, form):
    blocks, edges = _blocks(matrix, parts)
    return [(as_csr if form == "csr" else as_graph)(block, edges) for block in blocks]


def _blocks(matrix, parts):
    """The rows of each part, and how many entries the fullest of them has."""
    matrix = matrix.tocsr().sorted_indices()
    rows = matrix.shape[0] // parts
    blocks = [matrix[part * rows : (part + 1) * rows] for part in range(parts)]
    return blocks, max(block.nnz for block in blocks)


def entries(numbered: scipy.sparse.csr_matrix, parts: int, part: int, padding: int) -> np.ndarray:
    """Numbers of one part's entries, in the order in which `divide` lays them out.

    Args:
      numbered: (n, n), the pattern of the matrix that was divided, its values one more than the entries' numbers.
      parts, part: number of devices, and which of them.
      padding: what stands for padding.
    """
    blocks, edges = _blocks(numbered, parts)
    numbers = blocks[part].data - 1
    return np.append(numbers, np.full(edges - len(numbers), padding)).astype(np.int32)


def reweight(matrix: Matrix, weights) -> Matrix:
    """A symmetric matrix with these values in place of its own, in the order of its entries; the pattern stays."""
    rows = with_values(matrix.forward, weights)
    return Matrix(rows, rows)


def values_of(rows: Rows) -> Array:
    """The entries' values, 0 for padding."""
    return rows.edges[:, 0] if isinstance(rows, jraph.GraphsTuple) else rows.data


def places_of(rows: Rows) -> tuple[Array, Array, Array]:
    """(row, column, place within the row) of each entry, in the order of the entries."""
    if isinstance(rows, jraph.GraphsTuple):
        row, column = rows.receivers, rows.senders
        starts = jnp.searchsorted(row, jnp.arange(rows.nodes.shape[0]), side="left")
    else:
        column, starts = rows.indices, rows.indptr[:-1]
        row = jnp.searchsorted(rows.indptr, jnp.arange(len(column)), side="right") - 1
    return row, column, jnp.arange(len(column)) - starts[row]


def with_values(rows: Rows, values: Array) -> Rows:
    """The same pattern with other values, in the order of the entries."""
    if isinstance(rows, jraph.GraphsTuple):
        return rows._replace(edges=values[:, None])
    return sparse.BCSR((values, rows.indices, rows.indptr), shape=rows.shape)


def bipartite_order(num_users: int, num_items: int, parts: int) -> np.ndarray:
    """New node number of each old one when every device holds its users and then its items.

    Old: users first, then items, (U + I,). New: [users 0, items 0, users 1, items 1, ...], each block padded.
    """
    users, items = -(-num_users // parts), -(-num_items // parts)
    user, item = np.arange(num_users), np.arange(num_items)
    new_user = user // users * (users + items) + user % users
    new_item = item // items * (users + items) + users + item % items
    return np.append(new_user, new_item)


def relabel(matrix: scipy.sparse.csr_matrix, new: np.ndarray, size: int) -> scipy.sparse.csr_matrix:
    """The matrix with node n renamed to new[n], grown to (size, size)."""
    coo = matrix.tocoo()
    return scipy.sparse.csr_matrix((coo.data, (new[coo.row], new[coo.col])), shape=(size, size))
