"""Sparse products against scipy, their gradients against the dense formula, on every path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from sea_jax import graph
from sea_jax.propagation import multiply, product, propagate


def random_matrix(n=13, seed=0, symmetric=False):
    rng = np.random.default_rng(seed)
    dense = rng.normal(size=(n, n)) * (rng.random((n, n)) < 0.3)
    dense[4] = 0  # an isolated node
    dense[:, 4] = 0
    return scipy.sparse.csr_matrix(dense + dense.T if symmetric else dense)


@pytest.mark.parametrize("form", ["jraph", "csr"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_product_and_gradient_equal_the_dense_ones(form, symmetric):
    matrix = random_matrix(symmetric=symmetric)
    rng = np.random.default_rng(1)
    nodes = rng.normal(size=(13, 5)).astype(np.float32)
    weight = rng.normal(size=(13, 5)).astype(np.float32)
    (device,) = graph.divide(matrix, 1, form, symmetric)

    value, gradient = jax.jit(jax.value_and_grad(lambda h, m: jnp.sum(weight * product(m, h, None))))(nodes, device)

    dense = matrix.toarray()
    np.testing.assert_allclose(value, np.sum(weight * (dense @ nodes)), rtol=1e-5)
    np.testing.assert_allclose(gradient, dense.T @ weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["jraph", "csr"])
def test_propagate_sums_the_powers(form):
    matrix = random_matrix(symmetric=True)
    nodes = np.random.default_rng(1).normal(size=(13, 3)).astype(np.float32)
    (device,) = graph.divide(matrix, 1, form, True)
    dense = matrix.toarray()
    expected = nodes + dense @ nodes + dense @ dense @ nodes
    np.testing.assert_allclose(propagate(device, nodes, 2), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(propagate(device, nodes, 0), nodes)


def test_paths_agree():
    matrix = random_matrix(n=200, symmetric=True)
    nodes = np.random.default_rng(1).normal(size=(200, 16)).astype(np.float32)
    found = [product(graph.divide(matrix, 1, form, True)[0], nodes) for form in ("jraph", "csr")]
    scale = np.abs(found[0]).max()
    np.testing.assert_allclose(found[0] / scale, found[1] / scale, atol=1e-6)


@pytest.mark.parametrize("form", ["jraph", "csr"])
@pytest.mark.parametrize("parts", [2, 3])
def test_rows_divided_over_devices_give_the_same_product(form, parts):
    users, items = 7, 4
    matrix = random_matrix(n=users + items, symmetric=True)
    order = graph.bipartite_order(users, items, parts)
    size = (-(-users // parts) - (-items // parts)) * parts
    relabelled = graph.relabel(matrix, order, size)
    nodes = np.random.default_rng(1).normal(size=(users + items, 3)).astype(np.float32)
    placed = np.zeros((size, 3), np.float32)
    placed[order] = nodes
    rows = [multiply(part.forward, jnp.asarray(placed)) for part in graph.divide(relabelled, parts, form, True)]
    np.testing.assert_allclose(np.concatenate(rows)[order], matrix @ nodes, rtol=1e-4, atol=1e-5)


def test_graph_is_jraphs_with_weights_as_edges():
    matrix = random_matrix()
    (device,) = graph.divide(matrix, 1, "jraph", False)
    built = scipy.sparse.csr_matrix(
        (device.forward.edges[:, 0], (device.forward.receivers, device.forward.senders)), shape=(13, 13)
    )
    np.testing.assert_allclose(built.toarray(), matrix.toarray(), rtol=1e-6)
    assert np.all(np.diff(device.forward.receivers) >= 0)
