"""mf, lightgcn, vbpr, freedom, bm3 and pgl: any modalities, any number of devices, SEA on those that have modalities."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from sea_jax import bundle as bundles
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.objective import Batch
from sea_jax.training import loop
from sea_jax.training.step import draw, step

ROOT = Path(__file__).parent.parent.parent
USERS, ITEMS = 31, 25
SEA = {"separation": "orthogonal", "alignment": "solosim"}


def dataset(widths, **kinds):
    """The last user, user 3 and item 7 have no interactions, and item 4's features are zero."""
    rng = np.random.default_rng(0)
    pairs = np.unique(rng.integers(0, [USERS - 1, ITEMS], size=(170, 2)), axis=0)
    pairs = pairs[(pairs[:, 1] != 7) & (pairs[:, 0] != 3)]
    splits = {"train": pairs[::2], "valid": pairs[1::4], "test": pairs[3::4]}
    features = {name: rng.normal(size=(ITEMS, width)) for name, width in widths.items()}
    for x in features.values():
        x[4] = 0
    return bundles.build("random", splits, USERS, ITEMS, features, **kinds)


def prepared(bundle, backbone, **settings):
    settings = {"batch_size": 32, "embedding_dim": 16, "club_steps": 2, "topk": (20,), "learning_rate": 1e-2} | settings
    return loop.prepare(bundle, Config(backbone=backbone, **settings))


@pytest.mark.parametrize(
    ("backbone", "widths", "settings"),
    [
        ("freedom", {"image": 6, "audio": 3, "video": 9}, SEA | {"split": "representation"}),
        ("freedom", {"text": 5}, {"freedom_edge_dropout": 1.0, "train_features": False}),
        ("bm3", {"image": 6, "audio": 3}, SEA),
        ("pgl", {"text": 5, "video": 2}, SEA | {"split": "representation"}),
        ("pgl", {"text": 5}, {"pgl_dropout": 1.0}),
    ],
)
@pytest.mark.slow
def test_trains_on_any_modalities(backbone, widths, settings):
    run = prepared(dataset(widths), backbone, **settings)
    run, record = loop.advance(run)
    assert np.isfinite(list(record.values())).all(), record
    params = jax.tree.leaves(run.progress.state.params)
    assert all(np.isfinite(x).all() for x in params)
    if "separation" in settings:
        assert {f"loss/{settings['separation']}_{name}" for name in widths} <= set(record)
        parts = run.programs.separate(run.progress.state.params, run.data)
        assert {x.shape for part in parts.values() for x in part} == {(ITEMS, 32)}
    kinds = {"freedom": "bpr_{}", "bm3": "{}_to_item", "pgl": "contrast_users"}
    assert {f"loss/{kinds[backbone].format(name)}" for name in widths} <= set(record)


@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
def test_what_reads_no_features_refuses_sea(backbone):
    bundle = dataset({"image": 3, "text": 2})
    run, record = loop.advance(prepared(bundle, backbone))
    assert {"loss/bpr", "loss/reg", "loss/total"} == {name for name in record if name.startswith("loss/")}
    assert set(run.progress.state.params) == {"user_embedding_table", "item_embedding_table"}
    with pytest.raises(SeaError, match=f"--separation=club needs modalities, which --backbone={backbone} does not"):
        prepared(bundle, backbone, separation="club")


def test_items_that_lack_a_modality_stay_out_of_its_terms():
    missing = {"image": np.arange(ITEMS) < 20}
    run = prepared(dataset({"image": 3, "text": 2}, missing=missing), "bm3")
    lacking = {"image": np.zeros(ITEMS, np.float32), "text": np.ones(ITEMS, np.float32)}
    _, record = loop.advance(run._replace(data=run.data._replace(present=lacking)))
    assert record["loss/image_to_image"] == 0 < record["loss/text_to_text"]


def test_frozen_features_may_stay_on_the_host():
    bundle = dataset({"image": 3, "text": 2})
    records = [
        loop.advance(prepared(bundle, "freedom", train_features=False, features=place))[1]
        for place in ("device", "host")
    ]
    for name, value in records[0].items():
        if "seconds" not in name:
            assert records[1][name] == pytest.approx(value, rel=1e-5), name
    with pytest.raises(SeaError, match="--features=host is for frozen features"):
        prepared(bundle, "freedom", features="host")


