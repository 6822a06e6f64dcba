"""The host graphs of mgcn, smore and dragon against dense NumPy, and dragon's repeats against drawing them one by one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse

from sea_jax import adjacency, graph
from sea_jax.models.backbones.dragon import with_repeats
from sea_jax.propagation import product

USERS, ITEMS = 23, 17


@pytest.fixture
def pairs(rng):
    """Distinct pairs and a repeated one; user 5 and item 3 have none, user 6 alone has item 0."""
    pairs = np.unique(rng.integers(0, [USERS, ITEMS], size=(70, 2)), axis=0)
    pairs = pairs[~np.isin(pairs[:, 0], (5, 6)) & ~np.isin(pairs[:, 1], (0, 3))]
    return np.concatenate([pairs, pairs[:1], [[6, 0]]])


def dense_cosines(x, k):
    norms = np.linalg.norm(x, axis=1)
    cosines = x @ x.T / np.maximum(np.outer(norms, norms), 1e-300)
    kept = np.zeros_like(cosines)
    for row in range(len(x)):
        order = sorted(range(len(x)), key=lambda other: (other != row, -round(cosines[row, other], 6), other))[:k]
        kept[row, order] = cosines[row, order]
    sums = kept.sum(axis=1)
    scale = np.array([s**-0.5 if s > 0 else 0.0 for s in sums])
    return kept * np.outer(scale, scale)


@pytest.mark.parametrize("k", [1, 4, 60])
def test_cosine_graph(rng, k):
    x = rng.normal(size=(ITEMS, 9)) + 0.5
    x[4] = 0
    found = adjacency.cosine_graph(adjacency.nearest_items(x, 20), k)
    np.testing.assert_allclose(found.toarray(), dense_cosines(x, k), rtol=1e-5, atol=1e-6)
    assert not found[4].toarray().any() and not found[:, 4].toarray().any()


def test_largest_of_a_union(rng):
    parts = [np.where(rng.random((6, 6)) < 0.5, rng.normal(size=(6, 6)), -np.inf) for _ in range(3)]
    index = [np.nonzero(np.isfinite(part)) for part in parts]
    graphs = [scipy.sparse.csr_matrix((part[at], at), (6, 6)) for part, at in zip(parts, index, strict=True)]
    found, expected = adjacency.largest_of(graphs), np.max(parts, axis=0)
    assert found.nnz == np.isfinite(expected).sum()
    np.testing.assert_allclose(found.toarray(), np.where(np.isfinite(expected), expected, 0), rtol=1e-6)
    assert adjacency.largest_of([scipy.sparse.csr_matrix((3, 3))]).nnz == 0


@pytest.mark.parametrize("room", [1, 40, 1 << 24])
@pytest.mark.parametrize("k", [1, 3, 40])
def test_nearest_users(pairs, k, room):
    chosen = np.zeros((USERS, ITEMS))
    chosen[pairs[:, 0], pairs[:, 1]] = 1
    shared = chosen @ chosen.T
    np.fill_diagonal(shared, 0)
    expected = np.zeros((USERS, USERS))
    for user in range(USERS):
        order = sorted(np.flatnonzero(shared[user]), key=lambda other: (-shared[user, other], other))[:k]
        if order:
            expected[user, order] = np.exp(shared[user, order]) / np.exp(shared[user, order]).sum()
    found = adjacency.nearest_users(pairs, USERS, ITEMS, k, room)
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-6)
    assert found.has_sorted_indices
    assert not expected[[5, 6]].any()


def test_a_neighbour_with_much_less_in_common_stays_one():
    many = [[user, item] for user in (0, 1) for item in range(300)]
    found = adjacency.nearest_users(np.array([*many, [2, 0]]), 3, 300, 40)
    assert found.nnz == 6 and (found.data > 0).all()


@pytest.mark.parametrize("form", ["csr", "jraph"])
def test_repeats_are_drawn_one_after_the_other(rng, pairs, form):
    length = 7
    weights = adjacency.nearest_users(pairs, USERS, ITEMS, length)
    draws = rng.random((USERS, length)).astype(np.float32)
    expected = np.zeros((USERS, USERS))
    for user in range(USERS):
        listed = weights[user].indices.tolist()
        for place in range(len(listed), length):
            if listed:
                listed.append(listed[int(draws[user, place] * np.float32(place))])
        np.add.at(expected[user], listed, weights[user, listed].toarray()[0] if listed else [])
        expected[user] /= max(expected[user].sum(), 1e-30)
    matrix = graph.divide(weights, 1, form, symmetric=False)[0]
    drawn = jax.jit(with_repeats)(matrix, draws)
    whole, cotangent = jnp.eye(USERS), jnp.asarray(rng.normal(size=(USERS, 4)), jnp.float32)
    np.testing.assert_allclose(product(drawn, whole), expected, rtol=1e-5, atol=1e-7)
    _, pull = jax.vjp(lambda x: product(drawn, x), cotangent)
    np.testing.assert_allclose(pull(cotangent)[0], expected.T @ cotangent, rtol=1e-4, atol=1e-6)
    assert (expected != weights.toarray()).any()
