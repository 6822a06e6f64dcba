"""The demo as raw data goes the whole way, and shows what was planted."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_prep.from_tables import source
from sea_jax import bundle as bundles
from sea_jax.errors import SeaError
from sea_jax.raw.demo import make_demo, make_raw
from sea_jax.raw.lines import Skips
from sea_jax.raw.prepare import prepare
from sea_jax.raw.recipe import Recipe

pl = pytest.importorskip("polars")
pytest.importorskip("PIL")
SMALL = {"num_users": 60, "num_items": 120, "mean_interactions": 9.0, "factors": 3, "seed": 1}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw") / "demo"
    make_raw(folder, **SMALL)
    return folder


def test_the_same_interactions_as_the_demo_bundle(raw, tmp_path):
    make_demo(tmp_path / "demo", **SMALL)
    bundle = bundles.load(tmp_path / "demo")
    frame = pl.read_csv(raw / "interactions.csv")
    pairs = {(bundle.user_ids[u], bundle.item_ids[i]) for split in bundles.SPLITS for u, i in getattr(bundle, split)}
    assert set(frame.select("user_id", "item_id").rows()) == pairs
    assert frame["timestamp"].is_sorted()


def test_the_whole_way_and_neighbours_that_share_factors(raw):
    skips = Skips(strict=True)
    found = source(str(raw / "interactions.csv"), str(raw / "items.parquet"), skips=skips)
    bundle = prepare(found, Recipe(split="leave_last_out"), skips)
    assert bundle.modalities == ("image", "text")
    assert not bundle.missing
    assert bundle.shown["pictures"][0].endswith(".png")
    planted = np.load(raw / "planted_factors.npz")
    for modality in bundle.modalities:
        factors = np.hstack([planted["item_generic"], planted[f"item_unique_{modality}"]])
        factors = factors[[int(name.removeprefix("item")) for name in bundle.item_ids]]
        unit = factors / np.linalg.norm(factors, axis=1, keepdims=True)
        near = bundle.neighbours[modality][0][:, 1:6]
        assert (unit[:, None] * unit[near]).sum(axis=2).mean() > 0.25  # of drawn items it is 0


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(SeaError, match="is no raw demo"):
        make_raw(tmp_path, **SMALL)


def test_three_commands(tmp_path):
    def run(*line):
        return subprocess.run([sys.executable, *line], capture_output=True, text=True, cwd=Path(__file__).parents[2])

    small = [f"--{name}={value}" for name, value in SMALL.items()]
    made = run("data_prep/make_demo.py", "--raw", f"--output={tmp_path / 'raw'}", *small)
    assert made.returncode == 0, made.stderr
    tables = [
        f"--interactions={tmp_path / 'raw' / 'interactions.csv'}",
        f"--items={tmp_path / 'raw' / 'items.parquet'}",
    ]
    made = run("data_prep/from_tables.py", *tables, f"--output={tmp_path / 'out'}", "--split=global_time", "--k_core=2")
    assert made.returncode == 0, made.stderr
    assert "user is user_id, item is item_id, time is timestamp" in made.stdout
    assert bundles.load(tmp_path / "out", verify_hashes=True).manifest["encoders"]["image"]["encoder"] == "colours"
    again = run("data_prep/from_tables.py", *tables, f"--output={tmp_path / 'raw'}")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.count("\n") == 1
