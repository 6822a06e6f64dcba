"""The recorded trajectories, of the released SEA and of MMRec's models, replay within their tolerances."""

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sea_jax import replaying
from sea_jax.errors import SeaError
from sea_jax.models.backbones import BACKBONES
from sea_jax.training import step

ROOT = Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
MMREC = sorted((DATA / "mmrec").glob("*.npz"))
KINDS = {"bpr", "solosim", "club", "total", "embedding", "projection", "gradient", "club_nll", "parameters", "change"}


def replayed(arrays, **how):
    """What was found, and the worst deviation of each kind."""
    found = replaying.replay(arrays, replaying.config_of(arrays, **how))
    return found, replaying.deviations(arrays, found)


def program(path, *flags, devices=3):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    environment["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
    command = [sys.executable, "experiments/replay.py", f"--trajectory={path}", *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)


# The released SEA.


@pytest.mark.parametrize("propagation", ["csr", "jraph"])
@pytest.mark.parametrize("name", ["within", "across"])
def test_sea(name, propagation):
    arrays = replaying.read(DATA / f"sea_trajectory_{name}.npz")
    found, worst = replayed(arrays, propagation=propagation)
    assert set(worst) == KINDS
    assert max(worst.values()) <= 1, worst
    found["step0/user_embedding"] = found["step0/user_embedding"] * np.float32(1.001)
    assert replaying.deviations(arrays, found)["embedding"] > 1


@pytest.mark.parametrize("name", ["within", "across"])
def test_sea_with_the_kernel_of_gpus(name, monkeypatch):
    monkeypatch.setattr(step, "nll_sum", partial(step.nll_sum, interpret=True))
    monkeypatch.setattr(replaying.loop, "resolved", lambda config: config)  # which refuses the kernel on a CPU
    _, worst = replayed(replaying.read(DATA / f"sea_trajectory_{name}.npz"), club_fit="kernel")
    assert set(worst) == KINDS
    assert max(worst.values()) <= 1, worst


@pytest.mark.parametrize(
    ("file", "devices"),
    [("sea_trajectory_within", 3), ("sea_trajectory_across", 2), ("mmrec/freedom", 3), ("mmrec/pgl", 3)],
)
def test_under_pmap(file, devices):
    done = program(DATA / f"{file}.npz", f"--devices={devices}")
    assert done.returncode == 0, done.stderr + done.stdout
    assert max(json.loads(done.stdout)["worst_fraction_of_tolerance"].values()) <= 1


# MMRec's models.


def test_every_backbone_has_a_trajectory():
    models = {str(replaying.read(path)["model"]) for path in MMREC}
    assert {replaying.BACKBONE_OF[model] for model in models} | {"sea"} == set(BACKBONES)


@pytest.mark.parametrize("path", MMREC, ids=lambda path: path.stem)
def test_mmrec(path):
    arrays = replaying.read(path)
    found, worst = replayed(arrays)
    kinds = {*arrays["loss_names"].tolist(), "evaluation", "gradient", "change"}
    assert set(worst) >= kinds | (set() if path.stem == "dragon" else {"embedding"})
    assert max(worst.values()) <= 1, worst
    for name in found:  # every number that was found is compared
        spoilt = found | {name: found[name] * 1.03 + 1e-4}
        assert max(replaying.deviations(arrays, spoilt).values()) > 1, name


def test_spoilt_files_fail():
    arrays = replaying.read(DATA / "mmrec" / "freedom.npz")
    found, _ = replayed(arrays)
    for name in ("losses", "losses_float64", "after5/text_feature_table", "step0/masked_graph_vals", "edge_weights"):
        spoilt = replaying.Arrays(arrays | {name: arrays[name] * np.float32(1.001)})
        assert max(replaying.deviations(spoilt, found).values()) > 1, name
    for name, value in (
        ("config/learning_rate", np.float64(1.2e-3)),
        ("config/reg_weight", np.float64(2e-3)),
        ("step3/kept_edges", np.arange(len(arrays["step3/kept_edges"]), dtype=np.int32)),
        ("step2/negatives", arrays["step2/positives"]),
    ):
        assert max(replayed(replaying.Arrays(arrays | {name: value}))[1].values()) > 1, name


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("config/gamma", np.float64(1), "config/gamma is no setting of BM3"),
        ("config/weight_decay", np.float64(0.1), "only 0.0 can"),
        ("config/n_layers", np.int64(-1), "--layers=-1 must be at least 0"),
        ("model", np.array("SLMRec"), "none of BPR"),
        ("step1/users", np.full(32, 60, np.int32), "step1/users must be whole numbers from 0 to 59"),
        ("step1/users", None, "has no array 'step1/users'"),
        ("init/predictor/kernel", np.zeros((3, 3)), r"has the shape \(3, 3\); \(64, 64\) is expected"),
        ("step0/dropout_mask/text_target", np.zeros((3, 3)), r"has the shape \(3, 3\)"),
        ("loss_names", np.array(["bpr"] * 8), "loss 'bpr' is none of"),
    ],
)
def test_what_cannot_be_replayed_is_told(name, value, message):
    arrays = replaying.read(DATA / "mmrec" / "bm3.npz")
    arrays.pop(name, None)
    if value is not None:
        arrays[name] = value
    with pytest.raises(SeaError, match=message):
        replayed(arrays)


