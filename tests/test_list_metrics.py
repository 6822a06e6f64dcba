"""Metrics of lists against loops by hand, closed forms and cases whose answer is known."""

import doctest
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import sea_jax
from sea_jax import list_metrics
from sea_jax.control import Control

USERS, ITEMS, K = 12, 15, 4


@pytest.fixture
def lists(rng):
    """Lists of distinct items; some have empty places, one has no item."""
    found = np.array([rng.permutation(ITEMS)[:K] for _ in range(USERS)])
    found[2, 1:], found[5, 2:], found[7] = -1, -1, -1
    return found


@pytest.fixture
def splits(rng):
    """Item 14 has no training interaction and stands in test."""
    pairs = np.unique(rng.integers(0, [USERS, ITEMS - 1], size=(90, 2)), axis=0)
    train, valid, test = np.split(pairs[rng.permutation(len(pairs))], [45, 55])
    return train, valid, np.concatenate([test, [[train[0, 0], ITEMS - 1]]])


def listed(row):
    return [item for item in row.tolist() if item >= 0]


def test_coverage_popularity_and_novelty_are_those_of_a_loop(lists, rng):
    popularity = rng.integers(0, 5, ITEMS)
    shown = [item for row in lists for item in listed(row)]
    assert list_metrics.coverage(lists, ITEMS) == len(set(shown)) / ITEMS
    own = [np.mean([popularity[item] for item in listed(row)]) for row in lists if listed(row)]
    assert list_metrics.average_popularity(lists, popularity) == pytest.approx(np.mean(own))
    bits = [-np.log2(popularity[item] / USERS) for item in shown if popularity[item]]
    assert (popularity[shown] == 0).any()
    assert list_metrics.novelty(lists, popularity, USERS) == pytest.approx(np.mean(bits))


def test_gini_is_half_the_relative_mean_difference(lists):
    c = np.array([(lists == item).sum() for item in range(ITEMS)])
    assert list_metrics.gini(lists, ITEMS) == pytest.approx(np.abs(c[:, None] - c).mean() / (2 * c.mean()))
    assert list_metrics.gini(np.array([[3], [3]]), ITEMS) == pytest.approx(1 - 1 / ITEMS)
    assert list_metrics.gini(np.arange(ITEMS)[:, None], ITEMS) == 0


def test_diversity_is_that_of_pairs(lists, rng):
    rows = rng.normal(size=(ITEMS, 6)) * 10.0 ** rng.integers(-20, 20, (ITEMS, 1))
    rows[lists[0, 0]] = 0

    def cosine(a, b):
        lengths = np.linalg.norm(a) * np.linalg.norm(b)
        return a @ b / lengths if lengths else 0.0

    of = [listed(row) for row in lists]
    expected = [
        np.mean([1 - cosine(rows[i], rows[j]) for i, j in itertools.combinations(own, 2)]) for own in of if len(own) > 1
    ]
    assert list_metrics.intra_list_diversity(lists, rows) == pytest.approx(np.mean(expected))
    assert list_metrics.intra_list_diversity(np.array([[0, 1]]), np.eye(2)) == 1
    assert list_metrics.intra_list_diversity(np.array([[0, 1]]), np.array([[1, 1], [2, 2]])) == pytest.approx(0)


def test_blocks_change_nothing(lists, rng, monkeypatch):
    rows = rng.normal(size=(ITEMS, 3)).astype(np.float32)
    whole = list_metrics.intra_list_diversity(lists, rows)
    monkeypatch.setattr(list_metrics, "BLOCK_BYTES", 1)
    assert list_metrics.intra_list_diversity(lists, rows) == pytest.approx(whole, rel=1e-12)


def test_empty_lists_have_no_numbers():
    nothing, popularity = np.full((2, 3), -1), np.ones(4, int)
    assert list_metrics.coverage(nothing, 4) == 0
    for value in (
        list_metrics.gini(nothing, 4), list_metrics.average_popularity(nothing, popularity),
        list_metrics.novelty(nothing, popularity, 2), list_metrics.intra_list_diversity(nothing, np.eye(4)),
    ):  # fmt: skip
        assert np.isnan(value)


@pytest.mark.parametrize("item", [ITEMS, -2])
def test_a_number_that_no_item_has_is_refused(lists, item):
    lists[0, 0] = item
    with pytest.raises(ValueError, match="there are 15 items"):
        list_metrics.coverage(lists, ITEMS)


def test_groups_by_popularity():
    # 12 interactions: the first 4 fall on item 3, which also has the 5th; 0 begins at 5, 2 at 8, 5 and 1 at 10 and 11.
    popularity = np.array([3, 1, 2, 5, 0, 1])
    names = [list_metrics.GROUPS[n] for n in list_metrics.popularity_groups(popularity)]
    assert names == ["middle", "tail", "tail", "head", "unseen", "tail"]
    assert list_metrics.popularity_groups(np.zeros(3, int)).tolist() == [3, 3, 3]


