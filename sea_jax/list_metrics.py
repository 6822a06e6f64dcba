"""What lists are like, and whom they serve how well, beside the means of evaluation.py. NumPy alone.

Lists are (U, k) numbers of items, -1 where a place is empty; `popularity` is (I,) training interactions. docs/metrics.md has
the definitions in one place.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from sea_jax.control import Control
from sea_jax.recommender import Recommender

GROUPS = ("head", "middle", "tail", "unseen")  # of items: a third of the training interactions each; none
ACTIVITY = ("light", "medium", "heavy")  # of users: thirds by training items
BLOCK = 1024  # users at a time
BLOCK_BYTES = 64 << 20  # of feature rows at hand at any moment
NOBODY = np.zeros((0, 2), np.int32)


def exposure(lists: Int[np.ndarray, "users k"], num_items: int) -> Int[np.ndarray, " items"]:
    """c_i, how often item i stands in the lists.

    Raises: ValueError for a number that no item has.

    >>> exposure(np.array([[0, 2], [2, -1]]), 4).tolist()
    [1, 0, 2, 0]
    """
    if lists.size and not -1 <= lists.min() <= lists.max() < num_items:
        raise ValueError(f"lists hold numbers from {lists.min()} to {lists.max()}; there are {num_items} items")
    return np.bincount(lists[lists >= 0], minlength=num_items)


def coverage(lists: Int[np.ndarray, "users k"], num_items: int) -> float:
    """Share of the catalogue that stands in any list.

    Source: Ge, Delgado-Battenfeld, Jannach 2010 (RecSys), catalogue coverage.
    """
    return float((exposure(lists, num_items) > 0).mean())


def gini(lists: Int[np.ndarray, "users k"], num_items: int) -> float:
    """sum_j (2 j - I - 1) c_(j) / (I sum c), c_(1) <= ... <= c_(I), items never listed included; NaN without any.

    0: all are listed alike; 1 - 1 / I: one alone. Source: Fleder, Hosanagar 2009 (Management Science).
    """
    rising = np.sort(exposure(lists, num_items))
    weights = 2 * np.arange(1, num_items + 1) - num_items - 1
    return float(weights @ rising / (num_items * rising.sum())) if rising.any() else float("nan")


def average_popularity(lists: Int[np.ndarray, "users k"], popularity: Int[np.ndarray, " items"]) -> float:
    """ARP: mean over lists of the mean training interactions of a list's items; empty lists do not count.

    Source: Yin et al. 2012 (VLDB); Abdollahpouri et al. 2019 (FLAIRS).
    """
    filled = lists >= 0
    length, sums = filled.sum(axis=1), np.where(filled, popularity[lists], 0).sum(axis=1)
    return float((sums[length > 0] / length[length > 0]).mean()) if length.any() else float("nan")


def novelty(lists: Int[np.ndarray, "users k"], popularity: Int[np.ndarray, " items"], num_users: int) -> float:
    """Mean self-information -log2(popularity / U) in bits over the places whose item has training interactions.

    An item without any would be infinitely new; its places do not count.

    Source: Zhou et al. 2010 (PNAS).
    """
    listed = np.where(popularity > 0, exposure(lists, len(popularity)), 0)
    bits = -np.log2(np.maximum(popularity, 1) / num_users)
    return float(listed @ bits / listed.sum()) if listed.any() else float("nan")


def intra_list_diversity(lists: Int[np.ndarray, "users k"], rows: Shaped[np.ndarray, "items d"]) -> float:
    """Mean over lists of the mean of 1 - cos(x_i, x_j) over pairs i < j of a list's items.

    Lists of fewer than two items do not count. The cosine of a row of zeros is 0.

    Args:
      lists: none holds an item twice.
      rows: x, whatever items are compared by.
    Source: Ziegler et al. 2005 (WWW), intra-list similarity; Zhang, Hurley 2008 (RecSys).
    """
    lists = lists[(lists >= 0).sum(axis=1) > 1]
    block, total = max(1, BLOCK_BYTES // (8 * max(1, lists.shape[1] * rows.shape[1]))), 0.0
    for start in range(0, len(lists), block):
        some = lists[start : start + block]
        x = np.where((some >= 0)[..., None], rows[some], 0).astype(np.float64)
        length, unit = (some >= 0).sum(axis=1), x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-300)
        cosines = np.square(unit.sum(axis=1)).sum(axis=1) - np.square(unit).sum(axis=(1, 2))
        total += float((1 - cosines / (length * (length - 1))).sum())
    return total / len(lists) if len(lists) else float("nan")


def popularity_groups(popularity: Int[np.ndarray, " items"]) -> Int[np.ndarray, " items"]:
    """The place in GROUPS of each item: head, middle and tail have a third of the training interactions each.

    The most popular come first, ties by lower number; an item belongs where its first interaction falls. An item without
    interactions is unseen.

    >>> popularity_groups(np.array([0, 2, 6, 4])).tolist()
    [3, 2, 0, 1]
    """
    order = np.argsort(-popularity, kind="stable")
    before = np.cumsum(popularity[order]) - popularity[order]
    groups = np.empty(len(popularity), np.int64)
    groups[order] = np.minimum(3 * before // max(1, popularity.sum()), 2)
    groups[popularity == 0] = 3
    return groups


def activity_groups(activity: Int[np.ndarray, " users"]) -> Int[np.ndarray, " users"]:
    """The place in ACTIVITY of each user: floor(3 x the share of users who are less active).

    Equally active users are never parted, so that the groups are thirds only where few are equal.

    >>> activity_groups(np.array([5, 5, 9, 5, 30, 7])).tolist()
    [0, 0, 2, 0, 2, 1]
    """
    less = np.searchsorted(np.sort(activity), activity, side="left")
    return 3 * less // max(1, len(activity))


def hits(lists: Int[np.ndarray, "users k"], held_out: Int[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Whether each held-out (row of the lists, item) is in its list."""
    return (lists[held_out[:, 0]] == held_out[:, 1, None]).any(axis=1)


