"""Datasets from arrays, training without flags or files, and a run opened again."""

import numpy as np
import pytest

import sea_jax

SMALL = {"batch_size": 64, "club_steps": 2, "learning_rate": 1e-2, "topk": [5, 20]}


def pairs_of(bundle, split="train"):
    """The split's pairs in the original ids."""
    pairs = getattr(bundle, split)
    return list(zip(bundle.user_ids[pairs[:, 0]].tolist(), bundle.item_ids[pairs[:, 1]].tolist(), strict=True))


@pytest.fixture
def arrays(rng):
    """Pairs of 20 users and 15 items, and features."""
    pairs = np.unique(rng.integers(0, [20, 15], size=(160, 2)), axis=0)
    pairs = pairs[rng.permutation(len(pairs))]
    return pairs[:80], pairs[80:100], {"text": rng.normal(size=(15, 6)), "image": rng.normal(size=(15, 8))}


FORMS = {
    "array": lambda pairs: pairs,
    "strings": lambda pairs: [(f"user {u}", f"ü,{i}") for u, i in pairs],
    "array of strings": lambda pairs: np.array([(f"user {u}", f"ü,{i}") for u, i in pairs]),
    "mixed": lambda pairs: [(f"user {u}", int(i) + 10**12) for u, i in pairs],
    "two columns": lambda pairs: (pairs[:, 0], pairs[:, 1]),
}


@pytest.mark.parametrize("form", FORMS)
def test_ids_come_back_as_they_were_given(arrays, form):
    train, valid, features = arrays
    turned = FORMS[form]
    items = (
        [item for _, item in turned(np.stack([np.zeros(15, int), np.arange(15)], axis=1))]
        if "column" not in form
        else None
    )
    items = np.asarray(items) if form == "array" else items
    bundle = sea_jax.build("ids", turned(train), features, valid=turned(valid), item_ids=items)
    expected = [tuple(pair) for pair in (turned(train) if form != "two columns" else train)]
    expected = [tuple(x.item() if isinstance(x, np.generic) else x for x in pair) for pair in expected]
    assert pairs_of(bundle) == expected
    np.testing.assert_array_equal(bundle.features["text"], features["text"].astype(np.float32))
    assert bundle.modalities == ("text", "image")  # the order given


def test_frames_are_taken(arrays):
    polars = pytest.importorskip("polars")
    train, _, features = arrays
    frame = polars.DataFrame({"who": [f"u{u}" for u in train[:, 0]], "what": train[:, 1], "when": 0})
    bundle = sea_jax.build("frame", frame, features)
    assert pairs_of(bundle) == [(f"u{u}", i) for u, i in train.tolist()]
    turned = polars.DataFrame({"item_id": train[:, 1], "user_id": train[:, 0]})
    assert pairs_of(sea_jax.build("turned", turned, features)) == [tuple(pair) for pair in train.tolist()]


def test_any_iterable_of_pairs_is_taken(arrays):
    train, _, features = arrays
    bundle = sea_jax.build("zipped", zip(train[:, 0].tolist(), train[:, 1].tolist(), strict=True), features)
    assert pairs_of(bundle) == [tuple(pair) for pair in train.tolist()]
    assert repr(bundle) == f"<Bundle zipped: {bundle.num_users} users, 15 items, 80 pairs, text, image>"


def test_fit_says_what_it_needs(arrays):
    with pytest.raises(sea_jax.SeaError, match="fit needs a Bundle, from build or load; it was given str"):
        sea_jax.fit("toys")
    with pytest.raises(sea_jax.SeaError, match="fit needs a Config"):
        sea_jax.fit(sea_jax.build("toys", arrays[0], arrays[2]), {"epochs": 1})


def test_repairs_are_told(arrays):
    train, valid, features = arrays
    features["text"][3] = np.nan
    bundle = sea_jax.build(
        "repairs", np.concatenate([train, train[:2]]), features, valid=np.concatenate([valid, train[:1]])
    )
    assert bundle.manifest["repairs"] == [
        "train: 2 pairs listed twice or in an earlier split, dropped",
        "valid: 1 pairs listed twice or in an earlier split, dropped",
        "text: 1 rows not finite, replaced by the mean of the other rows",
    ]
    others = np.delete(features["text"], 3, axis=0).astype(np.float32)
    np.testing.assert_allclose(bundle.features["text"][3], others.mean(axis=0), rtol=1e-5)
    assert bundle.missing["text"].tolist() == [n == 3 for n in range(15)]


