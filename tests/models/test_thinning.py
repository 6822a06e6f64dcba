"""Graphs thinned for an epoch: what is drawn, and the weights that follow."""

import jax
import numpy as np
import scipy.sparse

from sea_jax import adjacency
from sea_jax import data as datas
from sea_jax.config import Config
from sea_jax.models import thinning
from sea_jax.sampling import interactions

USERS, ITEMS = 7, 9


def some_data(train, propagation):
    """Data of these pairs without features or item graphs."""
    host = datas.HostData(
        num_users=USERS,
        num_items=ITEMS,
        adjacency=adjacency.normalised_adjacency(train, USERS, ITEMS),
        graphs={},
        features={},
        present=None,
        interactions=interactions(train, USERS),
    )
    return datas.divide(host, Config(propagation=propagation))[0]


def pairs(rng):
    """Random pairs; the last item has none, and no user has all the others."""
    train = np.unique(rng.integers(0, [USERS, ITEMS - 1], (24, 2)), axis=0)
    return train[(train[:, 0] + train[:, 1]) % 4 > 0]


def test_pairs_are_drawn_in_proportion_to_their_weight(rng):
    train = pairs(rng)
    listed = interactions(train, USERS)
    draw = jax.vmap(lambda key: thinning.draw_pairs(key, listed, 1, ITEMS))
    kept = np.asarray(draw(jax.random.split(jax.random.key(0), 20_000)))
    assert (kept.sum(axis=1) == 1).all()
    degree = [np.bincount(column, minlength=ITEMS) for column in train.T]
    weights = 1 / np.sqrt(degree[0][train[:, 0]] * degree[1][train[:, 1]])
    np.testing.assert_allclose(kept.mean(axis=0), weights / weights.sum(), atol=5 * np.sqrt(0.25 / 20_000))


def test_draws_are_without_replacement_and_skip_repeats(rng):
    train = pairs(rng)
    twice = interactions(np.concatenate([train, train[:5]]), USERS)
    for count in (0, 4, len(train)):
        kept = np.asarray(thinning.draw_pairs(jax.random.key(1), twice, count, ITEMS))
        chosen = np.stack([twice.users, twice.items], axis=1)[kept]
        assert len(chosen) == len(np.unique(chosen, axis=0)) == count


def test_degrees_are_those_among_the_kept(rng):
    train = pairs(rng)
    for propagation in ("csr", "jraph"):
        data = some_data(train, propagation)
        kept = np.asarray(thinning.draw_pairs(jax.random.key(2), data.interactions, 6, ITEMS))
        rows = thinning.thinned(data, kept, ITEMS).adjacency.forward
        if propagation == "csr":
            found = rows.todense()
        else:
            index = np.asarray(rows.receivers), np.asarray(rows.senders)
            found = scipy.sparse.csr_matrix((np.asarray(rows.edges)[:, 0], index), shape=(USERS + ITEMS,) * 2).todense()
        expected = adjacency.normalised_adjacency(train[kept], USERS, ITEMS).todense()
        np.testing.assert_allclose(found, expected, rtol=1e-6)
