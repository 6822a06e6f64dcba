"""Baselines against their formulas in float64 NumPy; the run folder that they write."""

import json

import numpy as np
import pytest
import scipy.sparse

import sea_jax
from sea_jax import baselines
from sea_jax.baselines import Baseline
from sea_jax.errors import SeaError
from sea_jax.training import closed_forms, runs, workdir

USERS, ITEMS = 25, 18


@pytest.fixture
def x(rng):
    """(U, I) of zeros and ones; item 5 has nobody, and user 3 has nothing."""
    found = (rng.random((USERS, ITEMS)) < 0.3).astype(np.float64)
    found[:, 5] = found[3] = 0
    return found


@pytest.fixture
def features(rng):
    found = {"image": rng.normal(size=(ITEMS, 4)), "text": rng.normal(size=(ITEMS, 3))}
    found["text"][:, 1] = 2.0  # a constant column
    return found


def by_hand(features):
    found = []
    for rows in features.values():
        spread = rows.std(axis=0)
        z = np.divide(rows - rows.mean(axis=0), spread, out=np.zeros_like(rows), where=spread > 1e-12)
        found.append(z / np.linalg.norm(z, axis=1, keepdims=True))
    return found


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_ease_is_the_constrained_least_squares(x, features, weight):
    """Column by column: the ridge regression of item j on all others, stacked interactions and content."""
    rows = np.concatenate([x, *(np.sqrt(weight) * f.T for f in by_hand(features))])
    expected = np.zeros((ITEMS, ITEMS))
    for j in range(ITEMS):
        others = [i for i in range(ITEMS) if i != j]
        a = np.concatenate([rows[:, others], np.sqrt(7.0) * np.eye(ITEMS - 1)])
        b = np.concatenate([rows[:, j], np.zeros(ITEMS - 1)])
        expected[others, j] = np.linalg.lstsq(a, b, rcond=None)[0]
    gram = baselines.gram(scipy.sparse.csr_matrix(x.astype(np.float32)), features, weight)
    np.testing.assert_allclose(baselines.ease(gram, 7.0), expected, rtol=1e-3, atol=1e-5)


def test_ease_in_blocks_is_the_same(x, features, monkeypatch):
    sparse = scipy.sparse.csr_matrix(x.astype(np.float32))
    whole = baselines.ease(baselines.gram(sparse, features, 2.0), 5.0)
    monkeypatch.setattr(baselines, "BLOCK", 5)
    np.testing.assert_allclose(baselines.ease(baselines.gram(sparse, features, 2.0), 5.0), whole, rtol=1e-4, atol=1e-6)