def test_a_thinned_graph_is_for_training_alone():
    run = prepared(dataset({"image": 3, "text": 2}), "freedom")
    before = loop.embeddings(run, run.progress.state.params)
    data = run.model.for_epoch(jax.random.key(1), run.data)
    after = run.programs.embed(run.progress.state.params, data)
    assert np.abs(before[0] - np.asarray(after[0])).max() > 1e-3
    kept = np.asarray(data.adjacency.forward.data)
    assert np.count_nonzero(kept) == 2 * int(len(run.bundle.train) * (1 - 0.8))


@pytest.mark.parametrize("backbone", ["lightgcn", "freedom", "bm3", "pgl"])
def test_step_lowers_elsewhere(backbone):
    run = prepared(dataset({"image": 3, "text": 2}), backbone, propagation="jraph")
    draws = draw(jax.random.key(0), run.model, run.config)
    state = run.progress.state._replace(key=jax.random.key_data(run.progress.state.key))
    zeros = np.zeros(32, np.int32)
    leaves, tree = jax.tree.flatten((state, run.data, Batch(zeros, zeros, zeros, np.ones(32, np.float32)), draws))
    one = partial(step, model=run.model, config=run.config)
    traced = jax.jit(lambda *leaves: one(*jax.tree.unflatten(tree, leaves))).trace(*leaves)
    for platform in ("cuda", "tpu"):
        assert "func.func public @main" in traced.lower(lowering_platforms=(platform,)).as_text()


def test_initial_values():
    bundle = dataset({"image": 3, "text": 2})
    for backbone, std in (("mf", np.sqrt(2 / (USERS + 64))), ("lightgcn", np.sqrt(2 / (USERS + 64)))):
        table = np.asarray(prepared(bundle, backbone, embedding_dim=64).progress.state.params["user_embedding_table"])
        assert table.std() == pytest.approx(std, rel=0.1)
        assert (np.abs(table).max() <= std * np.sqrt(3)) == (backbone == "lightgcn")  # uniform, or normal
    params = prepared(bundle, "freedom").progress.state.params
    np.testing.assert_array_equal(params["image_feature_table"], bundle.features["image"])
    assert np.abs(params["text_projection"]["bias"]).max() <= 2**-0.5


def test_a_backbone_is_one_short_file():
    lines = (ROOT / "sea_jax" / "models" / "backbones" / "mf.py").read_text().splitlines()
    assert len(lines) + 4 < 60  # the file; registry (two lines), config, objective


def losses_of(backbone, devices, settings):
    """The losses of two epochs on so many devices, and the users' rows after them."""
    run, found = prepared(dataset({"image": 7, "text": 5}), backbone, devices=str(devices), **settings), []
    for _ in range(2):
        run, record = loop.advance(run)
        found.append({name: value for name, value in record.items() if name.startswith("loss/")})
    user, item = loop.embeddings(run, run.progress.state.params)
    return found, (user @ item.T).tolist()


CASES = {
    "lightgcn": ((1, 2), {}),
    "freedom": ((1, 3), {"separation": "orthogonal", "alignment": "solosim"}),
    "bm3": ((1, 3), {"reg_weight": 1.0}),
    "pgl": ((1, 8), {"reg_weight": 1.0}),
}


@pytest.mark.slow
def test_numbers_do_not_depend_on_the_number_of_devices():
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, cwd=ROOT, env=environment, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for backbone, (expected, *others) in json.loads(done.stdout).items():
        for losses, scores in others:
            for one, other in zip(expected[0], losses, strict=True):
                assert other == pytest.approx(one, rel=1e-5, abs=1e-5), backbone
            error = np.linalg.norm(np.subtract(scores, expected[1])) / np.linalg.norm(expected[1])
            assert error < 1e-4, (backbone, error)


if __name__ == "__main__":
    from sea_jax.training import platform

    platform.prepare_platform(Config())
    found = {name: [losses_of(name, count, settings) for count in counts] for name, (counts, settings) in CASES.items()}
    print(json.dumps(found))
