"""mgcn, lgmrec, smore and dragon: any modalities, SEA on each, isolated nodes, any number of devices, every platform.

tests/test_replay.py replays their recorded trajectories.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sea_jax.config import Config
from sea_jax.data import divide, gather
from sea_jax.errors import SeaError
from sea_jax.models.backbones import BACKBONES
from sea_jax.objective import Batch
from sea_jax.training import loop
from sea_jax.training.state import init_state, make_model
from sea_jax.training.step import draw, loss_and_gradient, step
from tests.models.devices_of_backbones import ITEMS, SETTINGS, USERS, random_bundle

SMALL = {"batch_size": 50, "club_steps": 1, "embedding_dim": 9, "topk": (20,), "propagation": "jraph"}


@pytest.fixture(autouse=True)
def quickly_compiled():
    """Programs that run once are not worth optimising."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize(
    ("backbone", "widths", "settings"),
    [
        ("mgcn", {"text": 4}, {"split": "representation", "separation": "orthogonal", "train_features": False}),
        ("smore", {"image": 6, "audio": 3, "video": 9}, {"separation": "orthogonal", "alignment": "cosine"}),
        ("lgmrec", {"audio": 5}, {"features": "host", "separation": "orthogonal"}),
        ("lgmrec", {"image": 6, "text": 3}, {"train_features": True, "item_layers": 1, "lgmrec_hyper_layers": 2}),
        ("dragon", {"image": 6, "audio": 3, "video": 9}, {"features": "host", "split": "representation",
         "separation": "orthogonal", "alignment": "cosine", "dragon_user_neighbours": 6}),
        ("dragon", {"text": 3}, {"train_features": True, "dragon_user_neighbours": 90}),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_trains_on_any_modalities(backbone, widths, settings):
    run = loop.prepare(random_bundle(widths), Config(backbone=backbone, **SMALL, **settings))
    trained = {f"{name}_feature_table" for name in widths} & set(run.progress.state.params)
    assert len(trained) == (len(widths) if run.config.train_features else 0)
    state, losses = run.programs.train_epoch(run.progress.state, run.data)
    assert np.isfinite(list(losses.values())).all(), losses
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state.params))
    assert ("cosine" in losses) == ("alignment" in settings)
    user, item = loop.embeddings(run, state.params)
    width = 9 * (len(widths) if backbone == "dragon" else 1)
    assert user.shape == (USERS, width)
    assert item.shape == (ITEMS, width)


@pytest.mark.parametrize("backbone", SETTINGS)
def test_lowers_for_every_platform(backbone):
    bundle, config = random_bundle({"image": 7, "text": 5}), Config(backbone=backbone, **SMALL)
    model = make_model(bundle, config)
    data = divide(gather(bundle, config, BACKBONES[backbone].graphs(bundle, config)), config)[0]
    state = jax.eval_shape(lambda features: init_state(model, data, config, features), bundle.features)
    state = state._replace(key=jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))))  # keys are not exported
    batch = Batch(*np.zeros((3, 50), np.int32), np.ones(50, np.float32))

    def program(seed, state, data, batch):
        key = jax.random.key(seed)
        data = model.for_epoch(key, data)
        return step(state, data, batch, draw(key, model, config), model=model, config=config)[0].params

    traced = jax.jit(program).trace(0, state, data, batch)
    for platform in ("cuda", "tpu"):
        assert "func.func public @main" in traced.lower(lowering_platforms=(platform,)).as_text()


def test_finite_gradients_with_all_hyperedges_dropped():
    bundle = random_bundle({"image": 7, "text": 5})
    run = loop.prepare(bundle, Config(backbone="lgmrec", lgmrec_contrast_weight=1.0, **SMALL))
    draws = draw(jax.random.key(0), run.model, run.config)
    every = np.arange(50, dtype=np.int32)
    batch = Batch(every % USERS, every % ITEMS, (every + 1) % ITEMS, np.ones(50, np.float32))  # isolated ones too
    gradient_of = jax.jit(
        lambda noise: loss_and_gradient(
            run.progress.state, run.data, batch, draws._replace(noise=noise), run.model, run.config
        )
    )
    masks = draws.noise["dropout_mask"]
    for dropped in (masks, {name: jnp.zeros_like(mask) for name, mask in masks.items()}):
        (total, _), gradient = gradient_of(draws.noise | {"dropout_mask": dropped})
        assert np.isfinite(total)
        assert all(np.isfinite(x).all() for x in jax.tree.leaves(gradient))
        moved = float(jnp.abs(gradient["image_hyperedge"]["kernel"]).max())
        assert (moved > 0) == (dropped is masks)


@pytest.mark.slow
def test_the_same_on_every_number_of_devices():
    root = Path(__file__).parent.parent.parent
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": str(root),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=3",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    }
    command = [sys.executable, "-m", "tests.models.devices_of_backbones"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment)
    assert done.returncode == 0, done.stderr
    for backbone, (one, *several) in json.loads(done.stdout).items():
        for more in several:
            assert set(more) == set(one)
            for name, value in one.items():
                assert more[name] == pytest.approx(value, rel=1e-5, abs=1e-7), (backbone, name)


@pytest.mark.parametrize(
    ("modalities", "settings", "message"),
    [
        (("image", "text"), {"smore_knn_k": (3,)}, "must have one number for each of image, text"),
        (("image", "text"), {"smore_knn_k": (3, 21)}, "3,21 exceeds the 20 nearest items the bundle keeps"),
        (("image", "fusion"), {}, "another name"),
    ],
)
def test_what_smore_cannot_have_is_told(modalities, settings, message):
    bundle = random_bundle(dict.fromkeys(modalities, 4))
    with pytest.raises(SeaError, match=message):
        BACKBONES["smore"].graphs(bundle, Config(backbone="smore", **settings))
