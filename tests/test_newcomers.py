"""New items from features alone, new users from baskets: what the model gives who has no interactions; no retraining."""

import dataclasses
import functools

import numpy as np
import pytest
import scipy.sparse

import sea_jax
from sea_jax import adjacency, baskets
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.training import closed_forms, loop, newcomers

USERS, ITEMS, COLD = 20, 30, 29


@functools.cache
def tiny():
    """Item 29 has no interactions, and item 3 lacks its picture."""
    rng = np.random.default_rng(3)
    pairs = np.unique(rng.integers(0, [USERS, COLD], size=(150, 2)), axis=0)
    features = {"image": rng.normal(size=(ITEMS, 6)), "text": rng.normal(size=(ITEMS, 5))}
    features["image"][3] = 0
    return sea_jax.build("tiny", train=pairs, features=features, item_ids=range(ITEMS), user_ids=range(USERS))


@pytest.fixture
def bundle():
    return tiny()


@functools.cache
def fitted(**settings):
    own = {"smore": {"smore_knn_k": (4, 4)}, "dragon": {"dragon_user_neighbours": 5}}.get(settings.get("backbone"), {})
    more = {"epochs": 2, "batch_size": 64, "embedding_dim": 8, "learning_rate": 1e-2, "club_steps": 1, "knn_k": 4}
    return sea_jax.fit(tiny(), Config(**(more | own | settings)))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"split": "representation", "knn_weights": (0.3, 0.7), "item_layers": 2, "ranking_loss": "softmax"},
        {"backbone": "pgl", "train_features": False},  # trained ones of an old item are no longer what was given
        {"backbone": "dragon"},
    ],
    ids=str,
)
def test_a_new_item_is_what_an_item_without_interactions_is(bundle, settings):
    """The cold item was there from the start; its features alone, with itself out of sight, give its vector."""
    run = fitted(**settings)
    features = {name: x[[COLD]] for name, x in bundle.features.items()}
    found = run.embed_items(features, exclude=[COLD])
    np.testing.assert_allclose(found[0], run.recommender().item_vectors[COLD], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backbone", ["vbpr", "freedom", "bm3", "mgcn", "lgmrec", "smore"])
def test_a_new_items_vector_depends_on_no_other_new_item(bundle, backbone):
    """Each for itself, whoever comes along."""
    run = fitted(backbone=backbone)
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=(3, x.shape[1])) for name, x in bundle.features.items()}
    vectors = run.embed_items(features)
    assert vectors.shape == (3, run.recommender().item_vectors.shape[1])
    assert np.isfinite(vectors).all()
    alone = run.embed_items({name: x[:1] for name, x in features.items()})
    if backbone != "lgmrec":  # whose hyperedges pass through all items
        np.testing.assert_allclose(alone[0], vectors[0], rtol=1e-4, atol=1e-5)


