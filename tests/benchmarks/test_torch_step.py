"""The eager PyTorch step that the benchmarks time computes what the recorded trajectories say."""

from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.parametrize("name, club", [("within", 1e-3), ("across", 1e-2)])
def test_losses_of_the_recorded_trajectory(name, club):
    pytest.importorskip("torch")
    from benchmarks import torch_step

    with np.load(DATA / f"sea_trajectory_{name}.npz") as recorded:
        arrays = dict(recorded)
    found, expected = torch_step.replay(arrays), arrays["losses"]
    np.testing.assert_allclose(found[:, [0, 1, 4]], expected[:, [0, 1, 4]], rtol=1e-5)
    np.testing.assert_allclose(found[:, 2:4], expected[:, 2:4], rtol=club, atol=1e-4)
