"""The page says what is so, shows what there is, and asks nothing of the net."""

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sea_jax import bundle as bundles
from sea_jax import pages
from sea_jax.raw import describe


@pytest.fixture
def bundle(rng):
    titles = [f"lamp <{n}>" for n in range(8)]
    titles[3], titles[4] = "rated 5 stars", "see item-4x"
    features = rng.normal(size=(8, 3))
    features[5] = features[6]
    return bundles.build(
        "a <b> & c",
        {"train": np.array([[0, 1], [0, 2], [1, 3]]), "valid": np.array([[1, 5]]), "test": np.array([[0, 4], [1, 6]])},
        2, 8, {"text": features, "image": rng.normal(size=(8, 2))},
        item_ids=np.array([f"item-{n}x" for n in range(8)]),
        times={"train": np.array([10, 50, 20]), "valid": np.array([30]), "test": np.array([40, 60])},
        missing={"image": np.arange(8) == 2}, honour_missing=True,
        shown={"titles": np.array(titles), "pictures": np.array(["p.png", "http://x/y.png", *[""] * 6])},
        notes={"split": {"kind": "mmrec"}, "sources": {"x.csv": "00ff"}},
    )  # fmt: skip


def test_leaks(bundle):
    assert describe.leaks(bundle) == [
        "50% of the test interactions are older than a training interaction of the same user (of a split by time there is "
        "none)",
        "33% of the training interactions came after the first test interaction",
        "text: 2 items have the features of another, in 1 groups (the largest of 2)",
        "1 titles contain the item's own id",
        "1 titles speak of stars or ratings",
    ]
    both = dataclasses.replace(bundle, test=np.array([[0, 1]], np.int32), times={}, shown={})
    assert describe.leaks(both)[0] == "1 pairs of user and item are in train and in test"


def test_the_page_stands_alone(bundle, tmp_path):
    Image = pytest.importorskip("PIL.Image")
    Image.new("RGB", (200, 100), "red").save(tmp_path / "p.png")
    page = describe.page(bundle, tmp_path)
    assert page.count("data:image/jpeg;base64,") > 0
    assert "a &lt;b&gt; &amp; c" in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=['\"]?(http|//)", page)
    assert "00ff" in page
    assert not re.search(r"lamp <\d>", page)


def test_pictures_outside_the_folder_are_not_shown(tmp_path):
    Image = pytest.importorskip("PIL.Image")
    (tmp_path / "inside").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "secret.png")
    assert pages.thumbnail("../secret.png", tmp_path / "inside") == ""
    assert pages.thumbnail("secret.png", tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    assert pages.thumbnail("broken.png", tmp_path) == ""


def test_a_bundle_with_little_to_show(rng):
    bare = bundles.build("x", {"train": np.array([[0, 0]])}, 1, 1, {"image": np.ones((1, 2))})
    assert "nothing was found" in describe.text(bare)
    assert "nothing was found" in describe.page(bare)


def test_the_program(demo, tmp_path):
    program = [sys.executable, "data_prep/describe.py", f"--data_dir={demo}"]
    done = subprocess.run(
        [*program, f"--output={tmp_path / 'x.html'}"], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    assert "Nearest items by text" in done.stdout
    assert (tmp_path / "x.html").read_text(encoding="utf-8").startswith("<!doctype html>")
