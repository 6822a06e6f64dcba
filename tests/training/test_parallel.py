"""The numbers do not depend on the number of devices; the work is divided."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sea_jax import bundle as bundles

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent.parent

SCRIPT = """
import dataclasses, json, sys
from functools import partial
import jax
import jax.numpy as jnp
import numpy as np
from sea_jax import bundle as bundles
from sea_jax.config import Config
from sea_jax.training import loop, platform, step
platform.prepare_platform(Config())
demo, settings = sys.argv[1], json.loads(sys.argv[2])
float64 = settings.pop("float64", False)
if settings.get("club_fit") == "kernel":  # of GPUs; here it is interpreted
    step.nll_sum = partial(step.nll_sum, interpret=True)
    loop.resolved = lambda config: config
jax.config.update("jax_enable_x64", float64)

def wide(x):
    return x.astype(jnp.float64) if float64 and jnp.issubdtype(x.dtype, jnp.floating) else x

found = {}
for parts in json.loads(sys.argv[3]):
    config = Config(devices=str(parts), batch_size=60, club_steps=5, topk=(5, 20), **settings)
    run = loop.prepare(bundles.load(demo), config)
    state = jax.tree.map(wide, run.progress.state)
    run = run._replace(data=jax.tree.map(wide, run.data), progress=run.progress._replace(state=state))
    if parts == 2 and not float64:  # what another training left serves these settings as well
        other = dataclasses.replace(config, seed=7, alpha=0.5, learning_rate=1e-2)
        like = loop.prepare(bundles.load(demo), other)
        again = loop.prepare(bundles.load(demo), config, like=like)
        assert again.programs is not like.programs  # of other arrays
        again = loop.prepare(like.bundle, config, like=like)
        assert again.programs is like.programs
        run = again._replace(config=run.config)
    run, record = loop.advance(run)
    user, item = loop.embeddings(run, run.progress.state.params)
    found[parts] = {"user": user.tolist(), "item": item.tolist(), "record": record}
print(json.dumps(found))
"""


@pytest.fixture
def tiny(tmp_path, rng):
    """28 users and 25 items: 8 devices hold 4 of each, and the last one padding only."""
    pairs = np.unique(rng.integers(0, [28, 25], size=(260, 2)), axis=0)
    train, valid, test = np.split(pairs[rng.permutation(len(pairs))], (150, 180))
    features = {"image": rng.normal(size=(25, 12)), "text": rng.normal(size=(25, 7))}
    splits = {"train": train, "valid": valid, "test": test}
    bundles.build("tiny", splits, 28, 25, features).save(tmp_path / "tiny")
    return tmp_path / "tiny"


def run(demo, settings, parts):
    """By number of devices, the record and the embeddings after one epoch, on emulated CPU devices."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    command = [sys.executable, "-c", SCRIPT, str(demo), json.dumps(settings), json.dumps(parts)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({}, (1, 2, 3, 4, 8)),
        ({"float64": True}, (1, 2, 8)),
        ({"propagation": "jraph"}, (1, 4)),
        ({"separation": "l1out", "alignment": "infonce_symmetric"}, (1, 3)),
        ({"backbone": "vbpr", "split": "representation"}, (1, 3)),
        ({"solosim_candidates": 13}, (1, 3)),
        ({"club_fit": "kernel"}, (1, 3)),
        ({"ranking_loss": "softmax"}, (1, 3)),
        ({"ranking_loss": "softmax", "ranking_candidates": 13, "ranking_masks_seen": True}, (1, 3)),
        ({"negatives": 3}, (1, 3)),
    ],
    ids=[
        "default",
        "float64",
        "jraph",
        "l1out",
        "vbpr",
        "drawn_candidates",
        "kernel",
        "softmax",
        "drawn_rivals",
        "negatives",
    ],
)
def test_losses_and_embeddings_equal_those_of_one_device(demo, tiny, settings, parts):
    found = run(tiny if settings.get("float64") else demo, settings, parts)
    tolerance = 1e-8 if settings.get("float64") else 1e-5
    expected = found.pop("1")
    for number, other in found.items():
        for name, value in expected["record"].items():
            if "seconds" not in name:
                # Metrics are added up in float32 whatever the parameters are.
                within = tolerance if name.startswith("loss/") else max(tolerance, 1e-6)
                assert other["record"][name] == pytest.approx(value, rel=within, abs=within), (number, name)
        for name in ("user", "item"):
            a, b = np.array(expected[name]), np.array(other[name])
            if settings.get("backbone") == "vbpr":
                # A vector that all items share cancels in BPR: its gradient is pure rounding, which Adam enlarges.
                a, b = a - a.mean(axis=0), b - b.mean(axis=0)
            error = np.linalg.norm(a - b) / np.linalg.norm(a)
            assert error < tolerance, (number, name, error)


def train(demo, workdir, *flags):
    """The records of a run by the program, on emulated devices."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    command = [sys.executable, "experiments/train.py", f"--data_dir={demo}", f"--workdir={workdir}", "--quiet"]
    command += ["--batch_size=60", "--club_steps=5", "--topk=20", *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_run_goes_on_on_another_number_of_devices(demo, tmp_path):
    expected = train(demo, tmp_path / "one", "--epochs=3")
    for devices, epochs in ((3, 1), (1, 2), (2, 3)):
        found = train(demo, tmp_path / "changing", f"--devices={devices}", f"--epochs={epochs}")
    assert [record["epoch"] for record in found] == [1, 2, 3]
    for a, b in zip(expected, found, strict=True):
        for name in a:
            if "seconds" not in name:
                assert b[name] == pytest.approx(a[name], rel=1e-5, abs=1e-5), (a["epoch"], name)


def test_more_devices_than_there_are(demo, tmp_path):
    command = [sys.executable, "experiments/train.py", f"--data_dir={demo}", f"--workdir={tmp_path}/run"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    done = subprocess.run([*command, "--devices=4"], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert (done.returncode, done.stderr) == (1, "error: --devices=4 asks for more devices than the 3 present (cpu).\n")
    done = subprocess.run(
        [*command, "--devices=3", "--batch_size=2"], capture_output=True, text=True, cwd=ROOT, env=environment
    )
    assert "--batch_size=2 is smaller than the 3 devices" in done.stderr
