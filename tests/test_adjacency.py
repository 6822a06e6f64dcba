"""Graphs of a dataset against their dense formulas."""

import numpy as np
import pytest

from sea_jax import adjacency


def test_normalised_adjacency_equals_the_dense_formula(rng):
    edges = np.unique(rng.integers(0, [6, 5], size=(14, 2)), axis=0).astype(np.int32)
    edges = edges[(edges[:, 0] != 2) & (edges[:, 1] != 4)]  # a user and an item without training interactions
    found = adjacency.normalised_adjacency(np.vstack([edges, edges[:1]]), 6, 5).toarray()
    dense = np.zeros((11, 11))
    for user, item in edges:
        dense[user, 6 + item] = dense[6 + item, user] = 1
    degree = dense.sum(axis=1)
    scale = np.where(degree > 0, degree, np.inf) ** -0.5
    np.testing.assert_allclose(found, scale[:, None] * dense * scale, rtol=1e-6)


@pytest.mark.parametrize("block", [1, 3, 100])
def test_nearest_items_equal_the_dense_ones(rng, block):
    features = rng.normal(size=(20, 4)).astype(np.float32)
    features[7] = 0
    features[[3, 11, 15]] = features[2]  # exact ties
    indices, similarities = adjacency.nearest_items(features, 5, block=block)
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(norms > 0, norms, 1)
    dense = unit @ unit.T
    for item in range(20):
        assert indices[item, 0] == item
        np.testing.assert_allclose(similarities[item], dense[item, indices[item]], atol=1e-6)
        others = np.sort(np.delete(dense[item], item))[::-1][:4]
        np.testing.assert_allclose(np.sort(similarities[item, 1:])[::-1], others, atol=1e-6)
    assert indices[2, 1:4].tolist() == [3, 11, 15]
    assert indices[11, :4].tolist() == [11, 2, 3, 15]


def test_ties_go_to_the_lower_item():
    indices, _ = adjacency.nearest_items(np.ones((6, 2), np.float32), 3)
    assert indices.tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 1], [4, 0, 1], [5, 0, 1]]


def test_more_neighbours_than_items(rng):
    indices, _ = adjacency.nearest_items(rng.normal(size=(4, 3)), 10)
    assert indices.shape == (4, 4)


def test_fusion_weighs_the_modalities(rng):
    neighbours = {name: adjacency.nearest_items(rng.normal(size=(8, 3)), 5) for name in ("image", "text")}
    fused = adjacency.fuse_neighbours(neighbours, 3, {"image": 0.1, "text": 0.9}).toarray()
    expected = np.zeros((8, 8))
    for name, weight in (("image", 0.1), ("text", 0.9)):
        for item in range(8):
            expected[item, neighbours[name][0][item, :3]] += weight / 3
    np.testing.assert_allclose(fused, expected, rtol=1e-6)


def test_default_weights():
    assert adjacency.default_weights(("image", "text")) == {"image": 0.1, "text": 0.9}
    assert adjacency.default_weights(("audio", "image")) == {"audio": 0.5, "image": 0.5}
