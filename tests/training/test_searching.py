"""A search: what may be searched, that it goes on after a kill as if there had been none, that it never looks at test."""

import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import optuna
import pytest

import sea_jax
from sea_jax import files
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.training import loop, searching, space
from sea_jax.training.space import Dimension, read_space

ROOT = Path(__file__).parent.parent.parent
BASE = Config(backbone="lightgcn", batch_size=64, topk=(5, 20), learning_rate=1e-2, epochs=3)
RATES = {"learning_rate": Dimension(1e-3, 1e-1, log=True), "embedding_dim": Dimension(choices=("16", "64"))}


def written(tmp_path, text: str, config: Config = BASE):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    return read_space(path, config)


def test_a_space_of_every_kind(tmp_path):
    found = written(
        tmp_path,
        "learning_rate: {low: 1e-4, high: 1.0e-1, log: true}\n"
        "reg_weight: {low: 0, high: 0.1}\n"
        "layers: {low: 1, high: 3}\n"
        "embedding_dim: {low: 32, high: 128, step: 32}\n"
        "knn_weights: [[0.1, 0.9], [0.5, 0.5], []]\n"
        "ranking_masks_seen: [true, false]\n"
        "ranking_loss: [bpr, softmax]\n",
    )
    assert found == {
        "learning_rate": Dimension(1e-4, 1e-1, log=True),
        "reg_weight": Dimension(0.0, 0.1),
        "layers": Dimension(1, 3, step=1),
        "embedding_dim": Dimension(32, 128, step=32),
        "knn_weights": Dimension(choices=("0.1,0.9", "0.5,0.5", "")),
        "ranking_masks_seen": Dimension(choices=("True", "False")),
        "ranking_loss": Dimension(choices=("bpr", "softmax")),
    }
    given = {
        "learning_rate": 2e-3, "reg_weight": 0.05, "layers": 3, "embedding_dim": 96, "knn_weights": "0.5,0.5",
        "ranking_masks_seen": "True", "ranking_loss": "softmax",
    }  # fmt: skip
    config = dataclasses.replace(BASE, **space.suggest(optuna.trial.FixedTrial(given), found))
    assert (config.knn_weights, config.ranking_masks_seen, config.embedding_dim) == ((0.5, 0.5), True, 96)
    assert space.values(config, found) == given


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must name settings"),
        ("- 1\n", "must name settings"),
        ("a: [1\n", "line 2 is no YAML"),
        ("!!python/object/apply:os.system ['true']\n", "is no YAML"),
        ("learning_rat: [1]\n", "learning_rat cannot be searched"),
        ("epochs: [1, 2]\n", "epochs cannot be searched"),
        ("seed: [1, 2]\n", "a lucky seed is no setting"),
        ("backbone: [sea, mf]\n", "backbone cannot be searched"),
        ("learning_rate: 1e-3\n", "must be a list of choices"),
        ("learning_rate: []\n", "must be a list of choices"),
        ("learning_rate: {low: 1e-3}\n", "must be a list of choices"),
        ("learning_rate: {low: 1e-3, high: 1, base: 2}\n", "must be a list of choices"),
        ("learning_rate: {low: 1, high: 1e-3}\n", "low must be below high"),
        ("learning_rate: {low: x, high: 1}\n", "must be a number"),
        ("learning_rate: {low: -1, high: 1}\n", "must be above 0"),
        ("learning_rate: {low: 1e-3, high: 1, log: 3}\n", "log must be true or false"),
        ("reg_weight: {low: 0, high: 1, log: true}\n", "with log it must be above 0"),
        ("ranking_loss: {low: 1, high: 2}\n", "has no range"),
        ("ranking_loss: [bpr, hinge]\n", "is not one of"),
        ("embedding_dim: [32, 128]\n", "does not hold 64, which the search starts from"),
        ("embedding_dim: {low: 32, high: 128, step: 50}\n", "does not hold 64"),
        ("learning_rate: {low: 0.1, high: 1}\n", "does not hold 0.01"),
    ],
)
def test_spaces_that_cannot_be(tmp_path, text, words):
    with pytest.raises(SeaError, match=words) as raised:
        written(tmp_path, text)
    assert "space.yaml" in str(raised.value)


