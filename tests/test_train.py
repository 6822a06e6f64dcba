"""The whole job on small data: train, stop, resume after a kill, evaluate, export, recommend."""

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sea_jax.config import Config

ROOT = Path(__file__).parent.parent
SMALL = ("--batch_size=64", "--club_steps=3", "--topk=5,20", "--learning_rate=1e-2", "--patience=0", "--quiet")


def program(name, *arguments, check=True, cwd=ROOT):
    """Runs one of the programs as a user does."""
    command = [sys.executable, str(ROOT / "experiments" / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)
    if check:
        assert done.returncode == 0, done.stderr
    return done


def train(demo, workdir, *arguments, check=True):
    return program("train", f"--data_dir={demo}", f"--workdir={workdir}", *SMALL, *arguments, check=check)


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_times(records):
    return [{name: value for name, value in record.items() if "seconds" not in name} for record in records]


def test_help_lists_every_setting_on_a_screen():
    shown = program("train", "--help").stdout
    for field in dataclasses.fields(Config):
        assert f"  --{field.name}=" in shown
    assert len(shown.splitlines()) < 100
    assert "--workdir=" in program("recommend", "--help").stdout


@pytest.mark.slow
def test_features_on_the_host_change_only_where_they_are(demo, tmp_path):
    train(demo, tmp_path / "device", "--epochs=2")
    train(demo, tmp_path / "host", "--epochs=2", "--features=host")
    for found, expected in zip(lines(tmp_path / "host"), lines(tmp_path / "device"), strict=True):
        for name, value in without_times([expected])[0].items():
            assert found[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    done = train(demo, tmp_path / "several", "--features=host", "--parallel=pmap", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: --features=host is for one device")


def test_train_evaluate_export_recommend(demo, tmp_path):
    workdir = tmp_path / "run"
    train(demo, workdir, "--epochs=4", "--checkpoint_every=2")
    summary = json.loads((workdir / "summary.json").read_text())
    records = lines(workdir)
    assert [record["epoch"] for record in records] == [1, 2, 3, 4]
    assert records[-1]["loss/total"] < records[0]["loss/total"]
    best = max(records, key=lambda record: record["valid/recall@20"])
    assert summary["best_epoch"] == best["epoch"]
    assert summary["test"]["recall@20"] == pytest.approx(best["test/recall@20"], abs=1e-7)
    assert (workdir / "config.flags").read_text().startswith("--data_dir=")

    shown = program("evaluate", f"--workdir={workdir}", f"--export={tmp_path / 'out.npz'}").stdout
    assert f"{summary['test']['recall@20']:.4f}" in shown
    shutil.copytree(workdir, tmp_path / "copy")
    compared = program("compare", f"--first={workdir}", f"--second={tmp_path / 'copy'}").stdout
    assert f"first  test recall@20 {summary['test']['recall@20']:.4f}" in compared
    assert "difference +0.0000, the same for all 60 users" in compared
    with np.load(tmp_path / "out.npz") as exported:
        assert exported["user_embedding"].dtype == np.float32
        assert exported["user_embedding"].shape[0] == 60
        assert exported["item_ids"][7] == "item7"
        scores = exported["user_embedding"] @ exported["item_embedding"].T

    (tmp_path / "users.txt").write_text("user3\nuser0\n")
    program(
        "recommend", f"--workdir={workdir}", f"--users={tmp_path / 'users.txt'}", "--k=5",
        f"--output={tmp_path / 'top.csv'}",
    )  # fmt: skip
    with open(tmp_path / "top.csv") as file:
        rows = list(csv.DictReader(file))
    with np.load(demo / "interactions.npz") as interactions:
        known = interactions["train"]
    for user in (3, 0):
        allowed = scores[user].copy()
        allowed[known[known[:, 0] == user, 1]] = -np.inf
        expected = [f"item{item}" for item in np.argsort(-allowed, kind="stable")[:5]]
        assert [row["item"] for row in rows if row["user"] == f"user{user}"] == expected


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(demo, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    settings = ("--epochs=8", "--checkpoint_every=2")
    train(demo, whole, *settings)

    command = [
        sys.executable, str(ROOT / "experiments" / "train.py"), f"--data_dir={demo}", f"--workdir={broken}",
        *SMALL, "--epochs=1000", "--checkpoint_every=2",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = broken / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed = len(lines(broken)) if metrics.read_text().endswith("\n") else None
    if killed is not None and killed > 7:
        pytest.fail(f"the run was killed too late, after {killed} epochs")

    train(demo, broken, *settings)
    assert without_times(lines(broken)) == without_times(lines(whole))
    for path in (whole, broken):
        program("evaluate", f"--workdir={path}", "--checkpoint=latest", f"--export={path}.npz")
    with np.load(f"{whole}.npz") as a, np.load(f"{broken}.npz") as b:
        for name in a.files:
            np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.slow
def test_resume_rules(demo, tmp_path):
    workdir = tmp_path / "run"
    train(demo, workdir, "--epochs=1")
    finished = train(demo, workdir, "--epochs=1")
    assert "best epoch 1 of 1" in finished.stdout
    assert len(lines(workdir)) == 1
    train(demo, workdir, "--epochs=2")
    assert len(lines(workdir)) == 2
    other = train(demo, workdir, "--epochs=2", "--alpha=0.5", check=False)
    assert other.returncode == 1
    assert "--alpha was 0.012 and is 0.5" in other.stderr
    refused = train(demo, workdir, "--epochs=2", "--noresume", check=False)
    assert refused.returncode == 1
    assert "already holds a run" in refused.stderr


def test_a_damaged_checkpoint_falls_back_to_the_one_before(demo, tmp_path):
    workdir = tmp_path / "run"
    train(demo, workdir, "--epochs=2", "--checkpoint_every=1")
    for path in (workdir / "checkpoints" / "2").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    resumed = train(demo, workdir, "--epochs=2", "--checkpoint_every=1")
    assert "checkpoint 2" in resumed.stderr
    assert "resuming after epoch 1" in resumed.stderr
    assert [record["epoch"] for record in lines(workdir)] == [1, 2]


BAD = {
    "batch": (["--batch_size=0"], "--batch_size=0 must be at least 1"),
    "k": (["--knn_k=-1"], "--knn_k=-1 must be at least 1"),
    "too many neighbours": (["--knn_k=21"], "--knn_k=21"),
    "topk": (["--topk=0"], "--topk=0 must be at least 1"),
    "words for numbers": (["--topk=a"], "must be a list of ints"),
    "metric": (["--monitor=auc@20"], "is no metric"),
    "cut-off not measured": (["--monitor=recall@7"], "needs --topk to contain 7"),
    "weights": (["--knn_weights=0.1"], "--knn_weights"),
    "modality": (["--modalities=video"], "no modality 'video'"),
    "devices": (["--devices=9"], "more devices than the"),
    "pair": (["--solosim_pairs=text:video"], "must name two of the modalities"),
    "one modality across": (
        ["--modalities=text", "--club_fit_pairs=across_modalities"], "needs two modalities"
    ),
    "stray argument": (["baby"], "unexpected argument baby"),
    "flagfile": (["--flagfile=nobody.flags"], "nobody.flags is neither"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_impossible_settings_are_one_sentence(demo, tmp_path, name):
    arguments, message = BAD[name]
    done = train(demo, tmp_path / "run", *arguments, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_unknown_flags_are_fatal(demo, tmp_path):
    done = train(demo, tmp_path / "run", "--temprature=1", check=False)
    assert done.returncode != 0
    assert "temprature" in done.stderr


def test_no_data_yet_says_what_to_do(tmp_path):
    done = program("train", "--flagfile=baby.flags", check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert "data/baby" in done.stderr
    assert "python data_prep/from_mmrec.py" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_workdir_that_is_a_file(demo, tmp_path):
    (tmp_path / "run").write_text("")
    done = train(demo, tmp_path / "run", check=False)
    assert done.returncode == 1
    assert "is a file" in done.stderr