def recall(lists: Int[np.ndarray, "users k"], held_out: Int[np.ndarray, "n 2"]) -> Float[np.ndarray, " users"]:
    """Each list's share of what is held out of it, 0 where nothing is.

    Args:
      held_out: distinct (row of the lists, item), as `rows_of` makes them.
    """
    rows = held_out[:, 0]
    found = np.bincount(rows[hits(lists, held_out)], minlength=len(lists))
    return found / np.maximum(np.bincount(rows, minlength=len(lists)), 1)


def by_popularity(
    lists: Int[np.ndarray, "users k"], held_out: Int[np.ndarray, "n 2"], popularity: Int[np.ndarray, " items"]
) -> dict[str, dict[str, Any]]:
    """Of each group in GROUPS: "items", "held_out" interactions, "recall" and "places", its share of all places.

    The recall is that of the group's held-out interactions together, not a mean over users; NaN where there are none.

    Args:
      held_out: distinct (row of the lists, item).
    """
    groups, listed = popularity_groups(popularity), exposure(lists, len(popularity))
    of, hit = groups[held_out[:, 1]], hits(lists, held_out)
    return {
        name: {
            "items": int((groups == n).sum()),
            "held_out": int((of == n).sum()),
            "recall": float(hit[of == n].mean()) if (of == n).any() else float("nan"),
            "places": float(listed[groups == n].sum() / max(1, listed.sum())),
        }
        for n, name in enumerate(GROUPS)
    }


def by_activity(
    values: dict[str, Float[np.ndarray, " users"]], activity: Int[np.ndarray, " users"]
) -> dict[str, dict[str, Any]]:
    """Of each group in ACTIVITY that has users: "users", the "least" and the "most" active, and the mean of each metric.

    Args:
      values: by metric, of each user.
      activity: of each user, training items.
    """
    groups, found = activity_groups(activity), {}
    for n, name in enumerate(ACTIVITY):
        own = groups == n
        if own.any():
            span = {"users": int(own.sum()), "least": int(activity[own].min()), "most": int(activity[own].max())}
            found[name] = span | {metric: float(of[own].mean()) for metric, of in values.items()}
    return found


def users_who_count(train: Int[np.ndarray, "n 2"], held_out: Int[np.ndarray, "m 2"]) -> Int[np.ndarray, " users"]:
    """The users, rising, who have a training interaction and a held-out one."""
    return np.intersect1d(train[:, 0], held_out[:, 0])


def rows_of(users: Int[np.ndarray, " users"], pairs: Int[np.ndarray, "n 2"]) -> Int[np.ndarray, "m 2"]:
    """The distinct pairs of `users` (rising), each user replaced by their place among them."""
    pairs = np.unique(pairs[np.isin(pairs[:, 0], users)], axis=0)
    return np.stack([np.searchsorted(users, pairs[:, 0]), pairs[:, 1]], axis=1)


