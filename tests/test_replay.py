"""The recorded trajectories of the released implementation replay within their tolerances."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from experiments import replay
from sea_jax.training import step

DATA = Path(__file__).parent / "data"
KINDS = {"bpr", "solosim", "club", "total", "embedding", "projection", "gradient", "club_nll", "parameters", "change"}


@pytest.mark.parametrize("propagation", ["csr", "jraph"])
@pytest.mark.parametrize("name", ["within", "across"])
def test_trajectory(name, propagation):
    arrays = replay.load(DATA / f"sea_trajectory_{name}.npz")
    found = replay.replay(arrays, replay.config_of(arrays, propagation=propagation))
    worst = replay.deviations(arrays, found)
    assert set(worst) == KINDS
    assert max(worst.values()) <= 1, worst


@pytest.mark.parametrize("name", ["within", "across"])
def test_trajectory_with_the_kernel_of_gpus(name, monkeypatch):
    monkeypatch.setattr(step, "nll_sum", partial(step.nll_sum, interpret=True))
    arrays = replay.load(DATA / f"sea_trajectory_{name}.npz")
    found = replay.replay(arrays, replay.config_of(arrays, club_fit="kernel"))
    worst = replay.deviations(arrays, found)
    assert set(worst) == KINDS
    assert max(worst.values()) <= 1, worst


@pytest.mark.parametrize(("name", "devices"), [("within", 3), ("across", 2)])
def test_trajectory_under_pmap(name, devices):
    command = [sys.executable, "experiments/replay.py", f"--devices={devices}"]
    command += [f"--trajectory={DATA}/sea_trajectory_{name}.npz"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=DATA.parent.parent, env=environment)
    assert done.returncode == 0, done.stderr + done.stdout
    worst = json.loads(done.stdout)["worst_fraction_of_tolerance"]
    assert set(worst) == KINDS
    assert max(worst.values()) <= 1, worst


def test_a_wrong_number_is_noticed():
    arrays = replay.load(DATA / "sea_trajectory_within.npz")
    found = replay.replay(arrays, replay.config_of(arrays))
    found["step0/user_embedding"] = found["step0/user_embedding"] * np.float32(1.001)
    assert replay.deviations(arrays, found)["embedding"] > 1
