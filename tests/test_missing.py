"""Items that lack a modality take no part in its separation and alignment, whatever stands in for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sea_jax import bundle as bundles
from sea_jax.batch import Batch, Draws
from sea_jax.config import Config
from sea_jax.data import divide
from sea_jax.models.layers import normalise
from sea_jax.models.separation import Representation, Separated
from sea_jax.objective import objective
from sea_jax.training.state import host_data

USERS, ITEMS = 12, 20
LACKING = {"image": (2, 5, 11), "text": (5, 7)}


def data_of(config, rng):
    pairs = np.unique(rng.integers(0, [USERS, ITEMS], size=(60, 2)), axis=0)
    missing = {name: np.isin(np.arange(ITEMS), rows) for name, rows in LACKING.items()}
    features = {name: rng.normal(size=(ITEMS, 4)) for name in LACKING}
    bundle = bundles.build(
        "lacking", {"train": pairs}, USERS, ITEMS, features, knn_k_max=10, missing=missing, honour_missing=True
    )
    for name, rows in LACKING.items():  # in nobody's list, and only themselves in their own
        indices = bundle.neighbours[name][0]
        assert (indices[list(rows)] == np.array(rows)[:, None]).all()
        assert not np.isin(np.delete(indices, rows, axis=0), rows).any()
    return jax.tree.map(jnp.asarray, divide(host_data(bundle, config), config)[0])


@pytest.mark.parametrize(
    ("separation", "alignment", "candidates"),
    [
        ("club", "solosim", 0),
        ("club_all_pairs", "infonce_symmetric", 0),
        ("l1out", "cosine", 0),
        ("orthogonal", "solosim", 9),
    ],
)
def test_their_rows_move_no_loss(rng, separation, alignment, candidates):
    config = Config(separation=separation, alignment=alignment, solosim_candidates=candidates, ureg=1.0, alpha=1.0)
    data = data_of(config, rng)

    def rows(width=32):
        return rng.normal(size=(ITEMS, width)).astype(np.float32)

    parts = {name: Separated(rows(), rows(), np.asarray(normalise(rows()))) for name in LACKING}
    index = np.arange(10, dtype=np.int32)
    batch = Batch(index, index, index[::-1].copy(), np.ones(10, np.float32))
    drawn = jnp.asarray(rng.permutation(ITEMS)[:candidates], jnp.int32) if candidates else None
    draws = Draws({name: jnp.asarray(rng.permutation(ITEMS)) for name in parts}, drawn)
    user, item = rows(), rows()

    @jax.jit
    def named(parts):
        representation = Representation(jnp.asarray(user), jnp.asarray(item), parts, {})
        return objective(representation, batch, draws, lambda x: (0.5 * x, 0.1 * x), data, config)[1]

    before = named(parts)
    moved = {}
    for name, of in parts.items():
        here = np.isin(np.arange(ITEMS), LACKING[name])[:, None]
        moved[name] = Separated(
            *(
                np.where(here, other, x)
                for x, other in zip(of, (rows(), rows(), np.asarray(normalise(rows()))), strict=True)
            )
        )
    after = named(moved)
    for name, value in before.items():
        assert float(after[name]) == pytest.approx(float(value), rel=1e-5, abs=1e-6), name
    everywhere = named({name: Separated(*(x + 0.1 for x in of)) for name, of in parts.items()})
    assert float(everywhere[alignment]) != pytest.approx(float(before[alignment]), rel=1e-5)


def test_the_mean_is_over_those_that_have_it(rng):
    config = Config(separation="orthogonal", alignment="cosine", ureg=1.0, alpha=1.0)
    data = data_of(config, rng)
    parts = {name: Separated(*(rng.normal(size=(ITEMS, 32)).astype(np.float32) for _ in range(3))) for name in LACKING}
    zeros = np.zeros(4, np.int32)
    batch = Batch(zeros, zeros, zeros + 1, np.ones(4, np.float32))
    draws = Draws({name: jnp.arange(ITEMS) for name in parts})
    both = Representation(jnp.ones((USERS, 2)), jnp.ones((ITEMS, 2)), parts, {})
    found = objective(both, batch, draws, lambda x: (x, x), data, config)[1]

    def cosine(a, b):
        return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)

    has = {name: ~np.isin(np.arange(ITEMS), rows) for name, rows in LACKING.items()}
    for name, of in parts.items():
        expected = (cosine(of.generic, of.unique) ** 2)[has[name]].mean()
        assert float(found[f"orthogonal_{name}"]) == pytest.approx(expected, rel=1e-5)
    aligned = 1 - cosine(parts["text"].aligned, parts["image"].aligned)
    assert float(found["cosine"]) == pytest.approx(aligned[has["image"] & has["text"]].mean(), rel=1e-5)
