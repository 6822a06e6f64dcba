"""The count of what devices compute and receive, against the compiled program, on a small shape."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SCRIPT = """
import json
from benchmarks import devices, shapes
shapes.SHAPES["small"] = shapes.Shape(700, 500, (3000, 400, 500), {"image": 512, "text": 64})
bundle = shapes.make("small")
print(json.dumps({n: devices.measure(bundle, n) for n in (1, 4)}))
"""


def test_formula_and_compiled_program_agree():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["1"]["received_mb_by_program"] == 0
    assert abs(found["4"]["received_mb"] / found["4"]["received_mb_by_program"] - 1) < 0.03
    assert found["4"]["gflop"] < 0.27 * found["1"]["gflop"]
    assert found["4"]["argument_mb"] < 0.6 * found["1"]["argument_mb"]
