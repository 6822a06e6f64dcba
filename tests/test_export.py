"""The training step lowers for CUDA and TPU on a machine that has neither."""

import jax
import numpy as np
import pytest

from sea_jax import bundle as bundles
from sea_jax import data as datas
from sea_jax.config import Config
from sea_jax.objective import Batch, Draws
from sea_jax.training.state import host_data, init_state, make_model
from sea_jax.training.step import step


@pytest.mark.parametrize(("platform", "club_fit"), [("cuda", "plain"), ("cuda", "kernel"), ("tpu", "plain")])
def test_step_lowers(demo, platform, club_fit):
    if club_fit == "kernel" and jax.__version_info__ >= (0, 11) and jax.default_backend() != "gpu":
        pytest.skip("from JAX 0.11 on Pallas lowers for a GPU only beside one")
    bundle = bundles.load(demo)
    config = Config(batch_size=32, propagation="jraph", club_fit=club_fit)
    model, data = make_model(bundle, config), datas.divide(host_data(bundle, config), config)[0]
    state = init_state(model, data, config)
    # Typed keys cannot be exported; the step does not read the key.
    state = state._replace(key=jax.random.key_data(state.key))
    zeros = np.zeros(32, np.int32)
    batch = Batch(zeros, zeros, zeros, np.ones(32, np.float32))
    draws = Draws({name: np.arange(bundle.num_items, dtype=np.int32) for name in bundle.modalities})

    leaves, tree = jax.tree.flatten((state, data, batch, draws))

    def flat(*leaves):  # plain arrays in, as a caller of the exported program has them
        return step(*jax.tree.unflatten(tree, leaves), model=model, config=config)

    lowered = jax.jit(flat).trace(*leaves).lower(lowering_platforms=(platform,))
    text = lowered.as_text()
    assert "func.func public @main" in text
    assert "while" in text  # the inner fit is a loop of the program, not of the host
    assert ("gaussian_nll" in text) == (club_fit == "kernel")
