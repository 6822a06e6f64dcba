"""The benchmarks' datasets, their counts of arithmetic, and the JAX and PyTorch steps on the same batch."""

import jax
import numpy as np
import pytest

from benchmarks import parts, shapes
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.training import loop
from sea_jax.training.state import make_model

TINY = shapes.Shape(50, 40, (300, 60, 70), {"image": 12, "audio": 8})


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(shapes.SHAPES, "tiny", TINY)
    return shapes.make("tiny")


def test_a_synthetic_dataset_has_the_counts_of_its_shape(tiny):
    for pairs, count in zip((tiny.train, tiny.valid, tiny.test), TINY.pairs, strict=True):
        assert len(np.unique(pairs, axis=0)) == len(pairs) == count
        assert (pairs.max(axis=0) < (50, 40)).all()
    assert len(np.unique(tiny.train[:, 0])) == 50
    assert not tiny.manifest["real"]


def test_real_interactions_are_read_and_checked(monkeypatch, tmp_path):
    monkeypatch.setitem(shapes.SHAPES, "tiny", TINY)
    folder = tmp_path / "some"
    folder.mkdir()
    lines = ["userID\titemID\trating\tx_label", "0\t1\t5.0\t0", "1\t2\t1.5\t0", "0\t3\t2.0\t1", "1\t4\t1.0\t2"]
    (folder / "tiny.inter").write_text("\n".join(lines) + "\n")
    found = shapes.make("tiny", str(tmp_path))
    assert found.train.tolist() == [[0, 1], [1, 2]]
    assert found.test.tolist() == [[1, 4]]
    assert found.manifest["real"]
    (folder / "tiny.inter").write_text("userID\titemID\tx_label\n99\t1\t0\n0\t1\t1\n0\t2\t2\n")
    with pytest.raises(SeaError, match="ids beyond"):
        shapes.make("tiny", str(tmp_path))
    with pytest.raises(SeaError, match="not one of"):
        shapes.make("nothing")


def test_every_part_runs_and_is_counted(tiny):
    run = loop.prepare(tiny, Config(knn_k=5, knn_weights=(0.5, 0.5), batch_size=64, club_steps=2))
    config, model, data, state = run.config, run.model, run.data, run.progress.state
    batch, draws = parts.first_batch(model, config, data)
    programs = parts.programs(model, data, config, state, batch, draws)
    counted = parts.count(model, 600, 400, config, 64, 1000)
    assert programs.keys() == counted.keys()
    for name, (function, arguments) in programs.items():
        leaves = jax.tree.leaves(jax.jit(function)(*arguments))
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in leaves), name
        assert counted[name]["flops"] > 0 and counted[name]["bytes"] > 0


def test_the_counts_are_what_the_compiler_counts(monkeypatch):
    """On a case without repeated loop bodies (one block, one inner step); elementwise work is not in the formulas."""
    monkeypatch.setitem(shapes.SHAPES, "small", shapes.Shape(60, 128, (400, 80, 90), {"image": 512, "audio": 128}))
    bundle = shapes.make("small")
    run = loop.prepare(
        bundle, Config(knn_k=5, knn_weights=(0.5, 0.5), batch_size=64, club_steps=1, propagation="jraph")
    )
    config, model, data, state = run.config, run.model, run.data, run.progress.state
    batch, draws = parts.first_batch(model, config, data)
    counted = parts.count(model, 800, 800, config, 64, 1000)
    for name in ("item_maps", "heads", "solosim", "club_fit"):
        function, arguments = parts.programs(model, data, config, state, batch, draws)[name]
        compiled = jax.jit(function).lower(*arguments).compile()
        assert counted[name]["flops"] == pytest.approx(compiled.cost_analysis()["flops"], rel=0.25), name


def test_devices_share_the_work():
    config = Config()
    model = make_model(shapes.make("tiktok"), config)
    one = parts.count(model, 120_000, 67_100, config, 2048, 4_000_000)
    eight = parts.count(model, 15_000, 8_400, config, 2048, 500_000, devices=8)
    for name, of in one.items():
        assert of["flops"] / eight[name]["flops"] > 6, name
