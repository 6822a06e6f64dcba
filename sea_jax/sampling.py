"""Shuffled batches and negatives, drawn on the device from explicit keys."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from sea_jax.arrays import Array
from sea_jax.errors import SeaError


class Interactions(NamedTuple):
    """Training interactions, sorted by user and item, with what exact negative sampling needs.

    Items are numbered among those seen in training; p_0 < p_1 < ... being a user's positives in that numbering,
    gap_j = p_j - j counts the items before p_j that the user has not chosen, and does not decrease with j.

    users, items: (n,) int32. starts: (U + 1,) int32 first row of each user. gaps: (n,) int32.
    seen: (S,) int32 items with a training interaction. rounds: (r,) whose length is the binary search's depth.
    """

    users: Int[Array, " n"]
    items: Int[Array, " n"]
    starts: Int[Array, " users_plus_1"]
    gaps: Int[Array, " n"]
    seen: Int[Array, " s"]
    rounds: Int[Array, " r"]


def interactions(train: Int[np.ndarray, "n 2"], num_users: int) -> Interactions:
    """Training interactions as the sampler reads them.

    Raises: SeaError if there are none, or a user has every item, so that no negative exists.
    """
    if len(train) == 0:
        raise SeaError("there are no training interactions: interactions.npz, field train, is empty.")
    order = np.lexsort((train[:, 1], train[:, 0]))
    users, items = train[order].T
    seen, position = np.unique(items, return_inverse=True)
    degree = np.bincount(users, minlength=num_users)
    starts = np.append(0, np.cumsum(degree))
    if degree.max() >= len(seen):
        raise SeaError(
            f"user {int(degree.argmax())} has every item seen in training, so that no negative can be drawn; "
            "drop this user from the training interactions (interactions.npz, field train)."
        )
    gaps = position - (np.arange(len(users)) - starts[users])
    fields = (users, items, starts, gaps, seen, np.zeros(int(degree.max()).bit_length()))
    return Interactions(*(np.asarray(field, np.int32) for field in fields))


def epoch_batches(key: Array, data: Interactions, batch_size: int) -> dict[str, Array]:
    """All training interactions in random order, in batches; the last one is padded with weight 0.

    Returns: users, positives (batches, batch_size) int32 and weights (batches, batch_size) float32.
    """
    count = data.users.shape[0]
    order = jax.random.permutation(key, count)
    padding = -count % batch_size

    def batched(column):
        return jnp.pad(column, (0, padding)).reshape(-1, batch_size)

    return {
        "users": batched(data.users[order]),
        "positives": batched(data.items[order]),
        "weights": batched(jnp.ones(count, jnp.float32)),
    }


def sample_negatives(key: Array, data: Interactions, users: Int[Array, " n"]) -> Int[Array, " n"]:
    """One item per user, uniform over the items seen in training that the user has not chosen there.

    With d positives among S seen items, r is uniform in [0, S - d); the r-th unchosen item is r + #{j: gap_j <= r},
    and that count comes from a binary search. Exact, one draw per negative, nothing is rejected.
    """
    start, end = data.starts[users], data.starts[users + 1]
    rank = jax.random.randint(key, users.shape, 0, data.seen.shape[0] - (end - start))
    low, high = start, end
    for _ in range(data.rounds.shape[0]):
        middle = (low + high) // 2
        go_right = (low < high) & (data.gaps[jnp.minimum(middle, data.gaps.shape[0] - 1)] <= rank)
        low, high = jnp.where(go_right, middle + 1, low), jnp.where(go_right, high, middle)
    return data.seen[rank + low - start]


def permutations(key: Array, count: int, length: int) -> Int[Array, "count length"]:
    """Independent random permutations, (count, length) int32."""
    return jax.vmap(lambda k: jax.random.permutation(k, length))(jax.random.split(key, count)).astype(jnp.int32)