@pytest.fixture(scope="module")
def found(demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "runs"
    records = []
    best = searching.search(sea_jax.load(demo), BASE, RATES, 5, folder, prune=False, report=records.append)
    return best, records, folder


def table(folder):
    with open(folder / searching.TRIALS, newline="") as opened:
        return [{name: x for name, x in row.items() if name != "seconds"} for row in csv.DictReader(opened)]


def test_the_best_is_the_best_of_validation_and_the_first_trial_is_the_start(demo, found):
    best, records, folder = found
    assert [record["trial"] for record in records] == [0, 1, 2, 3, 4]
    assert (records[0]["learning_rate"], records[0]["embedding_dim"]) == (0.01, "64")
    assert best.value == max(record["value"] for record in records)
    assert all(1e-3 <= record["learning_rate"] <= 1e-1 for record in records)
    assert len({record["learning_rate"] for record in records}) == 5
    # A run of these settings has this value at this epoch.
    run = sea_jax.fit(sea_jax.load(demo), best.config)
    assert run.metrics["valid"]["recall@20"] == pytest.approx(best.value, abs=1e-6)
    assert run.summary["best_epoch"] == best.epoch
    assert [float(row["recall@20"]) for row in table(folder)] == [record["value"] for record in records]
    assert (folder / searching.HISTORY).stat().st_size > 5000


def test_the_best_settings_are_a_flagfile(demo, found, tmp_path):
    best, _, folder = found
    lines = (folder / searching.BEST).read_text().splitlines()
    assert f"--learning_rate={best.config.learning_rate}" in lines
    assert not [line for line in lines if line.startswith("--workdir")]
    flags = [f"--flagfile={folder / searching.BEST}", f"--data_dir={demo}", f"--workdir={tmp_path / 'run'}", "--quiet"]
    subprocess.run([sys.executable, "experiments/train.py", *flags], cwd=ROOT, check=True, capture_output=True)
    assert sea_jax.open_run(tmp_path / "run").metrics["valid"]["recall@20"] == pytest.approx(best.value, abs=1e-6)


def test_test_is_not_there(demo, tmp_path, monkeypatch):
    seen, prepare = [], loop.prepare
    monkeypatch.setattr(
        loop, "prepare", lambda bundle, *rest, **more: seen.append(len(bundle.test)) or prepare(bundle, *rest, **more)
    )
    searching.search(sea_jax.load(demo), BASE, RATES, 1, tmp_path / "runs")
    assert seen == [0]


def test_a_search_goes_on_with_the_trials_it_would_have_made(demo, found, tmp_path):
    """Stopped within its third trial, which is made again."""
    _, _, folder = found
    asked = []

    def stop():
        asked.append(None)
        return len(asked) == 2 * BASE.epochs + 2

    bundle = sea_jax.load(demo)
    with pytest.raises(KeyboardInterrupt):
        searching.search(bundle, BASE, RATES, 5, tmp_path / "runs", prune=False, stop=stop)
    searching.search(bundle, BASE, RATES, 5, tmp_path / "runs", prune=False)
    states = [one.state.name for one in searching.open_study(tmp_path / "runs").get_trials()]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]
    ours, theirs = table(tmp_path / "runs"), table(folder)
    assert [row | {"trial": ""} for row in ours] == [row | {"trial": ""} for row in theirs]
    elsewhere = dataclasses.replace(BASE, propagation="jraph", checkpoint_every=3)  # how it is computed is free
    more = searching.search(bundle, elsewhere, RATES, 6, tmp_path / "runs", prune=False)
    assert more.trials == 6


def test_the_first_trial_survives_a_kill_before_it_was_asked_for_its_values(tmp_path):
    study = searching.open_study(tmp_path)
    searching.requeue(study, {"learning_rate": 0.02, "embedding_dim": "16"})
    study.ask()  # and nothing more
    searching.requeue(study, {"learning_rate": 0.5, "embedding_dim": "64"})
    assert space.suggest(study.ask(), RATES) == {"learning_rate": 0.02, "embedding_dim": 16}


def test_trials_that_cannot_be_trained_are_over(demo, tmp_path):
    wild = dataclasses.replace(BASE, backbone="mf", learning_rate=1e30, embedding_dim=16)
    rates = {"learning_rate": Dimension(choices=("1e+30", "0.01"))}
    records = []
    with pytest.raises(SeaError, match="no trial has come to its end"):
        searching.search(sea_jax.load(demo), wild, rates, 1, tmp_path / "runs", report=records.append)
    assert records[0]["state"] == "fail"
    found = searching.search(sea_jax.load(demo), wild, rates, 8, tmp_path / "runs")
    assert found.config.learning_rate == 0.01


