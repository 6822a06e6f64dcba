"""Graphs of a dataset against their dense formulas."""

import numpy as np
import pytest
import scipy.stats

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


def by_cosine(features, k):
    """Neighbours by NumPy's float64, where no square of a float32 overflows."""
    wide = features.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = wide / np.where(norms > 0, norms, 1)
    cosines = unit @ unit.T
    ranked = cosines.copy()
    np.fill_diagonal(ranked, np.inf)
    indices = np.argsort(-ranked, axis=1, kind="stable")[:, :k]
    return indices, np.take_along_axis(cosines, indices, axis=1)


@pytest.mark.parametrize("scale", [1e-36, 1e-30, 1e-23, 1e-10, 1.0, 1e10, 1e19, 1e30, 1e37])
@pytest.mark.parametrize("rows", ["all", "one", "by row"])
def test_the_scale_of_the_rows_does_not_matter(rng, scale, rows):
    features = rng.normal(size=(40, 6)).astype(np.float32)
    if rows == "all":
        features *= np.float32(scale)
    elif rows == "one":
        features[3] *= np.float32(scale)
    else:
        features *= np.logspace(0, np.log10(scale), 40, dtype=np.float32)[:, None]
    features[9] = 0
    indices, similarities = adjacency.nearest_items(features, 5)
    expected, cosines = by_cosine(features, 5)
    np.testing.assert_array_equal(indices, expected)
    np.testing.assert_allclose(similarities, cosines, atol=1e-6)


def test_the_largest_and_the_smallest_numbers(rng):
    largest, smallest = np.finfo(np.float32).max, np.finfo(np.float32).tiny
    features = np.array([[largest, largest], [smallest, smallest], [largest, -largest], [0, smallest]], np.float32)
    indices, similarities = adjacency.nearest_items(features, 2)
    assert indices.tolist() == [[0, 1], [1, 0], [2, 0], [3, 0]]
    np.testing.assert_allclose(similarities[:, 1], [1, 1, 0, np.sqrt(0.5)], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_at_ordinary_scales_scaling_changes_no_bit(rng, dtype):
    features = (rng.normal(size=(300, 17)) * np.exp(4 * rng.normal(size=(300, 1)))).astype(dtype)
    unit = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    np.testing.assert_array_equal(adjacency._unit_rows(features), unit)


def test_half_precision_and_integers_have_their_neighbours(rng):
    features = rng.integers(-40, 40, size=(30, 8)) * 1000
    for rows in (features, features.astype(np.float16), features.astype(np.int32)):
        np.testing.assert_array_equal(adjacency.nearest_items(rows, 4)[0], by_cosine(rows, 4)[0])


def test_all_zero_rows_are_similar_to_nothing():
    indices, similarities = adjacency.nearest_items(np.zeros((3, 2), np.float32), 2)
    assert indices.tolist() == [[0, 1], [1, 0], [2, 0]]
    assert not similarities.any()


def test_standardised_columns_are_scipys_and_constant_ones_say_nothing(rng):
    catalogue = (rng.normal(size=(50, 6)) * np.logspace(-3, 3, 6) + 100).astype(np.float32)
    catalogue[:, 2] = 0.1
    expected = scipy.stats.zscore(np.delete(catalogue, 2, 1).astype(np.float64))
    found = adjacency.comparable(catalogue, catalogue)
    np.testing.assert_allclose(np.delete(found, 2, 1), expected, rtol=1e-9, atol=1e-9)
    assert not found[:, 2].any()
    new = np.full((1, 6), 7.0)
    assert adjacency.comparable(new, catalogue)[0, 2] == 0
    assert adjacency.comparable(new, catalogue, "cosine") is new


@pytest.mark.parametrize("block", [2, 1024])
def test_items_that_lack_a_modality_are_in_nobodys_list(rng, block):
    x = rng.normal(size=(9, 4))
    absent = np.isin(np.arange(9), [2, 5])
    indices, similarities = adjacency.nearest_items(x, 4, absent, block=block)
    alone, theirs = adjacency.nearest_items(x[~absent], 4)
    kept = np.flatnonzero(~absent)
    np.testing.assert_array_equal(indices[~absent], kept[alone])
    np.testing.assert_allclose(similarities[~absent], theirs, rtol=1e-6)
    np.testing.assert_array_equal(indices[absent], [[2] * 4, [5] * 4])
    np.testing.assert_allclose(similarities[absent], 1, rtol=1e-6)
    graph = adjacency.fuse_neighbours({"image": (indices, similarities)}, 4, {"image": 1.0}).toarray()
    np.testing.assert_allclose(graph.sum(axis=1), 1, rtol=1e-6)
    assert graph[2, 2] == 1
    assert not np.delete(graph[:, 2], 2).any()


def test_where_nothing_is_absent_nothing_moves(rng):
    x = rng.normal(size=(40, 4)).astype(np.float32)
    for found, plain in zip(
        adjacency.nearest_items(x, 7, np.zeros(40, bool)), adjacency.nearest_items(x, 7), strict=True
    ):
        np.testing.assert_array_equal(found, plain)


def test_with_few_left_a_list_repeats_the_item(rng):
    indices, _ = adjacency.nearest_items(rng.normal(size=(4, 3)), 4, np.array([True, False, False, True]))
    assert indices[0].tolist() == [0] * 4
    assert indices[1].tolist() == [1, 2, 1, 1]
