"""MicroLens: pairs as csv or lists, titles with commas, covers named by item, features from item 1 on."""

import os
from pathlib import Path

import numpy as np
import pytest

from data_prep.from_microlens import source, titles
from sea_jax.errors import SeaError
from sea_jax.raw import new_items
from sea_jax.raw.lines import Skips
from sea_jax.raw.prepare import prepare
from sea_jax.raw.recipe import Recipe

pytest.importorskip("polars")
DATA = os.environ.get("SEA_JAX_DATA")


@pytest.fixture
def folder(tmp_path, rng):
    rows = [(u, int(i), 1_600_000_000_000 + n) for u in range(1, 7) for n, i in enumerate(rng.permutation(5)[:4] + 1)]
    (tmp_path / "MicroLens-1k_pairs.csv").write_text(
        "user,item,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows)
    )
    lists = {u: [str(i) for v, i, _ in rows if v == u] for u in range(1, 7)}
    (tmp_path / "MicroLens-1k_pairs.tsv").write_text("".join(f"{u}\t{' '.join(of)}\n" for u, of in lists.items()))
    (tmp_path / "titles.csv").write_text(
        '\ufeff1, a title, with "commas"\n2,two\n3,three\nfour\n5,\n', encoding="utf-8"
    )
    np.save(tmp_path / "video.npy", np.arange(10.0).reshape(5, 2) + 1)
    return tmp_path


def test_csv_and_lists_hold_out_the_same_last_ones(folder):
    ready = [f"video={folder / 'video.npy'}"]
    made = {}
    for ending in ("csv", "tsv"):
        skips = Skips()
        found = source(
            str(folder / f"MicroLens-1k_pairs.{ending}"),
            title_file=str(folder / "titles.csv"),
            features=ready,
            skips=skips,
        )
        made[ending] = prepare(found, Recipe(split="leave_last_out", text_encoder="none"), skips)
    np.testing.assert_array_equal(made["csv"].test, made["tsv"].test)
    bundle = made["csv"]
    assert bundle.times["test"].tolist() == [1_600_000_000] * 6
    title = dict(zip(bundle.item_ids, bundle.shown["titles"], strict=True))
    assert title["1"] == 'a title, with "commas"'
    assert bundle.manifest["skipped"] == ["titles.csv: 1 skipped, no item,title (first: line 4)"]
    np.testing.assert_array_equal(bundle.features["video"][list(bundle.item_ids).index("3")], [5, 6])


def test_new_items_come_as_a_table_of_titles_and_covers_by_name(folder):
    Image = pytest.importorskip("PIL.Image")
    (folder / "covers").mkdir()
    for name in (1, 2, 3, 7, 8):
        Image.new("RGB", (8, 8), (name * 20, 0, 0)).save(folder / "covers" / f"{name}.jpg")
    skips = Skips()
    found = source(
        str(folder / "MicroLens-1k_pairs.csv"),
        title_file=str(folder / "titles.csv"),
        covers=str(folder / "covers"),
        skips=skips,
    )
    bundle = prepare(found, Recipe(), skips)
    (folder / "new.csv").write_text("item,title\n7,two\n9,three\n8,\n")
    new = new_items.read(bundle, folder / "new.csv", roots={"image": str(folder / "covers")})
    text = bundle.features["text"][bundle.item_ids.tolist().index("2")]
    np.testing.assert_allclose(new.features["text"][0], text, atol=1e-5)
    assert new.features["image"].any(axis=1).tolist() == [True, False, True]
    assert new.titles == ["two", "three", ""]


def test_features_of_fewer_items(folder):
    np.save(folder / "video.npy", np.ones((2, 2)))
    skips = Skips()
    found = source(str(folder / "MicroLens-1k_pairs.csv"), features=[f"video={folder / 'video.npy'}"], skips=skips)
    with pytest.raises(SeaError, match="rows of items 1 to 2"):
        prepare(found, Recipe(), skips)


@pytest.mark.skipif(not DATA, reason="SEA_JAX_DATA names no folder of real data")
def test_real_titles():
    path = Path(DATA) / "raw_samples" / "MicroLens-100k_title_en.head300.csv"
    skips = Skips(strict=True)
    found = [record for _, record in titles(path, skips, lambda *_: None)]
    assert len(found) == 300
    assert found[0] == {"item": "1", "title": "Gu long song gaga bad"}
