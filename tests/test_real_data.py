"""Checks on real data, in the folder named by SEA_JAX_DATA (with tiktok/tiktok.inter and its features)."""

import os
from pathlib import Path

import numpy as np
import pytest

from data_prep.from_mmrec import convert
from sea_jax.config import Config
from sea_jax.training import loop

FOLDER = os.environ.get("SEA_JAX_DATA")
pytestmark = pytest.mark.skipif(not FOLDER, reason="SEA_JAX_DATA names no folder of real data")


@pytest.fixture(scope="module")
def tiktok():
    return convert(Path(FOLDER) / "tiktok")


def test_counts_are_those_published(tiktok):
    assert (tiktok.num_users, tiktok.num_items) == (9308, 6710)
    assert [len(x) for x in (tiktok.train, tiktok.valid, tiktok.test)] == [59541, 3051, 6130]
    trained = np.bincount(tiktok.train[:, 0], minlength=9308) > 0
    assert (~trained).sum() == 10


@pytest.mark.slow
def test_one_epoch_learns(tiktok):
    """The released implementation has test Recall@20 .0194 after its first epoch; standard error about .002."""
    run = loop.prepare(tiktok, Config(knn_weights=(0.1, 0.9), club_fit_pairs="across_modalities"))
    assert run.counts["test"]["counted"] == 6125
    assert run.counts["valid"]["counted"] == 3046
    _, record = loop.advance(run)
    assert record["test/recall@20"] == pytest.approx(0.0194, abs=0.008)
