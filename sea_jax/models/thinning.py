"""The user-item graph thinned for an epoch: some of its pairs, drawn in proportion to their weight in the whole graph."""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from sea_jax import graph
from sea_jax.arrays import Array
from sea_jax.data import Data
from sea_jax.sampling import Interactions


def first_of_pair(pairs: Interactions) -> Bool[Array, " n"]:
    """Whether each interaction is the first of its pair: one that is listed twice is one edge."""
    users, items = jnp.asarray(pairs.users), jnp.asarray(pairs.items)  # sorted, so that repeats are neighbours
    repeated = (users[1:] == users[:-1]) & (items[1:] == items[:-1])
    return jnp.append(True, ~repeated)


def pair_weights(pairs: Interactions, kept: Bool[Array, " n"], num_items: int) -> Float[Array, " n"]:
    """1 / sqrt(d_u d_i) of each interaction that is kept, with degrees counted among the kept ones; 0 of the others."""
    ones = kept.astype(jnp.float32)
    of_user = jax.ops.segment_sum(ones, pairs.users, pairs.starts.shape[0] - 1, indices_are_sorted=True)
    of_item = jax.ops.segment_sum(ones, pairs.items, num_items)
    return ones * jax.lax.rsqrt(jnp.maximum(of_user[pairs.users] * of_item[pairs.items], 1.0))


def draw_pairs(key: Array, pairs: Interactions, count: int, num_items: int) -> Bool[Array, " n"]:
    """Which interactions are kept: `count`, drawn without replacement, in proportion to 1 / sqrt(d_u d_i).

    The `count` largest of log weight + Gumbel noise are such a draw, exactly (Kool et al. 2019, arXiv 1903.06059). The
    same on every device, since each draws for all.
    """
    distinct = first_of_pair(pairs)
    weights = pair_weights(pairs, distinct, num_items)
    keys = jnp.log(weights) + jax.random.gumbel(key, weights.shape)
    largest = jnp.argsort(keys, descending=True)[:count]
    return jnp.zeros_like(distinct).at[largest].set(True) & distinct


def thinned(data: Data, kept: Bool[Array, " n"], num_items: int) -> Data:
    """The data with these interactions alone in the user-item graph: the same pattern, other weights."""
    weights = jnp.append(pair_weights(data.interactions, kept, num_items), 0.0)  # the last for padding
    return data._replace(adjacency=graph.reweight(data.adjacency, weights[data.edges]))
