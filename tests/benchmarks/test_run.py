"""The benchmarks' datasets, their counts of arithmetic, and the JAX and PyTorch steps on the same batch."""

import jax
import numpy as np
import pytest

from benchmarks import parts, shapes
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.training.state import init_state, make_data, make_model

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
    config = Config(knn_k=5, knn_weights=(0.5, 0.5), batch_size=64, club_steps=2)
    model, data = make_model(tiny, config), make_data(tiny, config)[0]
    state = init_state(model, data, config)
    from benchmarks.run import first_batch

    batch, draws = first_batch(tiny, config, data)
    programs = parts.programs(model, data, config, state, batch, draws)
    counted = parts.count(model, {"edges": 600, "item_edges": 400}, config, 64, 1000)
    assert programs.keys() == counted.keys()
    for name, (function, arguments) in programs.items():
        leaves = jax.tree.leaves(jax.jit(function)(*arguments))
        assert all(np.isfinite(np.asarray(leaf)).all() for leaf in leaves), name
        assert counted[name]["flops"] > 0 and counted[name]["bytes"] > 0
