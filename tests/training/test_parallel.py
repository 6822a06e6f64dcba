"""The numbers do not depend on the number of devices; the work is divided."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent

SCRIPT = """
import json, sys
import numpy as np
from sea_jax import bundle as bundles
from sea_jax.config import Config
from sea_jax.training import loop
demo, settings = sys.argv[1], json.loads(sys.argv[2])
found = {}
for parts in json.loads(sys.argv[3]):
    config = Config(devices=str(parts), batch_size=60, club_steps=5, topk=(5, 20), **settings)
    run, record = loop.advance(loop.prepare(bundles.load(demo), config))
    user, item = loop.embeddings(run, run.progress.state.params)
    found[parts] = {"user": user.tolist(), "item": item.tolist(), "record": record}
print(json.dumps(found))
"""


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
        ({}, (1, 2, 3, 8)),
        ({"propagation": "jraph"}, (1, 4)),
        ({"separation": "l1out", "alignment": "infonce_symmetric"}, (1, 3)),
        ({"backbone": "vbpr", "split": "representation"}, (1, 3)),
        ({"solosim_candidates": 13}, (1, 3)),
    ],
    ids=["default", "jraph", "l1out", "vbpr", "drawn_candidates"],
)
def test_losses_and_embeddings_equal_those_of_one_device(demo, settings, parts):
    found = run(demo, settings, parts)
    expected = found.pop("1")
    for number, other in found.items():
        for name, value in expected["record"].items():
            if "seconds" not in name:
                assert other["record"][name] == pytest.approx(value, rel=1e-5, abs=1e-5), (number, name)
        for name in ("user", "item"):
            a, b = np.array(expected[name]), np.array(other[name])
            if settings.get("backbone") == "vbpr":
                # A vector that all items share cancels in BPR: its gradient is pure rounding, which Adam enlarges.
                a, b = a - a.mean(axis=0), b - b.mean(axis=0)
            error = np.linalg.norm(a - b) / np.linalg.norm(a)
            assert error < 1e-5, (number, name, error)
