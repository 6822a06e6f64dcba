"""Every rule of a split: its counts, what it must never do, and that a draw depends on nothing but its seed."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sea_jax.errors import SeaError
from sea_jax.raw import pairs, splits
from sea_jax.raw.pairs import Interactions


def made(degrees, seed=0, items=40):
    """A table of users with so many interactions, in a drawn order, with times."""
    rng = np.random.default_rng(seed)
    both = [(user, item) for user, degree in enumerate(degrees) for item in rng.permutation(items)[:degree]]
    users, chosen = np.array(both, np.int32)[rng.permutation(len(both))].T
    return Interactions(
        users, chosen, range(len(degrees)), range(items), times=rng.integers(0, 50, len(users)).astype(float)
    )


def counts(table, labels):
    return np.stack(
        [np.bincount(table.users[labels == label], minlength=len(table.user_ids)) for label in range(3)], axis=1
    )


def test_published_rule():
    degrees = np.array([1, 2, 3, 5, 9, 10, 11, 14, 15, 19, 20, 24, 25, 39])
    table = made(degrees)
    found = counts(table, splits.split(table, "mmrec", seed=3))
    for degree, row in zip(degrees, found.tolist(), strict=True):
        held = int(degree * 0.2)
        wanted = (
            [degree, 0, 0]
            if degree < 3
            else [degree - 2, 1, 1]
            if degree < 10
            else [degree - held, held // 2, held - held // 2]
        )
        assert row == wanted


def test_a_fifth_in_whole_numbers_is_the_published_fifth_in_floating_ones():
    degree = np.arange(10, 100_000)
    valid, test = splits.published(degree)
    np.testing.assert_array_equal(valid + test, [int(n * 0.2) for n in degree.tolist()])


def test_shares_are_counted_as_recbole_counts_them():
    """int(share * n); what is below one gets one while training has more than one, test first."""
    degree = np.arange(1, 60)
    valid, test = splits.shares_of(degree, (0.8, 0.1, 0.1))
    for n, v, t in zip(degree.tolist(), valid.tolist(), test.tolist(), strict=True):
        count = [0, int(0.1 * n), int(0.1 * n)]
        count[0] = n - sum(count[1:])
        for place in (2, 1):
            if count[0] <= 1:
                break
            if 0 < 0.1 * n < 1:
                count[place] += 1
                count[0] -= 1
        assert (v, t) == (count[1], count[2])


def test_a_draw_depends_on_seed_user_and_item_alone():
    table = made([12, 7, 30])
    labels = splits.split(table, "mmrec", seed=1)
    order = np.random.default_rng(5).permutation(len(table))
    np.testing.assert_array_equal(splits.split(table.keep(order), "mmrec", seed=1), labels[order])
    assert (splits.split(table, "mmrec", seed=2) != labels).any()
    # Recorded once: a later version must divide alike.
    assert splits.mixed(1, np.array([0, 1]), np.array([2, 3])).tolist() == RECORDED


RECORDED = [834844254806117752, 10397244254371068502]


@pytest.mark.parametrize("rule", ["user_time", "leave_last_out"])
def test_by_time_nothing_is_trained_on_after_what_is_held_out(rule):
    table = made([1, 2, 3, 9, 30])
    labels = splits.split(table, rule)
    for user in range(5):
        rows = np.flatnonzero(table.users == user)
        ordered = rows[np.lexsort((rows, table.times[rows]))]
        assert (np.diff(labels[ordered]) >= 0).all()
    if rule == "leave_last_out":
        assert counts(table, labels).tolist() == [[1, 0, 0], [2, 0, 0], [1, 1, 1], [7, 1, 1], [28, 1, 1]]


@settings(max_examples=50)
@given(st.lists(st.integers(0, 6), min_size=4, max_size=40))
def test_global_time_has_no_future_in_training(times):
    count = len(times)
    table = Interactions(
        np.zeros(count, np.int32), np.arange(count, dtype=np.int32), ["u"], range(count), times=np.array(times, float)
    )
    try:
        labels = splits.split(table, "global_time")
    except SeaError as error:
        assert "nothing to train on" in str(error)
        return
    latest = [table.times[labels == label].max(initial=-1) for label in range(3)]
    earliest = [table.times[labels == label].min(initial=99) for label in range(3)]
    assert latest[0] < min(earliest[1:])
    assert latest[1] < earliest[2]
    dated = splits.split(table, "global_time", valid_from=3, test_from=5) if min(times) < 3 else None
    if dated is not None:
        np.testing.assert_array_equal(dated, np.digitize(times, [3, 5]))


def test_cold_items_hold_whole_items_out():
    table = made([20] * 10)
    labels = splits.split(table, "cold_items", seed=4)
    of_item = {item: set(labels[table.items == item].tolist()) for item in range(40)}
    assert all(len(found) <= 1 for found in of_item.values())
    assert sum(found == {2} for found in of_item.values()) == 4
    assert sum(found == {1} for found in of_item.values()) == 4
    assert "4 of them without" in splits.report(table, labels)[1]


def test_given_and_what_is_refused():
    table = made([5])
    with pytest.raises(SeaError, match="--split_column"):
        splits.split(table, "given")
    labelled = Interactions(table.users, table.items, ["u"], range(40), labels=np.array([0, 1, 2, 0, 0]))
    assert splits.split(labelled, "given").tolist() == [0, 1, 2, 0, 0]
    with pytest.raises(SeaError, match="column of times"):
        splits.split(labelled, "leave_last_out")
    with pytest.raises(SeaError, match="not one of"):
        splits.split(table, "guess")
    for ratios in ((0.5, 0.5), (0.5, 0.6, -0.1), (0, 0.5, 0.5)):
        with pytest.raises(SeaError, match="--ratios"):
            splits.split(table, "random", ratios=ratios)


def test_lists_that_are_in_order_need_no_times():
    table = Interactions(np.zeros(4, np.int32), np.arange(4, dtype=np.int32), ["u"], range(4), ordered=True)
    assert splits.split(table, "leave_last_out").tolist() == [0, 0, 1, 2]


@pytest.mark.skipif(not os.environ.get("SEA_JAX_DATA"), reason="SEA_JAX_DATA names no folder of real data")
def test_the_published_counts_of_baby_follow_from_its_degrees():
    rows = np.loadtxt(
        Path(os.environ["SEA_JAX_DATA"]) / "baby_interactions" / "baby.inter", np.int64, skiprows=1, usecols=(0, 1)
    )
    table = Interactions(*rows.T.astype(np.int32), range(19445), range(7050))
    table = pairs.core(pairs.distinct(table), 5, 5)
    assert table.counts() == {"interactions": 160_792, "users": 19_445, "items": 7_050}
    for seed in (0, 1):
        assert np.bincount(splits.split(table, "mmrec", seed=seed)).tolist() == [118_551, 20_559, 21_682]
