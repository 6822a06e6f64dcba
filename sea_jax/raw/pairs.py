"""Interactions and what is kept of them: ratings, dates, duplicates, long histories, the k-core. NumPy only."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from sea_jax.errors import SeaError


@dataclasses.dataclass(frozen=True)
class Interactions:
    """A table of interactions in the order of its file.

    users, items: (n,) int32, numbers that stand for ids. user_ids, item_ids: what they stand for. times: (n,) float64
    seconds since 1970, or None. ratings: (n,) float64, or None. labels: (n,) int8, 0 train, 1 valid, 2 test, or None.
    ordered: whether each user's rows are in order of time, though times are not known.
    """

    users: np.ndarray
    items: np.ndarray
    user_ids: Sequence
    item_ids: Sequence
    times: np.ndarray | None = None
    ratings: np.ndarray | None = None
    labels: np.ndarray | None = None
    ordered: bool = False

    def __len__(self) -> int:
        return len(self.users)

    def keep(self, rows: np.ndarray) -> "Interactions":
        """The rows that a mask or an array of their numbers names."""
        columns = ("users", "items", "times", "ratings", "labels")
        chosen = {name: getattr(self, name) for name in columns}
        return dataclasses.replace(self, **{name: x[rows] for name, x in chosen.items() if x is not None})

    def counts(self) -> dict[str, int]:
        """Interactions, and users and items that have some."""
        return {
            "interactions": len(self),
            "users": int(np.count_nonzero(np.bincount(self.users))) if len(self) else 0,
            "items": int(np.count_nonzero(np.bincount(self.items))) if len(self) else 0,
        }


class Steps:
    """The steps a table went through, with counts before and after: `steps("5-core", table)`."""

    def __init__(self, table: Interactions):
        self.before, self.record = table.counts(), []

    def __call__(self, step: str, table: Interactions) -> Interactions:
        after = table.counts()
        self.record.append({"step": step, **{name: [self.before[name], after[name]] for name in after}})
        self.before = after
        if not len(table):
            raise SeaError(f"no interaction is left after this step: {step}; ask for less.")
        return table


def rated(table: Interactions, low: float | int) -> Interactions:
    """Those with a rating of at least `low`."""
    if table.ratings is None:
        raise SeaError("--min_rating needs a column of ratings; name it with --rating_column.")
    return table.keep(table.ratings >= low)


def dated(table: Interactions, since: float | int | None, until: float | int | None) -> Interactions:
    """Those from `since` on and before `until`, in seconds since 1970."""
    if table.times is None:
        raise SeaError("--since and --until need a column of times; name it with --time_column.")
    low, high = -np.inf if since is None else since, np.inf if until is None else until
    return table.keep((table.times >= low) & (table.times < high))


def distinct(table: Interactions, which: str = "first") -> Interactions:
    """Each user and item once: the first or last by time, then by place in the file.

    Of rows that carry labels, the one with the lowest label, so that nothing trained on is also held out.
    """
    if which not in ("first", "last"):
        raise SeaError(f"--duplicates={which} must be first or last.")
    codes = table.users.astype(np.int64) * (int(table.items.max(initial=0)) + 1) + table.items
    order = np.argsort(codes)
    same = codes[order[1:]] == codes[order[:-1]]
    if not same.any():
        return table
    rows = np.sort(order[np.append(same, False) | np.append(False, same)])
    times = np.zeros(len(rows)) if table.times is None else table.times[rows]
    sign = 1 if which == "first" else -1
    labels = np.zeros(len(rows)) if table.labels is None else table.labels[rows]
    order = np.lexsort((sign * rows, sign * times, labels, codes[rows]))
    ranked = codes[rows[order]]
    dropped = rows[order[1:][ranked[1:] == ranked[:-1]]]
    keep = np.ones(len(table), bool)
    keep[dropped] = False
    return table.keep(keep)


def latest(table: Interactions, most: int) -> Interactions:
    """Of each user the `most` latest by time, then by place in the file."""
    if most < 1:
        raise SeaError(f"--max_history={most} must be at least 1.")
    degree = np.bincount(table.users)
    if degree.max(initial=0) <= most:
        return table
    order = by_user(table)
    ends = np.cumsum(degree)
    keep = np.zeros(len(table), bool)
    keep[order[ends[table.users[order]] - np.arange(len(order)) <= most]] = True
    return table.keep(keep)


def by_user(table: Interactions) -> np.ndarray:
    """Row numbers, user by user, each in order of time, then of place in the file."""
    if table.times is None:
        return np.argsort(table.users, kind="stable")
    return np.lexsort((table.times, table.users))


def core(table: Interactions, users: int, items: int) -> Interactions:
    """The largest part in which each user has `users` interactions and each item `items`; it is unique."""
    rows = np.arange(len(table))
    while len(rows):
        of_user, of_item = table.users[rows], table.items[rows]
        good = (np.bincount(of_user) >= users)[of_user] & (np.bincount(of_item) >= items)[of_item]
        if good.all():
            break
        rows = rows[good]
    return table if len(rows) == len(table) else table.keep(rows)


def numbered(table: Interactions) -> Interactions:
    """Users and items numbered from 0 in the order in which the rows name them; those that no row names are left out."""
    users, user_ids = _number(table.users, table.user_ids)
    items, item_ids = _number(table.items, table.item_ids)
    return dataclasses.replace(table, users=users, items=items, user_ids=user_ids, item_ids=item_ids)


def _number(codes: np.ndarray, ids: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    first = np.full(len(ids), len(codes))
    first[codes[::-1]] = np.arange(len(codes))[::-1]  # of several values for one place the last stays
    named = np.flatnonzero(first < len(codes))
    named = named[np.argsort(first[named], kind="stable")]
    number = np.full(len(ids), -1, np.int32)
    number[named] = np.arange(len(named), dtype=np.int32)
    return number[codes], [ids[code] for code in named.tolist()]