def test_a_trial_below_the_median_is_pruned(demo, tmp_path):
    """Six that learn, and one of a rate at which nothing is learnt."""
    base = dataclasses.replace(BASE, epochs=searching.WARMUP + 4)
    rates = {"learning_rate": Dimension(choices=("0.01", "1e-09"))}
    study = searching.open_study(tmp_path)
    del study
    folder = tmp_path / "runs"
    searching.search(sea_jax.load(demo), base, rates, 1, folder)
    study = searching.open_study(folder)
    for _ in range(searching.STARTUP):
        study.enqueue_trial({"learning_rate": "0.01"})
    study.enqueue_trial({"learning_rate": "1e-09"})
    found = searching.search(sea_jax.load(demo), base, rates, searching.STARTUP + 2, folder)
    last = searching.over(study)[-1]
    assert last.state.name == "PRUNED"
    assert searching.WARMUP < max(last.intermediate_values) < base.epochs
    assert found.config.learning_rate == 0.01


def test_folders_of_something_else(demo, found, tmp_path):
    _, _, folder = found
    bundle = sea_jax.load(demo)
    for change, words in (
        ({"config": dataclasses.replace(BASE, layers=3)}, "other --layers"),
        ({"space": {"learning_rate": RATES["learning_rate"]}}, "other space"),
    ):
        given = {"config": BASE, "space": RATES} | change
        with pytest.raises(SeaError, match=words):
            searching.search(bundle, *given.values(), 5, folder, prune=False)
    with pytest.raises(SeaError, match="other data"):
        rest = dataclasses.replace(bundle, manifest=bundle.manifest | {"hashes": {}}, train=bundle.train[:-1])
        searching.search(rest, BASE, RATES, 5, folder, prune=False)
    (tmp_path / "letter").mkdir()
    (tmp_path / "letter" / "a.txt").write_text("dear")
    with pytest.raises(SeaError, match="holds no search"):
        searching.search(bundle, BASE, RATES, 1, tmp_path / "letter")
    nobody = dataclasses.replace(bundle, valid=bundle.valid[:0])
    with pytest.raises(SeaError, match="nobody counts in validation"):
        searching.search(nobody, BASE, RATES, 1, tmp_path / "nobody")
    with pytest.raises(SeaError, match="--eval_every=9 exceeds"):
        searching.search(bundle, dataclasses.replace(BASE, eval_every=9), RATES, 1, tmp_path / "never")


def test_a_damaged_study_is_one_sentence(demo, found, tmp_path):
    _, _, folder = found
    files.write_text(tmp_path / searching.RECORD, (folder / searching.RECORD).read_text())
    (tmp_path / searching.STUDY).write_bytes(b"no database at all" * 100)
    with pytest.raises(SeaError, match="is damaged and cannot be read"):
        searching.search(sea_jax.load(demo), BASE, RATES, 5, tmp_path, prune=False)


@pytest.mark.slow
def test_killed_and_started_again(demo, found, tmp_path):
    """kill -9 in the middle; then the same command."""
    _, _, folder = found
    (tmp_path / "space.yaml").write_text("learning_rate: {low: 1e-3, high: 1e-1, log: true}\nembedding_dim: [16, 64]\n")
    flags = [
        f"--data_dir={demo}", f"--workdir={tmp_path / 'runs'}", f"--space={tmp_path / 'space.yaml'}", "--trials=5",
        "--backbone=lightgcn", "--batch_size=64", "--topk=5,20", "--learning_rate=1e-2", "--epochs=3", "--noprune",
    ]  # fmt: skip
    command = [sys.executable, "experiments/search.py", *flags]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    for _ in range(2):
        process.stdout.readline()
    time.sleep(0.2)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "best of 5 trials: valid recall@20" in done.stdout
    assert "recall@20" in (tmp_path / "runs" / searching.TRIALS).read_text()
    ours, theirs = table(tmp_path / "runs"), table(folder)
    assert [row | {"trial": ""} for row in ours] == [row | {"trial": ""} for row in theirs]


def test_points_of_different_lengths_differ():
    """A sampler that was seeded once would draw the same after every resume."""
    drawn = set()
    for done in range(6):
        study = optuna.create_study(sampler=searching.sampler(0, done))
        drawn.add(study.ask().suggest_float("x", 0, 1))
    assert len(drawn) == 6
    again = optuna.create_study(sampler=searching.sampler(0, 3)).ask().suggest_float("x", 0, 1)
    assert again in drawn
    assert np.isfinite(again)