@pytest.mark.slow
def test_fit_recommend_save_and_open(arrays, tmp_path):
    train, valid, features = arrays
    bundle = sea_jax.build("toys", train, features, valid=valid, user_ids=np.arange(20))
    bundle.save(tmp_path / "toys")
    told = []
    config = sea_jax.Config(epochs=2, modalities=["image", "text"], **SMALL)
    run = sea_jax.fit(sea_jax.load(tmp_path / "toys"), config, workdir=tmp_path / "run", report=told.append)
    assert [record["epoch"] for record in told] == [1, 2]
    assert run.config.modalities == ("image", "text")
    assert 0 <= run.metrics["valid"]["recall@5"] <= 1
    assert "test" not in run.metrics

    recommender = run.recommender()
    items, scores = recommender.recommend([3, 0], 4)
    vectors = recommender.user_vectors[[3, 0]] @ recommender.item_vectors.T
    for row, user in enumerate((3, 0)):
        vectors[row, train[train[:, 0] == user, 1]] = -np.inf
        assert items[row].tolist() == np.argsort(-vectors[row], kind="stable")[:4].tolist()
    assert all(isinstance(item, int) for item in items.ravel().tolist())
    np.testing.assert_allclose(scores, -np.sort(-vectors)[:, :4], rtol=1e-5)

    opened = sea_jax.open_run(tmp_path / "run")
    assert opened.metrics == run.metrics
    assert opened.training is None  # nothing was built to recommend
    np.testing.assert_array_equal(opened.recommender().recommend([3, 0], 4)[0], items)
    assert opened.training is None
    opened.data_dir = str(tmp_path / "toys")
    computed = opened.recommender("latest")
    best = sea_jax.open_run(tmp_path / "run", str(tmp_path / "toys"))
    (tmp_path / "run" / "recommender.npz").unlink()  # a run going on has none
    np.testing.assert_allclose(best.recommender().scores(3), recommender.scores(3), rtol=1e-5)
    assert computed.notes["epoch"] == 2

    again = sea_jax.fit(bundle.select(("image", "text")), config, workdir=None)
    assert again.metrics == run.metrics
    assert again.history[0]["loss/total"] == run.history[0]["loss/total"]


def test_without_validation_the_last_epoch_counts(arrays):
    train, _, features = arrays
    run = sea_jax.fit(sea_jax.build("bare", train, features), sea_jax.Config(epochs=2, **SMALL))
    assert run.summary["best_epoch"] == 2
    assert run.metrics == {}
    assert "without users in validation the last epoch counts as the best." in run.notes


BAD = {
    "modality": ({"modalities": ("video",)}, "no modality 'video'"),
    "one cut": ({"topk": [10]}, "needs --topk to contain 20"),
    "a word": ({"epochs": "ten"}, "--epochs='ten' must be a whole number"),
    "a fraction": ({"batch_size": 2.5}, "must be a whole number"),
    "true": ({"epochs": True}, "must be a whole number"),
    "no list": ({"topk": 20}, "--topk=20 must be a list"),
    "nan": ({"learning_rate": float("nan")}, "must be a finite number"),
    "infinite": ({"alpha": float("inf")}, "must be a finite number"),
    "denormal": ({"learning_rate": 1e-40}, "that float32 can hold"),
    "cold": ({"temperature": 1e-30}, "--temperature=1e-30 must be at least"),
    "seed": ({"seed": 2**32 + 1}, "--seed=4294967297 must be at most 4294967295"),
    "negative seed": ({"seed": -1}, "must be at least 0"),
    "beyond int32": ({"topk": (2**31, 20)}, "must be at most 2147483647"),
    "two lines": ({"data_dir": "a\nb"}, "must be one line"),
}


@pytest.mark.parametrize("name", BAD)
def test_impossible_settings_are_one_sentence(arrays, name):
    changes, message = BAD[name]
    train, _, features = arrays
    with pytest.raises(sea_jax.SeaError) as caught:
        sea_jax.fit(sea_jax.build("bad", train, features), sea_jax.Config(**changes))
    assert message in str(caught.value)


ODD = {
    "no features": (lambda a: {"features": {}}, "at least one modality"),
    "vector": (lambda a: {"features": {"text": np.zeros(15)}}, "shape (items, width)"),
    "words": (lambda a: {"features": {"text": [["a", "b"]] * 15}}, "must be numbers"),
    "rows": (lambda a: {"features": {"text": np.ones((15, 2)), "image": np.ones((14, 2))}}, "differ in their number"),
    "all nan": (lambda a: {"features": {"text": np.full((15, 2), np.nan)}}, "features['text']: no row is finite"),
    "item ids": (lambda a: {"item_ids": np.arange(14)}, "14 entries and the features 15 rows"),
    "twice": (lambda a: {"item_ids": [0] * 15}, "item_ids names 0 twice"),
    "stranger": (lambda a: {"train": [(1, 99)]}, "train names item 99, which item_ids does not have"),
    "unknown user": (lambda a: {"user_ids": [0, 1]}, "which user_ids does not have"),
    "kinds": (lambda a: {"item_ids": [str(n) for n in range(15)]}, "give one kind"),
    "triples": (lambda a: {"train": np.zeros((3, 3), int)}, "shape (n, 2)"),
    "floats": (lambda a: {"train": np.zeros((3, 2))}, "must be strings or integers"),
    "ragged": (lambda a: {"train": [(1, 2), (3,)]}, "each of two entries"),
    "nothing": (lambda a: {"train": []}, "train has no pairs"),
    "mixed ids": (lambda a: {"train": [(1, 2), ("1", 2)]}, "all of one kind"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_arrays_are_one_sentence(arrays, name):
    changes, message = ODD[name]
    given = {"train": arrays[0], "features": arrays[2]} | changes(arrays)
    with pytest.raises(sea_jax.SeaError) as caught:
        sea_jax.build("odd", **given)
    assert message in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_nobody_to_evaluate_is_told_and_not_0(arrays, tmp_path):
    """Users 20 and 21 have held-out items and no training: nobody counts."""
    train, _, features = arrays
    held_out = np.array([[20, 0], [21, 3]])
    bundle = sea_jax.build("nobody", train, features, valid=held_out, test=np.array([[20, 1], [21, 4]]))
    run = sea_jax.fit(bundle, sea_jax.Config(epochs=1, **SMALL), workdir=tmp_path / "run")
    assert run.metrics == {}
    assert "nobody counts in test: no user has both training and held-out interactions there." in run.notes
    assert not any(name.startswith(("valid/", "test/")) for name in run.history[0])