def test_vbpr_by_hand(bundle):
    run = fitted(backbone="vbpr")
    params = {name: np.asarray(x) for name, x in run.parameters()[0].items() if not isinstance(x, dict)}
    layer = run.parameters()[0]["feature_projection"]
    rng = np.random.default_rng(1)
    new = {name: rng.normal(size=(1, x.shape[1])).astype(np.float32) for name, x in bundle.features.items()}
    weight = np.zeros(ITEMS)
    for name, x in bundle.features.items():
        share = {"image": 0.1, "text": 0.9}[name]
        unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (new[name], x)]
        weight[np.argsort(-(unit[0] @ unit[1].T)[0], kind="stable")[:3]] += share  # the fourth place is its own
    table = weight @ params["item_embedding_table"] / weight.sum()
    joined = np.concatenate([new["image"], new["text"]], axis=1)
    content = joined @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    np.testing.assert_allclose(run.embed_items(new)[0], np.concatenate([table, content[0]]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("absent", [False, True])
def test_lists_of_new_items_are_those_of_the_catalogue(rng, absent):
    x = rng.normal(size=(40, 6))
    lacking = rng.random(40) < 0.2 if absent else np.zeros(40, bool)
    lacking[39] = False
    expected = adjacency.nearest_items(x, 7, lacking if absent else None)
    found = adjacency.nearest_of_new(x[39:], x[:39], 7, lacking[39:], lacking[:39], block=1)
    np.testing.assert_array_equal(found[0][0], expected[0][39])
    np.testing.assert_allclose(found[1][0], expected[1][39], atol=1e-6)


def test_new_items_of_a_standardised_dataset_are_compared_as_the_catalogue_is(rng):
    """By hand: its columns' z-scores with the catalogue's mean and deviation."""
    x = {"image": rng.normal(size=(ITEMS, 6)) + 20, "text": rng.normal(size=(ITEMS, 5)) * np.logspace(-1, 1, 5)}
    x["image"][3] = 0
    pairs = np.unique(rng.integers(0, [USERS, ITEMS], size=(150, 2)), axis=0)
    bundle = sea_jax.build(
        "tiny", train=pairs, features=x, item_ids=range(ITEMS), user_ids=range(USERS), similarity="standardised"
    )
    new = {"image": rng.normal(size=(2, 6)) + 20, "text": np.zeros((2, 5))}
    found = newcomers.extended(bundle, new, np.zeros(ITEMS, bool)).neighbours
    known = np.delete(x["image"], 3, 0)
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    unit = [(rows - mean) / deviation for rows in (new["image"], known)]
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in unit]
    nearest = np.delete(np.arange(ITEMS), 3)[np.argsort(-(unit[0] @ unit[1].T), axis=1)[:, :19]]
    np.testing.assert_array_equal(found["image"][0][ITEMS:, 1:], nearest)
    np.testing.assert_array_equal(found["image"][0][:ITEMS], bundle.neighbours["image"][0])
    np.testing.assert_array_equal(found["text"][0][ITEMS:], [[ITEMS] * 20, [ITEMS + 1] * 20])  # they have no text


def test_a_modality_that_lacks_is_the_mean_and_an_item_without_any_lists_itself(bundle):
    run = fitted()
    text = bundle.features["text"][:2]
    mean = np.tile(bundle.features["image"][~bundle.missing["image"]].mean(axis=0), (2, 1))
    expected = run.embed_items({"text": text, "image": mean})
    np.testing.assert_allclose(run.embed_items({"text": text}), expected, rtol=1e-4, atol=1e-6)
    zeros = np.zeros((2, 6))
    np.testing.assert_allclose(run.embed_items({"text": text, "image": zeros}), expected, rtol=1e-4, atol=1e-6)


def test_what_does_not_fit_is_one_sentence(bundle):
    run = fitted()
    for features, words in (
        ({}, "features is empty; the modalities are image, text"),
        ({"sound": np.ones((1, 2))}, "features has 'sound'"),
        ({"text": np.ones((1, 4))}, r"must be numbers of shape \(n, 5\)"),
        ({"text": np.ones((1, 5)), "image": np.ones((2, 6))}, "has 1 rows and another modality 2"),
        (
            {"text": np.array([[1.0] * 5, [np.nan] * 5])},
            r"features\['text'\] must be finite and row 1 \(from 0\) is not",
        ),
        ({"text": np.full((1, 5), 1e39)}, "must be finite and row 0"),
    ):
        with pytest.raises(SeaError, match=words):
            run.embed_items(features)
    for exclude in ([99], 99):
        with pytest.raises(SeaError, match="exclude names item 99"):
            run.embed_items({"text": np.ones((1, 5))}, exclude=exclude)
    with pytest.raises(SeaError, match="exclude names item 'item1', which"):
        run.embed_items({"text": np.ones((1, 5))}, exclude="item1")
    np.testing.assert_array_equal(
        run.embed_items({"text": np.ones((1, 5))}, exclude=4), run.embed_items({"text": np.ones((1, 5))}, exclude=[4])
    )
    with pytest.raises(SeaError, match="--backbone=lightgcn knows items by their interactions alone"):
        fitted(backbone="lightgcn", layers=2).embed_items({"text": np.ones((1, 5))})


def test_new_items_join_the_lists(bundle):
    run = fitted()
    made = run.recommender()
    features = {name: x[[4, 5]] for name, x in bundle.features.items()}
    grown = made.with_items([100, 101], run.embed_items(features), titles=["one", "two"])
    assert grown.item_ids.tolist()[-2:] == [100, 101]
    assert grown.titles[-2:] == ["one", "two"] and grown.titles[0] == ""
    expected = made.user_vectors[0] @ run.embed_items(features).T
    np.testing.assert_allclose(grown.scores([0])[0, -2:], expected, rtol=1e-5)
    items, _ = grown.recommend([0], 1, candidates=[100, 101])
    assert items[0, 0] == [100, 101][int(expected.argmax())]
    with pytest.raises(SeaError, match="new item 4 is in the catalogue already"):
        made.with_items([4], run.embed_items(features)[:1])


# Strangers.


def full_graph(bundle):
    a = np.zeros((USERS, ITEMS))
    a[bundle.train[:, 0], bundle.train[:, 1]] = 1
    return a


@pytest.mark.parametrize(
    ("backbone", "layers"),
    [("sea", 2), ("pgl", 2), ("freedom", 2), ("lightgcn", 1), ("lightgcn", 2), ("lightgcn", 3)],
)
def test_a_strangers_vector_is_what_propagation_gives_a_user_without_a_row(bundle, backbone, layers):
    """Written out by SciPy: one more user with a row of zeros, whose edges change nobody else's degrees."""
    run = fitted(backbone=backbone, layers=layers)
    made, basket = run.recommender(), [2, 7, 11]
    params = run.parameters()[0]
    a = full_graph(bundle)
    user_degree, item_degree = np.maximum(a.sum(axis=1), 1), np.maximum(a.sum(axis=0), 1)
    a = a / np.sqrt(np.outer(user_degree, item_degree))
    zero = np.zeros((USERS + ITEMS, USERS + ITEMS))
    zero[:USERS, USERS:], zero[USERS:, :USERS] = a, a.T
    graph = scipy.sparse.csr_matrix(zero)
    nodes = first_layer(run, bundle, params)
    edge = np.zeros(USERS + ITEMS)
    edge[USERS + np.array(basket)] = 1 / np.sqrt(len(basket) * item_degree[basket])
    stranger = np.zeros(nodes.shape[1])
    for _ in range(layers):
        stranger += edge @ nodes
        nodes = graph @ nodes
    if backbone == "sea":
        weights = np.asarray(params["user_modality_weight"]).mean(axis=0)
        stranger *= np.repeat(weights, run.config.embedding_dim)
    else:
        stranger /= layers + 1
    np.testing.assert_allclose(made.basket_vector(basket), stranger, rtol=1e-4, atol=1e-5)


def first_layer(run, bundle, params):
    """(U + I, d): what goes into the propagation."""
    if run.config.backbone in ("lightgcn", "freedom"):
        return np.concatenate([params["user_embedding_table"], params["item_embedding_table"]])
    # Of sea and pgl: what comes out at no layers at all.
    config = dataclasses.replace(run.config, layers=0, item_layers=0)
    bare = loop.prepare(bundle, config)
    user, item = loop.embeddings(bare, params)
    if run.config.backbone == "pgl":
        return np.concatenate([user, item / 2])  # X + S^0 X
    names = [name for name, _ in bundle.widths]
    users = np.concatenate([np.asarray(params[f"{name}_user_preference"]) for name in names], axis=1)
    halves = np.split(users, len(names), axis=1)
    users = np.concatenate([x / np.linalg.norm(x, axis=1, keepdims=True) for x in halves], axis=1)
    return np.concatenate([users, item])


def least_squares(items, basket, weights):
    """The ridge's minimum, found by stacking the three sums of squares."""
    items = np.asarray(items, np.float64)
    width = items.shape[1]
    ridge = baskets.RIDGE * baskets.OUTSIDE * np.square(items).sum() / width
    rows = np.concatenate([
        np.sqrt(weights)[:, None] * items[basket], np.sqrt(baskets.OUTSIDE) * items, np.sqrt(ridge) * np.eye(width)
    ])  # fmt: skip
    wanted = np.concatenate([np.sqrt(weights), np.zeros(len(items) + width)])
    return np.linalg.lstsq(rows, wanted, rcond=None)[0]


@pytest.mark.parametrize("backbone", ["sea", "freedom"])
def test_a_basket_with_new_items_is_folded_in_by_their_vectors(bundle, backbone):
    """The graph has no row for them: new ones alone lead to their like, and beside old ones they count."""
    run = fitted(backbone=backbone, layers=2)
    made = run.recommender()
    vectors = run.embed_items({name: x[[4, 5]] for name, x in bundle.features.items()})
    grown = made.with_items([100, 101], vectors)
    items = np.concatenate([made.item_vectors, vectors])
    for basket, places in (([100], [30]), ([2, 101], [2, 31])):
        weights = [1.0, 2.0][: len(basket)]
        expected = least_squares(items, places, weights)
        np.testing.assert_allclose(grown.basket_vector(basket, weights), expected, rtol=1e-3, atol=1e-5)
        listed, _ = grown.recommend_for(basket, 5, weights=weights)
        order = [i for i in np.argsort(-(items @ expected), kind="stable").tolist() if i not in places]
        assert listed.tolist() == [grown.item_ids[i] for i in order[:5]]
    np.testing.assert_array_equal(grown.basket_vector([2, 7]), made.basket_vector([2, 7]))  # old ones: as ever


def test_without_layers_a_stranger_is_folded_in_by_vectors():
    made = fitted(backbone="lightgcn", layers=0).recommender()
    expected = least_squares(made.item_vectors, [2, 7], [1.0, 1.0])
    np.testing.assert_allclose(made.basket_vector([2, 7]), expected, rtol=1e-3, atol=1e-5)


def test_items_of_zeros_change_no_basket_of_a_graph():
    """Of such neither the graph nor the vectors know anything."""
    vectors = np.array([[1, 0], [0, 2], [0, 0]], np.float32)
    made = sea_jax.Recommender.from_vectors(vectors[:1], vectors, [[0, 0]], extras={"basket_items": vectors * 3})
    np.testing.assert_allclose(made.basket_vector([0, 2]), np.array([3, 0]) / np.sqrt(2), rtol=1e-6)


def test_a_ridge_is_its_least_squares(rng):
    """Of a model without such a graph."""
    items, users = rng.normal(size=(15, 4)).astype(np.float32), rng.normal(size=(3, 4))
    made = sea_jax.Recommender.from_vectors(users, items, [[0, 1]])
    basket, weights = [3, 8, 9], [1.0, 2.0, 0.5]
    expected = least_squares(items, basket, weights)
    np.testing.assert_allclose(made.basket_vector(basket, weights), expected, rtol=1e-4, atol=1e-6)
    listed, scores = made.recommend_for(basket, 12, weights=weights)
    order = [i for i in np.argsort(-(items @ expected), kind="stable").tolist() if i not in basket]
    assert listed.tolist() == order
    np.testing.assert_allclose(scores, (items @ expected)[order], rtol=1e-4, atol=1e-5)


def test_baskets_that_cannot_be_are_one_sentence(bundle):
    made = fitted().recommender()
    for basket, weights, words in (
        ([], None, "basket is empty"),
        ([2, 77], None, "There is no item 77"),
        ([2], [0.0], "must be finite and above 0"),
        ([2, 3], [1.0], "weights must be 2 numbers"),
    ):
        with pytest.raises(SeaError, match=words):
            made.recommend_for(basket, 3, weights=weights)


def test_cold_items_are_measured_among_their_like_and_among_all(rng):
    """By hand: items 0 and 1 are in test alone, item 2 in training and test."""
    train = np.array([[0, 2], [0, 3], [1, 3], [1, 4], [2, 5]])
    test = np.array([[0, 0], [1, 1], [1, 2], [2, 2]])
    features = {"text": rng.normal(size=(6, 3))}
    bundle = sea_jax.build("cold", train=train, test=test, features=features, item_ids=range(6), user_ids=range(3))
    items = np.array([[0.5], [0.9], [0.95], [0.1], [0.2], [0.3]])
    made = sea_jax.Recommender.from_vectors(np.ones((3, 1)), items, train)
    found = closed_forms.measure_cold(made, bundle, (1, 2))
    # User 0 wants 0 and sees 1 above it; user 1 wants 1, the best of the cold, below item 2 of all; user 2 has none.
    assert found["cold"]["recall@1"] == pytest.approx(1 / 2)
    assert found["all"]["recall@1"] == pytest.approx(0)
    assert found["all"]["recall@2"] == pytest.approx(2 / 2)
    tied = sea_jax.Recommender.from_item_scores(np.zeros(6), train, user_ids=range(3))
    order = np.random.default_rng(0).permutation(6).tolist()
    first = min((0, 1), key=order.index)  # of the two cold items, the one that the permutation has first
    assert closed_forms.measure_cold(tied, bundle, (1,))["cold"]["recall@1"] == pytest.approx(
        np.mean([item == first for item in (0, 1)])
    )
    with pytest.raises(SeaError, match="no item that training lacks"):
        closed_forms.measure_cold(made, dataclasses.replace(bundle, test=test[2:]), (1,))