def test_groups_by_activity_keep_equals_together():
    assert list_metrics.activity_groups(np.array([1, 2, 3, 4, 5, 6])).tolist() == [0, 0, 1, 1, 2, 2]
    assert list_metrics.activity_groups(np.array([3, 3, 3, 3, 9, 4])).tolist() == [0, 0, 0, 0, 2, 2]
    values = {"recall@5": np.array([0.1, 0.3, 0.2, 0.2, 1.0, 0.0])}
    found = list_metrics.by_activity(values, np.array([3, 3, 3, 3, 9, 4]))
    assert list(found) == ["light", "heavy"]
    assert found["light"] == {"users": 4, "least": 3, "most": 3, "recall@5": pytest.approx(0.2)}
    assert found["heavy"] == {"users": 2, "least": 4, "most": 9, "recall@5": 0.5}


def test_recall_by_list_is_that_of_sets(lists, rng):
    held_out = np.unique(rng.integers(0, [USERS - 1, ITEMS], size=(60, 2)), axis=0)
    found = list_metrics.recall(lists, held_out)
    for row in range(USERS):
        own = set(held_out[held_out[:, 0] == row, 1].tolist())
        assert found[row] == (len(own & set(listed(lists[row]))) / len(own) if own else 0)


def by_hand(scores, left_out, k=K):
    return [n for n in np.argsort(-scores, kind="stable").tolist() if n not in left_out][:k]


def items_of(pairs, user):
    return set(pairs[pairs[:, 0] == user, 1].tolist())


@pytest.mark.parametrize("ids", ["numbers", "strings"])
@pytest.mark.parametrize("mask_valid", [False, True])
def test_what_is_served_is_what_a_loop_finds(splits, rng, mask_valid, ids):
    train, valid, test = splits
    scores, rows = rng.normal(size=(USERS, ITEMS)), rng.normal(size=(ITEMS, 3))
    names = (
        {}
        if ids == "numbers"
        else {"user_ids": [f"u{n}" for n in range(USERS)], "item_ids": [f"i{n}" for n in range(ITEMS)]}
    )
    made = sea_jax.Recommender.from_vectors(np.eye(USERS), scores.T, train, **names)
    popularity = np.bincount(train[:, 1], minlength=ITEMS)
    group, before = {}, 0
    for item in sorted(range(ITEMS), key=lambda n: (-popularity[n], n)):
        group[item] = 3 if popularity[item] == 0 else min(3 * before // popularity.sum(), 2)
        before += popularity[item]
    lists, hits, wanted = [], np.zeros(4), np.zeros(4)
    for user in sorted(set(test[:, 0].tolist()) & set(train[:, 0].tolist())):
        barred = items_of(train, user) | (items_of(valid, user) if mask_valid else set())
        lists.append(by_hand(scores[user], barred))
        for item in items_of(test, user):
            wanted[group[item]] += 1
            hits[group[item]] += item in lists[-1]
    shown = [item for own in lists for item in own]
    found = list_metrics.served(made, train, test, K, valid if mask_valid else list_metrics.NOBODY, rows)
    assert found["users"] == len(lists)
    for n, name in enumerate(list_metrics.GROUPS):
        of = found["groups"][name]
        assert of["items"] == sum(one == n for one in group.values()) and of["held_out"] == wanted[n]
        assert of["recall"] == pytest.approx(hits[n] / wanted[n], nan_ok=True)
        assert of["places"] == pytest.approx(np.mean([group[item] == n for item in shown]))
    assert wanted[3] > 0 and wanted.sum() == len(np.unique(test[np.isin(test[:, 0], train[:, 0])], axis=0))
    assert found["coverage"] == len(set(shown)) / ITEMS
    assert found["arp"] == pytest.approx(np.mean([np.mean(popularity[own]) for own in lists]))
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    apart = [1 - unit[i] @ unit[j] for own in lists for i, j in itertools.combinations(own, 2)]
    assert found["diversity"] == pytest.approx(np.mean(apart))


def test_lists_of_blocks_of_users_with_places_to_spare(splits, rng, monkeypatch):
    train, valid, _ = splits
    scores = rng.normal(size=(USERS, ITEMS))
    made = sea_jax.Recommender.from_vectors(np.eye(USERS), scores.T, train)
    monkeypatch.setattr(list_metrics, "BLOCK", 5)
    users = np.array([0, 1, 3, 4, 6, 8, 9, 11])
    for left_out in (list_metrics.NOBODY, valid):
        found = list_metrics.lists_of(made, users, 99, left_out)
        assert found.shape == (8, ITEMS)
        for row, user in zip(found, users.tolist(), strict=True):
            assert listed(row) == by_hand(scores[user], items_of(train, user) | items_of(left_out, user), ITEMS)
    denied = list_metrics.lists_of(made, users, 3, control=Control(deny=[2]))
    assert 2 not in denied and denied.shape == (8, 3)
    assert list_metrics.served(made, train, list_metrics.NOBODY, 3) == {"users": 0}


def test_the_examples_run():
    found = doctest.testmod(list_metrics)
    assert found.attempted == 3 and not found.failed


def test_no_jax_is_needed():
    code = "import sys; sys.modules['jax'] = sys.modules['flax'] = None; import sea_jax.list_metrics"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent.parent, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
