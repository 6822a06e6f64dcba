"""The report of runs: its numbers by hand, its files, what it says of runs of every kind."""

import re

import numpy as np
import pytest

import sea_jax
from sea_jax import reporting
from sea_jax.baselines import Baseline
from sea_jax.errors import SeaError
from sea_jax.training import closed_forms
from sea_jax.training.runs import Run

USERS, ITEMS = 12, 15


@pytest.fixture
def bundle(rng):
    """Item 14 has no training interaction and stands in test."""
    pairs = np.unique(rng.integers(0, [USERS, ITEMS - 1], size=(90, 2)), axis=0)
    pairs = pairs[rng.permutation(len(pairs))]
    train, valid, test = np.split(pairs, [45, 55])
    test = np.concatenate([test, [[train[0, 0], ITEMS - 1]]])
    features = {"image": rng.normal(size=(ITEMS, 5)), "text": rng.normal(size=(ITEMS, 4))}
    titles = [f"Item <{n}>" for n in range(ITEMS)]
    return sea_jax.build(
        "tiny", train=train, valid=valid, test=test, features=features, user_ids=range(USERS), item_ids=range(ITEMS),
        titles=titles, categories=[f"c{n % 3}" for n in range(ITEMS)],
    )  # fmt: skip


def test_principal_axes_are_those_of_the_singular_vectors(rng):
    rows = rng.normal(size=(20, 5)) @ np.diag([5, 3, 1, 0.5, 0.1])
    centred = rows - rows.mean(axis=0)
    _, _, axes = np.linalg.svd(centred)
    found = reporting.pca(rows)
    np.testing.assert_allclose(np.abs(found), np.abs(centred @ axes[:2].T), atol=1e-8)
    np.testing.assert_allclose(reporting.pca(np.ones((3, 1)))[:, 1], 0)


def test_a_band_is_the_mean_and_the_extremes_until_one_ends():
    def run(*values):
        return Run(None, {}, [{"epoch": n, "x": value} for n, value in enumerate(values, start=1)], [])

    epochs, (mean, least, largest) = reporting.band([run(1.0, None, 6.0, 7.0), run(3.0, None, 2.0)], "x")
    assert epochs.tolist() == [1, 3]
    assert mean.tolist() == [2, 4] and least.tolist() == [1, 2] and largest.tolist() == [3, 6]


def test_a_report_of_seeds_a_model_without_parts_and_a_baseline(bundle, tmp_path):
    bundle.save(tmp_path / "data")
    data = sea_jax.load(tmp_path / "data")
    own = {"data_dir": str(tmp_path / "data"), "epochs": 2, "club_steps": 1, "topk": (5,), "monitor": "recall@5"}
    places = []
    for name, more in (
        ("a", {"diagnose_every": 1}),
        ("b", {"seed": 2, "diagnose_every": 1}),
        ("c", {"backbone": "mf"}),
    ):
        sea_jax.fit(data, sea_jax.Config(embedding_dim=8, **own, **more), workdir=tmp_path / name)
        places.append(sea_jax.open_run(tmp_path / name))
    settings = Baseline(
        model="popularity", data_dir=str(tmp_path / "data"), workdir=str(tmp_path / "p"), topk=(5,), monitor="recall@5"
    )
    closed_forms.run(data, settings)
    for runs, wants in (
        (places[:2], {"curves.png", "mutual_information.png", "map_popularity.png", "map_category.png"}),
        (places[2:], {"curves.png", "map_popularity.png"}),
        ([sea_jax.open_run(tmp_path / "p")], set()),
    ):
        page, pictures, card = reporting.report(runs, 5)
        reporting.write(tmp_path / "out", page, pictures, card)
        assert wants <= set(pictures)
        assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
        assert not re.search(r"""(src|href)=['"]?(http|//)""", page) and "<script" not in page
        assert "Item <" not in page and "Item &lt;" in page
        assert "tiny" in card and "## Limits" in card
        assert {path.name for path in (tmp_path / "out").iterdir()} >= {"report.html", "MODEL_CARD.md", *wants}


def test_runs_on_other_data_are_refused(bundle, tmp_path, rng):
    other = sea_jax.build(
        "other", train=bundle.train[:30], features=bundle.features, item_ids=range(ITEMS), user_ids=range(USERS)
    )
    runs = []
    for name, of in (("one", bundle), ("other", other)):
        of.save(tmp_path / f"{name}-data")
        config = sea_jax.Config(backbone="mf", epochs=1, data_dir=str(tmp_path / f"{name}-data"))
        sea_jax.fit(sea_jax.load(tmp_path / f"{name}-data"), config, workdir=tmp_path / name)
        runs.append(sea_jax.open_run(tmp_path / name))
    with pytest.raises(SeaError, match="other data"):
        reporting.report(runs, 5)
