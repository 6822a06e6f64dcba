"""Batches hold every interaction once; negatives are uniform over what is allowed."""

import jax
import numpy as np
import pytest
import scipy.stats

from sea_jax.errors import SeaError
from sea_jax.sampling import epoch_batches, interactions, permutations, sample_negatives

TRAIN = np.array([[0, 2], [0, 5], [0, 6], [1, 2], [1, 9], [3, 0], [3, 2], [3, 5], [3, 6], [3, 9]], np.int32)
SEEN = {0, 2, 5, 6, 9, 11}


def make():
    return interactions(np.vstack([TRAIN, [[4, 11]]]).astype(np.int32), 5)


def test_an_epoch_holds_each_interaction_once():
    batches = epoch_batches(jax.random.key(0), make(), 4)
    real = np.asarray(batches["weights"]) > 0
    assert real.shape == (3, 4)
    pairs = np.stack([np.asarray(batches["users"])[real], np.asarray(batches["positives"])[real]], axis=1)
    assert sorted(map(tuple, pairs.tolist())) == sorted([*map(tuple, TRAIN.tolist()), (4, 11)])
    again = epoch_batches(jax.random.key(0), make(), 4)
    np.testing.assert_array_equal(batches["users"], again["users"])
    other = epoch_batches(jax.random.key(1), make(), 4)
    assert np.any(np.asarray(batches["users"]) != np.asarray(other["users"]))


@pytest.mark.parametrize("user", [0, 1, 3, 4])
def test_negatives_are_uniform_over_seen_items_not_chosen(user):
    positives = set(TRAIN[TRAIN[:, 0] == user, 1].tolist()) | ({11} if user == 4 else set())
    allowed = sorted(SEEN - positives)
    drawn = np.asarray(sample_negatives(jax.random.key(user), make(), np.full(6000, user, np.int32)))
    values, counts = np.unique(drawn, return_counts=True)
    assert values.tolist() == allowed
    if len(allowed) > 1:
        assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_negatives_on_random_data_are_never_positives(rng):
    train = np.unique(rng.integers(0, [40, 30], size=(400, 2)), axis=0).astype(np.int32)
    data = interactions(train, 40)
    users = np.repeat(np.unique(train[:, 0]), 50).astype(np.int32)
    drawn = np.asarray(sample_negatives(jax.random.key(0), data, users))
    chosen = {tuple(pair) for pair in train.tolist()}
    assert not any((user, item) in chosen for user, item in zip(users.tolist(), drawn.tolist(), strict=True))
    assert set(drawn.tolist()) <= set(train[:, 1].tolist())


def test_a_user_with_every_item_is_an_error():
    with pytest.raises(SeaError, match="user 1 has every item"):
        interactions(np.array([[0, 0], [1, 0], [1, 1]], np.int32), 2)
    with pytest.raises(SeaError, match="no training interactions"):
        interactions(np.zeros((0, 2), np.int32), 2)


def test_permutations_are_permutations_and_differ():
    found = np.asarray(permutations(jax.random.key(0), 3, 20))
    np.testing.assert_array_equal(np.sort(found, axis=1), np.tile(np.arange(20), (3, 1)))
    assert np.any(found[0] != found[1])
