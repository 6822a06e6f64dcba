"""Full ranking over all items in blocks of users, and the ranking metrics, as mergeable sums and counts."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from sea_jax import axis as ax
from sea_jax.arrays import Array
from sea_jax.config import METRICS

BLOCK_BYTES = 64 << 20  # of scores at hand at any moment


class Lists(NamedTuple):
    """(row, item) pairs of each block of users, padded with a row past the block's end.

    rows, items: (blocks, pairs) int32.
    """

    rows: Int[Array, "blocks pairs"]
    items: Int[Array, "blocks pairs"]


class RankingData(NamedTuple):
    """One device's users: whom to rank for, what to leave out, and what counts as a hit.

    users: (blocks, b) int32 rows of the device's users, past the end for padding. masked: training positives.
    held_out: by split. masked_at_test: what test leaves out besides, or None.
    """

    users: Int[Array, "blocks b"]
    masked: Lists
    held_out: dict[str, Lists]
    masked_at_test: Lists | None


def user_counts(
    train: Int[np.ndarray, "n 2"], valid: Int[np.ndarray, "v 2"], test: Int[np.ndarray, "t 2"], num_users: int
) -> dict[str, dict[str, int]]:
    """By split, how many users count, and how many are left out for want of training or held-out interactions.

    As in the MMRec protocol, a user counts who has a training interaction and a held-out one in that split.
    """
    trained = np.bincount(train[:, 0], minlength=num_users) > 0
    counts = {}
    for split, pairs in (("valid", valid), ("test", test)):
        has = np.bincount(pairs[:, 0], minlength=num_users) > 0
        counts[split] = {
            "counted": int((has & trained).sum()),
            "without_training": int((has & ~trained).sum()),
            "without_held_out": int((~has).sum()),
        }
    return counts


def ranking_data(
    train: Int[np.ndarray, "n 2"],
    valid: Int[np.ndarray, "v 2"],
    test: Int[np.ndarray, "t 2"],
    num_users: int,
    num_items: int,
    *,
    parts: int = 1,
    mask_valid_at_test: bool = False,
    block_bytes: int = BLOCK_BYTES,
) -> list[RankingData]:
    """Prepares the ranking on the host, for each of `parts` devices that share the users.

    Only users who count in a split (see `user_counts`) are ranked for.
    """
    held_out = {"valid": np.unique(valid, axis=0), "test": np.unique(test, axis=0)}
    present = sum(np.bincount(pairs[:, 0], minlength=num_users) for pairs in held_out.values()) > 0
    users = np.flatnonzero((np.bincount(train[:, 0], minlength=num_users) > 0) & present)
    rows = -(-num_users // parts)
    size = np.bincount(users // rows, minlength=parts)
    block = max(1, min(size.max(), block_bytes // (4 * num_items)))
    blocks = max(1, -(-size.max() // block))
    # A user's place: the device, and the position among the device's users.
    position = np.full(num_users, -1)
    position[users] = np.arange(len(users)) - np.append(0, np.cumsum(size))[users // rows]
    position[users] += users // rows * blocks * block
    listed = np.full(parts * blocks * block, rows)
    listed[position[users]] = users % rows
    listed = listed.astype(np.int32).reshape(parts, blocks, block)

    def lists(pairs):
        pairs = pairs[position[pairs[:, 0]] >= 0]
        place = position[pairs[:, 0]]
        order = np.argsort(place, kind="stable")
        place, items = place[order], pairs[order, 1]
        owner = place // block
        length = np.bincount(owner, minlength=parts * blocks)
        column = np.arange(len(owner)) - np.append(0, np.cumsum(length))[owner]
        found = Lists(*np.zeros((2, parts * blocks, max(1, length.max())), np.int32))
        found.rows[:] = block
        found.rows[owner, column], found.items[owner, column] = place % block, items
        return Lists(*(x.reshape(parts, blocks, -1) for x in found))

    whole = RankingData(
        users=listed,
        masked=lists(train),
        held_out={split: lists(pairs) for split, pairs in held_out.items()},
        masked_at_test=lists(valid) if mask_valid_at_test else None,
    )
    return [jax.tree.map(lambda x, part=part: x[part], whole) for part in range(parts)]


def hit_metrics(hits: Bool[Array, "b k"], held_out: Int[Array, " b"], cut: int) -> dict[str, Float[Array, " b"]]:
    """Each user's metrics at one cut-off.

    recall = hits / held out; precision = hits / cut; hit = any; mrr = 1 / rank of the first hit;
    ndcg = DCG / DCG of the ideal list; map = sum over hits of precision at the hit / min(cut, held out).

    Args:
      hits: whether each place of the list holds a held-out item; at most `cut` places are read.
      held_out: how many items each user has held out, at least 1.
      cut: k; it may exceed the catalogue.
    """
    hits = hits[:, :cut].astype(jnp.float32)
    rank = jnp.arange(1, hits.shape[1] + 1)
    gain = 1 / jnp.log2(rank + 1.0)
    # The ideal list may be longer than the catalogue's places only if k is; then all held-out items fit.
    ideal = jnp.cumsum(gain)[jnp.minimum(jnp.minimum(held_out, cut), hits.shape[1]) - 1]
    found = hits.sum(axis=1)
    precision_at = jnp.cumsum(hits, axis=1) / rank
    return {
        "recall": found / held_out,
        "ndcg": (hits @ gain) / ideal,
        "precision": found / cut,
        "map": jnp.sum(hits * precision_at, axis=1) / jnp.minimum(held_out, cut),
        "hit": (found > 0).astype(jnp.float32),
        "mrr": jnp.max(hits / rank, axis=1),
    }


def above(scores: Float[Array, "b items"], rows: Int[Array, " pairs"], items: Int[Array, " pairs"]) -> Array:
    """How many items rank above each (row, item) pair, of a higher score or of an equal one and a lower number.

    Counting replaces sorting: a split has about as many pairs as users, and only their ranks matter.

    Args:
      scores: -inf for items left out.
      rows, items: (pairs,); rows past the end are padding, whose ranks mean nothing.
    Returns: (pairs,) int32.
    """

    def one(row, item):
        others = scores[jnp.minimum(row, scores.shape[0] - 1)]
        own = others[item]
        return jnp.sum((others > own) | ((others == own) & (jnp.arange(others.shape[0]) < item)), dtype=jnp.int32)

    # On CPU gathering the rows first takes six times as long; elsewhere a loop of many small steps would.
    return jax.lax.platform_dependent(
        rows, items, cpu=lambda *pairs: jax.lax.map(lambda pair: one(*pair), pairs), default=jax.vmap(one)
    )


def hits_of(
    scores: Float[Array, "b items"], held_out: Lists, places: int
) -> tuple[Bool[Array, "b places"], Int[Array, " b"]]:
    """Whether each place of each user's list holds a held-out item, and how many the user has held out.

    Args:
      scores: -inf for items left out; they are no hits.
      held_out: distinct pairs.
      places: length of the list.
    """
    rows, items = held_out
    place = above(scores, rows, items)
    listed = scores.at[rows, items].get(mode="fill", fill_value=-jnp.inf) > -jnp.inf
    place = jnp.where(listed, place, places)  # past the end: dropped
    hits = jnp.zeros((scores.shape[0], places), bool).at[rows, place].set(True, mode="drop")
    return hits, jnp.zeros(scores.shape[0], jnp.int32).at[rows].add(1, mode="drop")


Scores = Callable[[Int[Array, " b"]], Float[Array, "b items"]]


def user_hits(score: Scores, data: RankingData, places: int) -> dict[str, tuple[Array, Array]]:
    """By split, (users, places) whether each place of each user's list is a hit, and (users,) how many are held out.

    score: the scores of all items for some users; ties by lower item. Users in the order of `data.users`, with padding.
    """

    def block(inputs):
        users, masked, held_out, masked_at_test = inputs
        scores = score(users).at[masked.rows, masked.items].set(-jnp.inf, mode="drop")
        found = {"valid": hits_of(scores, held_out["valid"], places)}
        if masked_at_test is not None:
            scores = scores.at[masked_at_test.rows, masked_at_test.items].set(-jnp.inf, mode="drop")
        return found | {"test": hits_of(scores, held_out["test"], places)}

    blocks = jax.lax.map(block, (data.users, data.masked, data.held_out, data.masked_at_test))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), blocks)


def user_metrics(hits: tuple[Array, Array], topk: tuple[int, ...]) -> dict[str, Float[Array, " users"]]:
    """Every metric of every user of one split, in the one order of `metric_names`; 0 for users who do not count."""
    hits, count = hits
    by_cut = {cut: hit_metrics(hits, jnp.maximum(count, 1), cut) for cut in topk}
    return {f"{kind}@{cut}": jnp.where(count > 0, by_cut[cut][kind], 0) for kind in METRICS for cut in topk}


def factors(
    user: Float[Array, "users d"], item: Float[Array, "local_items d"], num_items: int, axis: ax.Axis = None
) -> Scores:
    """The score function of rows of users and items: their inner product. The items may be divided over devices."""
    item = ax.gather_rows(item, axis)[:num_items]
    return lambda users: user[jnp.minimum(users, user.shape[0] - 1)] @ item.T


def metric_sums(score: Scores, num_items: int, data: RankingData, topk: tuple[int, ...], axis: ax.Axis = None):
    """Sums over all users of every metric, {"valid": {"recall@20": ...}, "test": {...}}."""
    hits = user_hits(score, data, min(max(topk), num_items))
    sums = {split: jax.tree.map(jnp.sum, user_metrics(of, topk)) for split, of in hits.items()}
    return ax.psum(sums, axis)


def metric_names(topk: tuple[int, ...]) -> list[str]:
    """The metrics in the order in which they are shown and recorded."""
    return [f"{kind}@{cut}" for kind in METRICS for cut in topk]


def means(sums: dict, counts: dict, topk: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Metrics of the splits that anybody counts in, {"valid": {"recall@20": ...}, "test": {...}}, means over users.

    Args:
      sums: from `metric_sums`, of all users.
      counts: from `user_counts`.
      topk: cut-offs.
    """
    return {
        split: {name: float(sums[split][name]) / counts[split]["counted"] for name in metric_names(topk)}
        for split in ("valid", "test")
        if counts[split]["counted"]
    }


