"""Lists of a user and items, as LightGCN's."""

import os
from pathlib import Path

import numpy as np
import pytest

from data_prep.from_lists import source
from sea_jax.raw.lines import Skips
from sea_jax.raw.prepare import prepare
from sea_jax.raw.recipe import Recipe

pytest.importorskip("polars")
DATA = os.environ.get("SEA_JAX_DATA")


def test_train_and_test_lists(tmp_path, rng):
    (tmp_path / "train.txt").write_text("0 0 1 2\n1 2 3\n2\n")
    (tmp_path / "test.txt").write_text("0 3\n1 0 4 2\n")
    x = rng.normal(size=(5, 3)).astype(np.float32)
    np.save(tmp_path / "image.npy", x)
    skips = Skips()
    found = source(
        str(tmp_path / "train.txt"),
        held={2: str(tmp_path / "test.txt")},
        features=[f"image={tmp_path / 'image.npy'}"],
        skips=skips,
    )
    bundle = prepare(found, Recipe(split="given"), skips)
    assert [len(bundle.train), len(bundle.valid), len(bundle.test)] == [5, 0, 3]  # 1 2 stays with training
    for name, row in zip(bundle.item_ids, bundle.features["image"], strict=True):
        np.testing.assert_array_equal(row, x[int(name)])
    assert bundle.manifest["skipped"] == ["train.txt: 1 skipped, a user without items (first: line 3)"]


@pytest.mark.skipif(not DATA, reason="SEA_JAX_DATA names no folder of real data")
def test_real_lists():
    found = source(
        str(Path(DATA) / "raw_samples" / "lightgcn_ml-1m_train.head50.txt"),
        held={},
        features=[],
        skips=Skips(strict=True),
    )
    assert found.interactions.counts()["users"] == 50