def test_low_rank_is_the_ridge_regression_within_the_leading_directions(x, features):
    gram = x.T @ x + 3.0 * sum(f @ f.T for f in by_hand(features))
    values, vectors = np.linalg.eigh(gram)
    kept = np.argsort(-values)[:6]
    expected = vectors[:, kept] * (values[kept] / (values[kept] + 4.0)) @ vectors[:, kept].T
    v, shares = baselines.ease_low_rank(scipy.sparse.csr_matrix(x), features, 3.0, 4.0, 6)
    np.testing.assert_allclose(v * shares @ v.T, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shrinkage", [0.0, 4.0])
def test_item_knn(x, shrinkage):
    found = baselines.item_knn(scipy.sparse.csr_matrix(x.astype(np.float32)), 3, shrinkage).toarray()
    norms = np.linalg.norm(x, axis=0)
    likeness = x.T @ x / np.maximum(np.outer(norms, norms) + shrinkage, 1e-12)
    np.fill_diagonal(likeness, 0)
    for i in range(ITEMS):
        kept = [j for j in np.argsort(-likeness[i], kind="stable")[:3] if likeness[i, j] > 0]
        expected = np.zeros(ITEMS)
        expected[kept] = likeness[i, kept]
        np.testing.assert_allclose(found[i], expected, rtol=1e-5, atol=1e-6)


def test_content_knn(features):
    z = by_hand(features)
    likeness = sum(f @ f.T for f in z) / len(z)
    np.fill_diagonal(likeness, -np.inf)
    found = baselines.content_knn(features, 4).toarray()
    for i in range(ITEMS):
        kept = np.argsort(-likeness[i], kind="stable")[:4]
        expected = np.zeros(ITEMS)
        expected[kept] = np.maximum(likeness[i, kept], 0)
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_names_the_bytes():
    with pytest.raises(SeaError, match=r"60000 x 60000 items needs 57,600,000,000 bytes and 1,000 are free"):
        baselines.check_memory(60_000, 1000)


@pytest.mark.parametrize("model", baselines.MODELS)
def test_every_baseline_recommends_and_measures(demo, model):
    bundle = sea_jax.load(demo)
    given = Baseline(model=model, ridge=20.0, content_weight=2.0, neighbours=8, shrinkage=1.0, rank=9)
    run = closed_forms.run(bundle, given)
    made = run.recommender()
    recall = []
    for user in np.unique(bundle.test[:, 0]):
        held_out = set(bundle.test[bundle.test[:, 0] == user, 1].tolist())
        items, _ = made.recommend([made.user_ids[user]], 10)
        recall.append(len(held_out & {made.item_ids.tolist().index(i) for i in items[0]}) / len(held_out))
    assert run.metrics["test"]["recall@10"] == pytest.approx(np.mean(recall), rel=1e-5)
    if model != "popularity":
        user = bundle.train[0, 0]
        basket = made.item_ids[made.seen(user)].tolist()
        expected = made.recommend([made.user_ids[user]], 5)[0][0].tolist()
        assert made.recommend_for(basket, 5)[0].tolist() == expected


def test_settings_are_chosen_on_validation_alone(demo, tmp_path, monkeypatch):
    monkeypatch.setitem(baselines.GRIDS, "ridge", (50.0, 2.0, 500.0))
    monkeypatch.setitem(baselines.GRIDS, "content_weight", (4.0, 1.0))
    looked = []
    measure = closed_forms.measure
    monkeypatch.setattr(closed_forms, "measure", lambda *given: looked.append(given[3:]) or measure(*given))
    bundle = sea_jax.load(demo)
    settings = Baseline(model="ease_content", data_dir=str(demo), workdir=str(tmp_path / "run"))
    run = closed_forms.run(bundle, settings)
    assert looked[-1] == () and set(looked[:-1]) == {(("valid",),)}  # test is measured once, at the end
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    best = max(lines, key=lambda line: line["valid/recall@20"])
    assert run.summary["valid"]["recall@20"] == pytest.approx(best["valid/recall@20"])
    assert run.summary["chosen"] == {"ridge": best["ridge"], "content_weight": best["content_weight"]}


def test_the_folder_is_a_run(demo, tmp_path):
    bundle, folder = sea_jax.load(demo), tmp_path / "run"
    settings = Baseline(model="item_knn", neighbours=5, shrinkage=0.0, data_dir=str(demo), workdir=str(folder))
    run = closed_forms.run(bundle, settings)
    assert {"run.json", "config.flags", "metrics.jsonl", "summary.json", "recommender.npz"} <= {
        path.name for path in folder.iterdir()
    }
    opened = sea_jax.open_run(folder)
    assert opened.metrics == run.metrics
    np.testing.assert_array_equal(
        opened.recommender().scores(bundle_user(bundle)), run.recommender().scores(bundle_user(bundle))
    )
    assert runs.bundle_of(folder).num_items == bundle.num_items
    assert closed_forms.run(bundle, settings).metrics == run.metrics  # finished: read, not made again
    other = Baseline(model="item_knn", neighbours=6, shrinkage=0.0, data_dir=str(demo), workdir=str(folder))
    for wrong, words in (
        (lambda: closed_forms.run(bundle, other), "holds another run"),
        (lambda: opened.parameters(), "has no checkpoints"),
        (lambda: sea_jax.fit(bundle, workdir=folder), "has no checkpoints"),
        (lambda: Baseline(ridge=0.0), "--ridge=0.0 must be above 0"),
        (lambda: Baseline(monitor="recall@7"), "--monitor=recall@7 needs --topk"),
    ):
        with pytest.raises(SeaError, match=words):
            wrong()
    record = json.loads((folder / workdir.RECORD).read_text())
    record["baseline"] = 3
    (folder / workdir.RECORD).write_text(json.dumps(record))
    with pytest.raises(SeaError, match="field baseline is missing"):
        sea_jax.open_run(folder)


def bundle_user(bundle):
    return [0] if bundle.user_ids is None else [bundle.user_ids[0].item()]