def lightgcn_in_numpy(users=23, items=17, width=12, layers=3, rate=0.01, reg=0.05, rows=16, seed=3):
    """A trajectory of LightGCN in float64, written from the equations: gradients by hand, Adam by hand."""
    rng = np.random.default_rng(seed)
    adjacency = np.zeros((users + items, users + items))
    train = np.unique(rng.integers(0, [users, items - 1], (120, 2)), axis=0)  # the last item has no pair
    adjacency[train[:, 0], users + train[:, 1]] = adjacency[users + train[:, 1], train[:, 0]] = 1
    scale = 1 / np.sqrt(np.maximum(adjacency.sum(1), 1))
    adjacency *= np.outer(scale, scale)
    mean = sum(np.linalg.matrix_power(adjacency, n) for n in range(layers + 1)) / (layers + 1)
    table = rng.normal(size=(users + items, width)) * 0.2
    arrays = {
        "model": "LightGCN", "num_users": users, "num_items": items, "train": train.astype(np.int32),
        "image": rng.normal(size=(items, 5)), "text": rng.normal(size=(items, 3)),
        "config/learning_rate": rate, "config/reg_weight": reg, "config/n_layers": layers, "config/batch_size": rows,
        "config/embedding_size": width, "epoch_of_step": np.zeros(4, np.int32), "loss_names": ["bpr", "reg", "total"],
    }  # fmt: skip

    def note(prefix, table, end=""):
        arrays[f"{prefix}user_embedding{end}"], arrays[f"{prefix}item_embedding{end}"] = np.split(table, [users])

    def note_evaluation(at):
        note(at, mean @ table)
        arrays[f"{at}scores"] = arrays[f"{at}user_embedding"] @ arrays[f"{at}item_embedding"].T

    note("init/", table, "_table")
    note_evaluation("eval_init/")
    first, second, losses = np.zeros_like(table), np.zeros_like(table), []
    for number in range(4):
        count = rows - 5 * (number == 1)
        picked = train[rng.integers(0, len(train), count)].T
        batch = [*picked, rng.integers(0, items - 1, count)]
        for name, column in zip(("users", "positives", "negatives"), batch, strict=True):
            arrays[f"step{number}/{name}"] = column.astype(np.int32)
        u, p, n = batch[0], users + batch[1], users + batch[2]
        e = mean @ table
        difference = np.sum(e[u] * (e[p] - e[n]), axis=1)
        norms = [np.linalg.norm(table[index]) for index in (u, p, n)]
        bpr, penalty = np.mean(np.log1p(np.exp(-difference))), sum(norms) / count
        losses.append([bpr, penalty, bpr + reg * penalty])
        slope = (-1 / (1 + np.exp(difference)) / count)[:, None]
        to_e, gradient = np.zeros_like(e), np.zeros_like(e)
        for index, x in ((u, e[p] - e[n]), (p, e[u]), (n, -e[u])):
            np.add.at(to_e, index, slope * x)
        for index, norm in zip((u, p, n), norms, strict=True):
            np.add.at(gradient, index, reg * table[index] / norm / count)
        gradient += mean @ to_e
        note(f"step{number}/", e)
        note(f"step{number}/grad/", gradient, "_table")
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        corrected = first / (1 - 0.9 ** (number + 1)), second / (1 - 0.999 ** (number + 1))
        table = table - rate * corrected[0] / (np.sqrt(corrected[1]) + 1e-8)
    note("after4/", table, "_table")
    note_evaluation("eval_after4/")
    arrays["losses"] = arrays["losses_float64"] = np.array(losses)
    return {name: np.asarray(x) for name, x in arrays.items()}


def test_other_sizes_and_settings_replay(tmp_path):
    arrays = {
        name: x.astype(np.float32) if x.dtype == np.float64 and x.ndim else x for name, x in lightgcn_in_numpy().items()
    }
    np.savez_compressed(tmp_path / "other.npz", **arrays)
    done = program(tmp_path / "other.npz", "--devices=2", "--propagation=jraph")
    assert done.returncode == 0, done.stderr + done.stdout
    np.savez_compressed(tmp_path / "spoilt.npz", **arrays | {"config/n_layers": np.asarray(2)})
    done = program(tmp_path / "spoilt.npz")
    assert (done.returncode, json.loads(done.stdout)["passed"]) == (1, False), done.stderr
    np.savez_compressed(tmp_path / "spoilt.npz", **arrays | {"config/dropout": np.asarray(0.5)})
    done = program(tmp_path / "spoilt.npz")
    assert done.returncode == 1
    assert done.stderr == "error: the trajectory's config/dropout is no setting of LightGCN that is known.\n"