def lists_of(
    made: Recommender,
    users: Int[np.ndarray, " n"],
    k: int,
    left_out: Int[np.ndarray, "m 2"] = NOBODY,
    control: Control | None = None,
) -> Int[np.ndarray, "n k"]:
    """Numbers of what is recommended to users of these numbers, at most the catalogue's many places.

    Args:
      users: distinct, rising.
      left_out: further pairs of user and item that lists do not hold; what users have seen never stands there.
      control: wishes about the lists.
    """
    k, left_out = min(k, len(made.item_ids)), rows_of(users, left_out)
    barred = np.split(left_out[:, 1], np.searchsorted(left_out[:, 0], np.arange(1, len(users))))
    found = np.full((len(users), k), -1)
    for start in range(0, len(users), BLOCK):
        some = slice(start, start + BLOCK)
        places = min(k + max(map(len, barred[some])), len(made.item_ids))
        ids, _ = made.recommend(made.user_ids[users[some]], places, control=control)
        for row, own in enumerate(_numbers(made, ids), start=start):
            kept = own[~np.isin(own, barred[row])][:k] if len(barred[row]) else own[:k]
            found[row, : len(kept)] = kept
    return found


def _numbers(made: Recommender, ids: Shaped[np.ndarray, "n k"]) -> Int[np.ndarray, "n k"]:
    """Item numbers of ids, -1 for None."""
    known = np.not_equal(ids, None) if ids.dtype == object else np.ones(ids.shape, bool)
    numbers = np.full(ids.shape, -1)
    numbers[known] = made.numbers("item", ids[known].tolist())
    return numbers


def served(
    made: Recommender,
    train: Int[np.ndarray, "n 2"],
    held_out: Int[np.ndarray, "m 2"],
    k: int,
    left_out: Int[np.ndarray, "l 2"] = NOBODY,
    rows: Shaped[np.ndarray, "items d"] | None = None,
) -> dict[str, Any]:
    """What the lists of the users who count in a split are like, and how well they serve by popularity of items.

    Args:
      train, held_out: pairs of user and item, those of the split held out.
      k: length of the lists; training items are left out.
      left_out: what they leave out besides, as those of validation.
      rows: of the items, for "diversity".
    Returns: {"users", "groups" as `by_popularity` has them, "coverage", "gini", "arp", "novelty", with rows "diversity"};
      "users" alone where nobody counts.
    """
    users = users_who_count(train, held_out)
    if not len(users):
        return {"users": 0}
    popularity = np.bincount(train[:, 1], minlength=len(made.item_ids))
    lists = lists_of(made, users, k, left_out)
    found = {
        "users": len(users),
        "groups": by_popularity(lists, rows_of(users, held_out), popularity),
        "coverage": coverage(lists, len(popularity)),
        "gini": gini(lists, len(popularity)),
        "arp": average_popularity(lists, popularity),
        "novelty": novelty(lists, popularity, len(made.user_ids)),
    }
    return found if rows is None else found | {"diversity": intra_list_diversity(lists, rows)}


def table(found: dict[str, Any], activity: dict[str, dict[str, Any]], space: str = "") -> str:
    """The results of `served` and `by_activity` as lines of text; `space` says what diversity compares items by."""
    about = [
        ("item coverage", f"{found['coverage']:.4f}", "share of the catalogue that is in any list"),
        ("Gini", f"{found['gini']:.4f}", "0: all items listed alike, 1: one alone"),
        ("average popularity", f"{found['arp']:.2f}", "training interactions"),
        ("novelty", f"{found['novelty']:.4f}", "bits"),
    ]
    if "diversity" in found:
        about.append(("diversity", f"{found['diversity']:.4f}", f"1 - mean cosine of a list's pairs by {space}"))
    lines = [f"  {name:20s}{value:>10s}  {meaning}" for name, value, meaning in about]
    lines.append(f"  {'by popularity':20s}{'items':>10s}{'held out':>10s}{'recall':>10s}{'places':>10s}")
    for name, of in found["groups"].items():
        cells = f"{of['items']:10d}{of['held_out']:10d}{of['recall']:10.4f}{of['places']:10.4f}"
        lines += [f"    {name:18s}{cells}"] if of["items"] else []
    metrics = [name for name in next(iter(activity.values())) if name not in ("users", "least", "most")]
    wide = max(map(len, metrics)) + 2
    lines.append(f"  {'by activity':20s}{'users':>10s}" + "".join(f"{name:>{wide}s}" for name in metrics))
    for name, of in activity.items():
        span = f"{name}, {of['least']} to {of['most']}"
        lines.append(f"    {span:18s}{of['users']:10d}" + "".join(f"{of[metric]:{wide}.4f}" for metric in metrics))
    return "\n".join(lines)
