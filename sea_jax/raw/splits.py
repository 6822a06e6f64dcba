"""Which interactions are for training, validation and test: labels 0, 1 and 2. NumPy only.

The rules and their names: `random` draws shares of each user's interactions; `mmrec` is the rule of the published
datasets; `leave_last_out` and `user_time` hold out what each user did last; `global_time` what everybody did after a
moment; `cold_items` whole items; `given` takes the data's own labels. A draw is a function of seed, user and item alone,
and so neither of the order of rows nor of a library's version.
"""

import numpy as np

from sea_jax.errors import SeaError
from sea_jax.raw.pairs import Interactions, by_user

RULES = ("random", "mmrec", "leave_last_out", "user_time", "global_time", "cold_items", "given")


def split(
    table: Interactions, rule: str, *, ratios=(0.8, 0.1, 0.1), seed: int = 0, valid_from=None, test_from=None
) -> np.ndarray:
    """(n,) int8 labels.

    Args:
      table: with users and items numbered.
      rule: one of RULES.
      ratios: shares of training, validation and test, for random, user_time, global_time and cold_items.
      seed: for random, mmrec and cold_items.
      valid_from, test_from: for global_time, seconds since 1970; by default quantiles of the ratios.
    Raises: SeaError if the table lacks what the rule needs, or nothing is left to train on.
    """
    ratios = _shares(ratios)
    if rule == "given":
        if table.labels is None:
            raise SeaError(
                "--split=given needs the data's own split: a column, named with --split_column, or its files."
            )
        labels = np.array(table.labels, np.int8)
    elif rule == "global_time":
        labels = _global(_times(table, rule), ratios, valid_from, test_from)
    elif rule == "cold_items":
        labels = _cold(table, ratios, seed)
    elif rule in ("user_time", "leave_last_out"):
        if not table.ordered:
            _times(table, rule)
        counts = last_two if rule == "leave_last_out" else lambda n: shares_of(n, ratios)
        labels = _by_user(table, by_user(table), counts)
    elif rule in ("random", "mmrec"):
        drawn = mixed(seed, table.users, table.items)
        order = np.lexsort((table.items, drawn, table.users))
        labels = _by_user(table, order, published if rule == "mmrec" else lambda n: shares_of(n, ratios))
    else:
        raise SeaError(f"--split={rule} is not one of {', '.join(RULES)}.")
    if not (labels == 0).any():
        raise SeaError(f"--split={rule} leaves nothing to train on; hold less out.")
    return labels


def _shares(ratios) -> tuple[float, float, float]:
    ratios = tuple(map(float, ratios))
    if len(ratios) != 3 or not all(0 <= share <= 1 for share in ratios) or abs(sum(ratios) - 1) > 1e-6 or not ratios[0]:
        raise SeaError(
            f"--ratios={','.join(f'{share:g}' for share in ratios)} must be three shares that sum to 1, training first."
        )
    return ratios


def _times(table: Interactions, rule: str) -> np.ndarray:
    if table.times is None:
        raise SeaError(f"--split={rule} needs a column of times; name it with --time_column, or choose another split.")
    return table.times


def published(degree: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(validation, test) interactions of users with so many: under 10 one each, else a fifth, the floor half of it valid.

    A user of fewer than 3, whom the published 5-cores do not have, keeps all for training.
    """
    held = np.where(degree < 10, 2, degree // 5)
    valid = held // 2
    few = degree < 3
    return np.where(few, 0, valid), np.where(few, 0, held - valid)


def last_two(degree: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(validation, test): one each, for users of 3 and more."""
    one = (degree >= 3).astype(np.int64)
    return one, one


def shares_of(degree: np.ndarray, ratios) -> tuple[np.ndarray, np.ndarray]:
    """(validation, test) for shares of each user's interactions, as RecBole counts them.

    Rounded down, but a share that is not zero gets one, test first, as long as training keeps one.
    """
    valid, test = (np.floor(degree * share + 1e-9).astype(np.int64) for share in ratios[1:])
    train = degree - valid - test
    more = (train > 1) & (test == 0) & (ratios[2] > 0)
    test, train = test + more, train - more
    more = (train > 1) & (valid == 0) & (ratios[1] > 0)
    return valid + more, test


def _by_user(table: Interactions, order: np.ndarray, counts) -> np.ndarray:
    """Labels where rows in `order` go user by user, training first, then validation, then test."""
    degree = np.bincount(table.users)
    valid, test = counts(degree)
    users = table.users[order]
    left = np.cumsum(degree)[users] - np.arange(len(order))  # 1 for a user's last row
    labels = np.zeros(len(table), np.int8)
    labels[order] = np.where(left <= test[users], 2, np.where(left <= (valid + test)[users], 1, 0))
    return labels


def _global(times: np.ndarray, ratios, valid_from, test_from) -> np.ndarray:
    """What happened at the very moment of a cut belongs to the later part, so that training has no future in it."""
    ordered = np.sort(times)

    def quantile(share):
        place = int(np.floor(share * len(ordered) + 1e-9))
        return np.inf if place >= len(ordered) else ordered[place]

    test_from = quantile(ratios[0] + ratios[1]) if test_from is None else test_from
    valid_from = min(quantile(ratios[0]), test_from) if valid_from is None else valid_from
    if valid_from > test_from:
        raise SeaError("--valid_from is later than --test_from; validation comes before test.")
    return ((times >= valid_from).astype(np.int8) + (times >= test_from)).astype(np.int8)


def _cold(table: Interactions, ratios, seed: int) -> np.ndarray:
    """Items in a drawn order; those of the last shares have all their interactions held out."""
    items = np.arange(int(table.items.max()) + 1)
    order = np.lexsort((items, mixed(seed, np.zeros_like(items), items)))
    valid, test = (int(np.floor(len(items) * share + 1e-9)) or int(share > 0) for share in ratios[1:])
    if valid + test >= len(items):
        raise SeaError(f"--split=cold_items needs more than {valid + test} items.")
    of_item = np.zeros(len(items), np.int8)
    of_item[order[len(items) - test :]] = 2
    of_item[order[len(items) - test - valid : len(items) - test]] = 1
    return of_item[table.items]


def mixed(seed: int, users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """(n,) uint64 that look drawn, a function of seed, user and item: SplitMix64 (Steele et al. 2014) of each in turn."""
    state = np.full(len(users), np.uint64(seed % 2**64), np.uint64)
    for values in (users, items):
        state = state + np.uint64(0x9E3779B97F4A7C15) * (np.asarray(values).astype(np.uint64) + np.uint64(1))
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


def report(table: Interactions, labels: np.ndarray) -> list[str]:
    """What a person should know of a split, in words: who is held out without training, what came too early."""
    words = []
    train = labels == 0
    known_user = np.bincount(table.users[train], minlength=int(table.users.max()) + 1) > 0
    known_item = np.bincount(table.items[train], minlength=int(table.items.max()) + 1) > 0
    for label, name in ((1, "valid"), (2, "test")):
        rows = labels == label
        if not rows.any():
            words.append(f"{name} is empty")
            continue
        users, items = np.unique(table.users[rows]), np.unique(table.items[rows])
        words.append(
            f"{name}: {len(users)} users, {int((~known_user[users]).sum())} of them without training interactions; "
            f"{len(items)} items, {int((~known_item[items]).sum())} of them without"
        )
    return words
