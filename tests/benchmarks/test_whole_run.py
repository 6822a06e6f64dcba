"""A whole run at a small size, and what its seconds are made of."""

import pytest

from benchmarks import shapes, whole_run
from sea_jax.config import Config


def test_the_parts_are_within_the_whole(monkeypatch):
    monkeypatch.setitem(shapes.SHAPES, "tiny", shapes.Shape(50, 40, (300, 60, 70), {"image": 12, "audio": 8}))
    config = Config(knn_k=5, batch_size=64, club_steps=2, epochs=3, patience=0, checkpoint_every=2)
    found = whole_run.measure(shapes.make("tiny"), config)
    assert found["epochs"] == 3
    parts = [found[name] for name in ("training_s", "ranking_s", "other_s")]
    assert min(parts) > 0 and sum(parts) == pytest.approx(found["whole_s"])
    assert found["median_epoch_s"] <= found["training_s"]
