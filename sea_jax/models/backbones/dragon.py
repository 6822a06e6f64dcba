"""DRAGON: dual graphs of items and of users over propagated modalities."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sea_jax import adjacency, graph
from sea_jax import axis as ax
from sea_jax.data import item_weights
from sea_jax.models.backbones.base import Backbone, Encoded, softmax_init
from sea_jax.models.item_map import matmul
from sea_jax.models.layers import Dense, normalise
from sea_jax.models.separation import Representation
from sea_jax.propagation import power, product, propagate


class Encoder(nn.Module):
    """dense1(leaky_relu(dense0(x)))."""

    inputs: int
    hidden: int
    outputs: int

    @nn.compact
    def __call__(self, x):
        first = Dense(self.inputs, self.hidden, name="dense0")
        hidden = matmul(x, first.kernel) + first.bias
        return Dense(self.hidden, self.outputs, name="dense1")(nn.leaky_relu(hidden, 0.01))


class DRAGON(Backbone):
    """DRAGON (arXiv 2301.12097), as MMRec computes it. A: user-item graph; S: the items' fused graph.

    x^m = unit rows of [P^m ; MLP(X^m)], widths 256 and 64; H^m = x + A x + ... + A^layers x, a sum;
    u = [w_u^m H_u^m over m], y = [H_i^m over m]; user = u + W u, item = y + S^item_layers y;
    W: each user's dragon_user_neighbours users with most training items in common, ties by lower id, weighing the
    softmax of how many.

    Drawn in each epoch: a user with fewer neighbours repeats some of them to make up the number, one after the other,
    each uniform among those there so far. Ranking uses the graph without repeats, where MMRec ranks by what the last
    training step left behind (embeddings before its update, its epoch's graph).
    Own terms: `objective.dragon_penalties`, mean squares of the batch users' preferences and of all w, weighing
    --reg_weight. The ranking loss is in bits, the logarithm's base being 2 (--bpr_base).
    Against the paper: the logarithm's base; the stale embeddings. Beyond MMRec: any number of modalities. Left out:
    parameters that MMRec declares and never uses.

    With the separation, the modality representation that --split=representation splits is H_i^m.
    """

    @staticmethod
    def graphs(bundle, config):
        users = (bundle.train, bundle.num_users, bundle.num_items, config.dragon_user_neighbours)
        return {
            "item": adjacency.fuse_neighbours(bundle.neighbours, config.knn_k, item_weights(bundle, config)),
            "user": adjacency.nearest_users(*users),
        }

    def columns(self):
        return self.columns_by_modality()

    def for_epoch(self, key, data):
        """The users' graph with repeats drawn anew: the same pattern with other values."""
        draws = self.mine(jax.random.uniform(key, (self.num_users, self.config.dragon_user_neighbours)), self.num_users)
        return data._replace(graphs=data.graphs | {"user": with_repeats(data.graphs["user"], draws, self.axis)})

    @nn.compact
    def __call__(self, data, noise=None) -> Representation:
        """data: this device's share. Returns this device's users and items."""
        tables, encoded = {}, {}
        for name, width in self.widths:
            encoded[name] = self.encoder(data, name, width)
            tables[name] = self.table(f"{name}_user_preference", self.num_users, self.dim)
        nodes = [jnp.concatenate([tables[name], of.x]) for name, of in encoded.items()]
        with jax.named_scope("propagation"):
            # The modalities share the graph: one product over their columns side by side.
            flat = jnp.concatenate([normalise(x) for x in nodes], axis=1)
            flat = propagate(data.adjacency, flat, self.config.layers, self.axis)
            users = data.user_weights.shape[0]
            item = flat[users:]
            similar = power(data.graphs["item"], item, self.config.item_layers, self.axis)
            weight = self.param("user_modality_weight", weight_init, (users, len(self.widths)))
            user = (flat[:users].reshape(users, -1, self.dim) * weight).reshape(users, -1)
            user = user + product(data.graphs["user"], user, self.axis)
        shares = jnp.split(item, len(self.widths), axis=1)
        parts = {name: of.parts(x) for (name, of), x in zip(encoded.items(), shares, strict=True)}
        return self.represent(user, item + similar, parts, user_preferences=tables, user_modality_weight=weight)

    def encoder(self, data, name, width) -> Encoded:
        """MLP(X^m); with the separation and --split=input, SEA's item map stands before it."""
        if self.separated and self.config.split == "input":
            return self.encode_split_input(data, name, width, (256, self.dim))
        x = Encoder(width, 256, self.dim, name=name)(self.features(data, name, width))
        return Encoded(x, self.splitter(data, name))


def weight_init(key, shape):
    """softmax_init with one more axis, for the columns of a modality."""
    return softmax_init(key, shape)[..., None]


def with_repeats(matrix: graph.Matrix, draws, axis: ax.Axis = None) -> graph.Matrix:
    """The users' graph in which each neighbour counts as often as it is listed, rows still adding up to 1.

    A row's neighbours are its list's first entries; each further one, up to draws.shape[1], repeats an earlier one.

    Args:
      matrix: this device's rows of it and of its transpose, no neighbour repeated.
      draws: (users, neighbours) uniform numbers in [0, 1), this device's rows.
    """
    users, length = draws.shape
    row, column, place = graph.places_of(matrix.forward)
    values = graph.values_of(matrix.forward)
    place = jnp.where(values > 0, place, length)  # padding is out of the table's bounds
    known = jnp.full((users, length), jnp.iinfo(jnp.int32).max, jnp.int32).at[row, place].set(column, mode="drop")
    count = jnp.sum(known < jnp.iinfo(jnp.int32).max, axis=1)

    def fill(chosen, step):
        number, draw = step
        earlier = jnp.minimum((draw * number).astype(jnp.int32), jnp.maximum(number - 1, 0))
        repeated = jnp.take_along_axis(chosen, earlier[:, None], axis=1)[:, 0]
        return chosen.at[:, number].set(jnp.where(number < count, number, repeated)), None

    numbers = jnp.arange(length)
    chosen, _ = jax.lax.scan(fill, jnp.zeros((users, length), jnp.int32), (numbers, draws.T))
    times = jnp.zeros((users, length)).at[jnp.arange(users)[:, None], chosen].add(1.0)

    listed = values * times.at[row, place].get(mode="fill", fill_value=0.0)
    sums = jnp.zeros(users).at[row].add(listed)
    sums = jnp.where(sums > 0, sums, 1.0)
    forward = graph.with_values(matrix.forward, listed / sums[row])

    # An entry (v, u) of the transpose: v's place in the row of u, which another device may hold.
    known, times, sums = (ax.gather_rows(x, axis) for x in (known, times, sums))
    row, column, _ = graph.places_of(matrix.transposed)
    values = graph.values_of(matrix.transposed)
    row = ax.row_index(users, axis)[row]
    low, high = jnp.zeros_like(row), jnp.full_like(row, length)
    for _ in range(length.bit_length()):
        middle = (low + high) // 2
        right = (low < high) & (known[column, jnp.minimum(middle, length - 1)] < row)
        low, high = jnp.where(right, middle + 1, low), jnp.where(right, high, middle)
    listed = values * times[column, jnp.minimum(low, length - 1)]
    return graph.Matrix(forward, graph.with_values(matrix.transposed, listed / sums[column]))