@partial(jax.jit, static_argnums=(3,))
def _block_metrics(scores, data: RankingData, block, topk: tuple[int, ...]):
    one = jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, block), data)
    hits = user_hits(lambda users: scores, one, min(max(topk), scores.shape[1]))
    return {split: user_metrics(of, topk) for split, of in hits.items()}


def by_user(
    score: Callable[[Int[np.ndarray, " b"]], Float[np.ndarray, "b items"]],
    train: Int[np.ndarray, "n 2"],
    valid: Int[np.ndarray, "v 2"],
    test: Int[np.ndarray, "t 2"],
    num_users: int,
    num_items: int,
    topk: tuple[int, ...],
    mask_valid_at_test: bool = False,
) -> tuple[Int[np.ndarray, " users"], dict[str, dict[str, Float[np.ndarray, " users"]]]]:
    """Every user's metrics under any score function on the host, such as a Recommender's `scores`.

    Returns: the users who count in a split; by split, metric -> their values, 0 where they do not count in that split.
    """
    (data,) = ranking_data(train, valid, test, num_users, num_items, mask_valid_at_test=mask_valid_at_test)
    found = []
    for number, users in enumerate(data.users):
        scores = np.asarray(score(np.minimum(users, num_users - 1)), np.float32)
        found.append(jax.device_get(_block_metrics(scores, data, number, tuple(topk))))
    whole = jax.tree.map(lambda *blocks: np.concatenate(blocks), *found)
    users = data.users.reshape(-1)
    real = users < num_users
    names = metric_names(tuple(topk))
    return users[real], {split: {name: whole[split][name][real] for name in names} for split in ("valid", "test")}
