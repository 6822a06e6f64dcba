"""The recorded trajectories of the released implementation replay within their tolerances."""

from pathlib import Path

import numpy as np
import pytest

from experiments import replay

DATA = Path(__file__).parent / "data"
KINDS = {"bpr", "solosim", "club", "total", "embedding", "projection", "gradient", "club_nll", "parameters", "change"}


@pytest.mark.parametrize("propagation", ["csr", "jraph"])
@pytest.mark.parametrize("name", ["within", "across"])
def test_trajectory(name, propagation):
    arrays = replay.load(DATA / f"sea_trajectory_{name}.npz")
    found = replay.replay(arrays, replay.config_of(arrays, propagation))
    worst = replay.deviations(arrays, found)
    assert set(worst) == KINDS
    assert max(worst.values()) <= 1, worst


def test_a_wrong_number_is_noticed():
    arrays = replay.load(DATA / "sea_trajectory_within.npz")
    found = replay.replay(arrays, replay.config_of(arrays))
    found["step0/user_embedding"] = found["step0/user_embedding"] * np.float32(1.001)
    assert replay.deviations(arrays, found)["embedding"] > 1
