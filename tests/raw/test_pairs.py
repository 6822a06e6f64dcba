"""Filters give what their words say, on any table; the k-core is the one that removing one at a time gives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sea_jax.errors import SeaError
from sea_jax.raw import pairs
from sea_jax.raw.pairs import Interactions


def table(users, items, **columns):
    users, items = np.array(users, np.int32), np.array(items, np.int32)
    ids = [f"id{n}" for n in range(max([*users.tolist(), *items.tolist(), 0]) + 1)]
    columns = {name: np.array(x, np.int8 if name == "labels" else np.float64) for name, x in columns.items()}
    return Interactions(users, items, ids, ids, **columns)


ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=40
)


@given(ROWS, st.sampled_from(["first", "last"]))
def test_distinct_keeps_the_first_or_last_by_time_then_place(rows, which):
    users, items, times, _ = map(list, zip(*rows, strict=True))
    found = pairs.distinct(table(users, items, times=times), which)
    best = {}
    for place, (user, item, time, _) in enumerate(rows):
        key = (time, place) if which == "first" else (-time, -place)
        if (user, item) not in best or key < best[user, item][0]:
            best[user, item] = (key, place)
    kept = sorted(place for _, place in best.values())
    assert list(zip(found.users, found.items, found.times, strict=True)) == [rows[place][:3] for place in kept]


@given(ROWS)
def test_of_duplicates_in_several_splits_the_training_one_stays(rows):
    users, items, _, labels = map(list, zip(*rows, strict=True))
    for which in ("first", "last"):
        found = pairs.distinct(table(users, items, labels=labels), which)
        for user, item, label in zip(found.users, found.items, found.labels, strict=True):
            assert label == min(row[3] for row in rows if row[:2] == (user, item))


@settings(max_examples=60)
@given(ROWS, st.integers(1, 4), st.integers(1, 4))
def test_the_core_is_that_of_removing_one_at_a_time(rows, least_users, least_items):
    users, items, times, _ = map(list, zip(*rows, strict=True))
    found = pairs.core(table(users, items, times=times), least_users, least_items)
    left = list(rows)
    while True:
        bad = next(
            (
                row for row in left
                if sum(r[0] == row[0] for r in left) < least_users or sum(r[1] == row[1] for r in left) < least_items
            ),
            None,
        )  # fmt: skip
        if bad is None:
            break
        left.remove(bad)
    assert sorted(zip(found.users, found.items, found.times, strict=True)) == sorted(row[:3] for row in left)


@given(ROWS, st.integers(1, 4))
def test_latest(rows, most):
    users, items, times, _ = map(list, zip(*rows, strict=True))
    found = pairs.latest(table(users, items, times=times), most)
    kept = []
    for user in set(users):
        own = sorted((row[2], place) for place, row in enumerate(rows) if row[0] == user)
        kept += [place for _, place in own[-most:]]
    assert list(zip(found.users, found.items, strict=True)) == [rows[place][:2] for place in sorted(kept)]


@given(ROWS)
def test_numbers_are_in_the_order_in_which_rows_name_them(rows):
    users, items, _, _ = map(list, zip(*rows, strict=True))
    found = pairs.numbered(table(users, items))
    assert found.user_ids == [f"id{user}" for user in dict.fromkeys(users)]
    assert [found.item_ids[item] for item in found.items] == [f"id{item}" for item in items]
    assert found.users.dtype == np.int32


def test_ratings_dates_and_the_record():
    start = table([0, 0, 1, 2], [0, 1, 1, 1], ratings=[5, 2, 4, 3], times=[1, 2, 3, 4])
    steps = pairs.Steps(start)
    steps("ratings of 3 and more", pairs.rated(start, 3))
    assert steps.record == [{"step": "ratings of 3 and more", "interactions": [4, 3], "users": [3, 3], "items": [2, 2]}]
    assert pairs.dated(start, 2, 4).times.tolist() == [2, 3]
    assert pairs.dated(start, None, 2).times.tolist() == [1]
    with pytest.raises(SeaError, match="no interaction is left after this step: 9-core"):
        steps("9-core", pairs.core(start, 9, 9))
    for call in (lambda: pairs.rated(table([0], [0]), 3), lambda: pairs.dated(table([0], [0]), 1, 2)):
        with pytest.raises(SeaError, match=r"needs? a column"):
            call()
