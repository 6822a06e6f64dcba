"""The ranking losses against their definitions by NumPy, and what ranks after them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sea_jax
from sea_jax import losses, objective, sampling
from sea_jax.batch import Batch, Draws
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.models.separation import Representation
from sea_jax.training import loop, step

USERS, ITEMS, ROWS = 9, 14, 6


@pytest.fixture
def bundle(rng):
    """The pair (1, 1) is there, and item 13 in no pair."""
    pairs = np.unique(rng.integers(0, [USERS, ITEMS - 1], size=(40, 2)), axis=0)
    features = {"image": rng.normal(size=(ITEMS, 5))}
    return sea_jax.build("tiny", train=pairs, features=features, user_ids=range(USERS), item_ids=range(ITEMS))


@pytest.fixture
def case(bundle, rng):
    """(a function of user and item rows that gives the loss under some settings, users, items, batch)."""
    rows = rng.integers(0, len(bundle.train), ROWS)
    columns = bundle.train[rows].T.astype(np.int32), rng.integers(0, ITEMS, (ROWS, 3)).astype(np.int32)
    weights = np.array([1, 1, 1, 1, 0, 1], np.float32)
    batch = Batch(*columns[0], columns[1][:, 0], weights, columns[1][:, 1:])
    users, items = rng.normal(size=(USERS, 4)).astype(np.float32), rng.normal(size=(ITEMS, 4)).astype(np.float32)

    def loss(users, items, drawn=None, batch=batch, **settings):
        config = Config(backbone="mf", **settings)
        data = loop.prepare(bundle, config).data
        draws = Draws({}, None, None, drawn)
        of = Representation(users, items, {}, {})
        return objective.RANKINGS[config.ranking_loss](of, batch, draws, data, config, None)

    return loss, users, items, batch


def by_hand(users, items, batch, rivals_of, weight=1.0, temperature=0.2):
    """The mean over the batch of -log softmax of cosines, the positive against rivals_of(user, positive)."""
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (users, items)]
    cosines = unit[0] @ unit[1].T / temperature
    terms = []
    for user, item in zip(batch.users, batch.positives, strict=True):
        others = sum(weight * np.exp(cosines[user, j]) for j in rivals_of(user, item) if j != item)
        terms.append(np.log(np.exp(cosines[user, item]) + others) - cosines[user, item])
    return np.average(terms, weights=batch.weights)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("drawn", [None, (0, 3, 5, 9, 13)])
def test_softmax_is_its_definition(case, bundle, masked, drawn):
    loss, users, items, batch = case
    seen = {user: set(bundle.train[bundle.train[:, 0] == user, 1].tolist()) for user in range(USERS)}

    def rivals(user, item):
        return [j for j in (drawn or range(ITEMS)) if not (masked and j in seen[user])]

    expected = by_hand(users, items, batch, rivals, weight=ITEMS / len(drawn) if drawn else 1.0)
    settings = {"ranking_loss": "softmax", "ranking_temperature": 0.2, "ranking_masks_seen": masked}
    drawn = None if drawn is None else jnp.array(drawn, jnp.int32)
    assert float(loss(users, items, drawn, **settings)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_gradient_of_softmax_in_blocks_is_that_of_the_whole_matrix(rng, masked):
    anchors, items = (rng.normal(size=(n, 4)).astype(np.float32) for n in (ROWS, ITEMS))
    positives = np.arange(ROWS)
    left_out = np.array([[0, 7, -1], [1, -1, -1], [-1, -1, -1], [3, 4, 5], [4, 13, 0], [6, 5, -1]], np.int32)
    kept = np.ones((ROWS, ITEMS))
    for row, listed in enumerate(left_out):
        kept[row, [j for j in listed if j >= 0 and j != positives[row]]] = 0

    def dense(a, c):
        logits = a @ c.T / 0.3
        own = logits[positives, positives]
        return jnp.sum(jnp.log(jnp.sum((kept if masked else 1) * jnp.exp(logits), axis=1)) - own)

    def blocked(a, c):
        more = {"left_out": left_out} if masked else {}
        return losses.solosim(a, c, positives, temperature=0.3, block=4, **more)[0]

    expected, expected_gradient = jax.value_and_grad(dense, argnums=(0, 1))(anchors, items)
    found, gradient = jax.value_and_grad(blocked, argnums=(0, 1))(anchors, items)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), gradient, expected_gradient)


def test_several_negatives_are_a_mean(case):
    loss, users, items, batch = case
    negatives = np.column_stack([batch.negatives, batch.further_negatives])
    scores = users @ items.T
    apart = scores[batch.users[:, None], negatives] - scores[batch.users, batch.positives][:, None]
    expected = np.average(np.log1p(np.exp(apart)).mean(axis=1), weights=batch.weights)
    assert float(loss(users, items)) == pytest.approx(expected, rel=1e-5)
    one = np.average(np.log1p(np.exp(apart[:, 0])), weights=batch.weights)
    assert float(loss(users, items, batch=batch._replace(further_negatives=None))) == pytest.approx(one, rel=1e-5)


def test_items_seen_by_each_user(bundle):
    found = np.asarray(objective.seen_items(sampling.interactions(bundle.train, USERS), jnp.arange(USERS)))
    for user, listed in enumerate(found):
        assert sorted(j for j in listed if j >= 0) == sorted(bundle.train[bundle.train[:, 0] == user, 1])


@pytest.mark.parametrize("backbone", ["mf", "sea", "freedom"])
def test_after_softmax_items_are_ranked_by_direction(bundle, backbone):
    config = Config(backbone=backbone, ranking_loss="softmax", epochs=2, learning_rate=0.01, club_steps=1)
    run = sea_jax.fit(bundle, config)
    assert {"loss/softmax", "loss/total"} <= run.history[0].keys()
    assert "loss/bpr" not in run.history[0]
    lengths = np.linalg.norm(run.recommender().item_vectors, axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)


def test_further_negatives_are_none_of_the_users_items_and_leave_the_first_as_it_is(bundle):
    data = loop.prepare(bundle, Config(backbone="mf")).data
    columns = bundle.train[:, 0], bundle.train[:, 1], np.ones(len(bundle.train), np.float32)
    one, five = (step.draw_batch(jax.random.key(3), data, Config(negatives=n), *columns) for n in (1, 5))
    assert one.further_negatives is None
    np.testing.assert_array_equal(one.negatives, five.negatives)
    seen = set(map(tuple, bundle.train.tolist()))
    for column in five.further_negatives.T:
        assert not seen & set(zip(bundle.train[:, 0].tolist(), column.tolist(), strict=True))
    assert len(np.unique(five.further_negatives, axis=1).T) == 4


@pytest.mark.parametrize(("name", "value"), [("ranking_loss", "softmax"), ("negatives", 2)])
def test_a_backbone_without_pairs_refuses(bundle, name, value):
    with pytest.raises(SeaError, match=f"--{name}={value} needs a ranking by pairs; --backbone=bm3"):
        sea_jax.fit(bundle, Config(backbone="bm3", **{name: value}))
