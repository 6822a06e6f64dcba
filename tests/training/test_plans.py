"""Tables as plans: which rows there are, what is missing, that a plan carried out gives what its parts give alone."""

import csv
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import sea_jax
from sea_jax.config import OWN_DEFAULTS, Config
from sea_jax.errors import SeaError
from sea_jax.training import closed_forms, searching, tables, workdir
from sea_jax.training.space import read_space
from sea_jax.training.tables import Plan, Row

ROOT = Path(__file__).parent.parent.parent
SPACES = ROOT / "experiments" / "spaces"


def test_every_table_names_rows_that_are_there():
    for name, rows in tables.TABLES.items():
        found = {row.name: row for row in rows()}
        assert len(found) == len(rows()), name
        assert len({row.folder for row in found.values()}) == len(found), name
        for row in found.values():
            assert {row.of, row.rival, *row.blend} - {""} <= set(found), row
    assert {row.settings.get("backbone") for row in tables.main_table()} - {None} == set(OWN_DEFAULTS)


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_space_holds_what_its_search_begins_with(name):
    plan = Plan(tuple(tables.TABLES[name]()), Config(learning_rate=1e-3), (1,), (1,), 2, SPACES, Path("nowhere"))
    for row in plan.rows:
        start = tables.start_of(plan, row) if not (row.of or row.baseline or row.blend) else None
        for file in row.space:
            assert read_space(SPACES / f"{file}.yaml", start), row
        if start is not None:  # nothing of the common settings' backbone is left in a row's
            own = OWN_DEFAULTS[start.backbone] | dict(row.settings)
            assert all(getattr(start, setting) == value for setting, value in own.items())


def test_rows_bring_what_they_need():
    names = [row.name for row in tables.chosen_rows("main", ["blend"])]
    assert names == ["SEA (BPR)", "SEA (softmax)", "ease_content", "blend"]
    assert tables.chosen_rows("ablation", ["SEA (softmax): without CLUB"])[0].name == "SEA (softmax)"
    assert len(tables.chosen_rows("main", [])) == len(tables.main_table())
    with pytest.raises(SeaError, match="--rows names 'blent'"):
        tables.chosen_rows("main", ["blent"])


@pytest.fixture(scope="module")
def plan(demo, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    (folder / "rate.yaml").write_text("learning_rate: [1e-3, 1e-1]\n")
    rows = (
        Row("LightGCN", {"backbone": "lightgcn"}, ("rate",)),
        Row("one layer", {"layers": 1}, of="LightGCN", rival="LightGCN"),
        Row("SEA", {"backbone": "sea", "club_steps": 1}, ("rate",)),
        Row("SEA without CLUB", {"separation": "none"}, of="SEA", rival="SEA"),
        Row("ease", baseline="ease"),
        Row("both", blend=("SEA", "ease"), rival="ease"),
    )
    common = Config(data_dir=str(demo), learning_rate=1e-3, batch_size=64, epochs=2)
    return Plan(rows, common, (1, 2), (2, 3, 1), 2, folder, folder / "out")


def test_a_plan_carried_out(demo, plan):
    bundle, told = sea_jax.load(demo), []
    assert plan.missing(plan.row("LightGCN")) == ["search", "seed-1", "seed-2"]
    assert plan.missing(plan.row("SEA")) == ["search", "seed-2", "seed-3", "seed-1"]
    assert plan.missing(plan.row("SEA without CLUB")) == ["seed-2", "seed-3", "seed-1"]
    assert plan.missing(plan.row("both")) == ["seed-1", "seed-2"]
    for row in plan.rows:
        tables.make(plan, row, bundle, told.append)
        assert plan.missing(row) == []
        spent, left = tables.cost(plan, row)
        assert left == 0
        assert spent > 0 or row.blend or row.baseline
    assert next(line for line in told if "trial" in line).startswith("LightGCN: trial 0 complete")
    # The search's best is what is trained, and a row that changes it changes nothing else.
    best = max(searching.read_trials(plan.folder / "lightgcn" / "search"), key=lambda row: float(row["recall@20"]))
    config = sea_jax.open_run(plan.runs_of(plan.row("LightGCN"))[0]).config
    assert config.learning_rate == float(best["learning_rate"])
    other = sea_jax.open_run(plan.runs_of(plan.row("one layer"))[0]).config
    assert dataclasses.replace(other, layers=2, workdir="") == dataclasses.replace(config, workdir="")
    found = {one.name: one for one in tables.results(plan)}
    assert set(found) == {row.name for row in plan.rows}
    for row in plan.rows:
        summaries = [json.loads((path / workdir.SUMMARY).read_text()) for path in plan.runs_of(row)]
        assert found[row.name].test["recall@20"] == [summary["test"]["recall@20"] for summary in summaries]
        assert found[row.name].users["ndcg@20"].mean(axis=1) == pytest.approx(found[row.name].test["ndcg@20"], abs=1e-6)
    assert (found["one layer"].setting, found["one layer"].value) == ("layers", 1.0)
    assert found["both"].rival == "ease"
    ease = closed_forms.run(bundle, tables.baselines.Baseline(model="ease"))
    assert found["ease"].test["recall@20"] == [ease.metrics["test"]["recall@20"]]
    # Runs whose search is not there are shown as such.
    assert "search" not in found["LightGCN"].settings
    shutil.rmtree(plan.folder / "lightgcn" / "search")
    found = {one.name: one for one in tables.results(plan)}
    assert found["LightGCN"].settings.endswith("(its search is not in the folder)")
    assert "search" not in found["SEA"].settings + found["one layer"].settings


@pytest.mark.slow
def test_the_program(demo, tmp_path):
    command = [
        sys.executable, "experiments/reproduce.py", "--table=main", f"--data_dirs={demo}", f"--output={tmp_path / 'out'}",
        "--rows=lightgcn,popularity", "--seeds=1,2", "--trials=1", "--epochs=1", "--patience=1",
    ]  # fmt: skip

    def run(*more):
        return subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True, timeout=300)

    listed = run("--list")
    assert listed.returncode == 0, listed.stderr
    assert "search, seed-1, seed-2" in listed.stdout
    assert not (tmp_path / "out").exists()
    done = run()
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "out" / "main.csv").read_text().splitlines()))
    assert {row["row"] for row in rows} == {"lightgcn", "popularity"}
    assert "### demo" in (tmp_path / "out" / "main.md").read_text()
    assert (tmp_path / "out" / "main.png").stat().st_size > 2000
    again = run()
    assert "row 1" not in again.stdout  # nothing is missing
    for flags, words in (
        (["--seeds=1,1"], "--seeds=1,1 must be"),
        (["--seeds=x"], "must be a list of ints"),
        ([f"--data_dirs={demo},{demo}"], "two folders demo"),
        ([f"--data_dirs={tmp_path}"], "manifest.json"),
        (["--rows=nothing"], "--rows names 'nothing'"),
        (["--data_dirs="], "--data_dirs is empty"),
    ):
        wrong = run(*flags)
        assert wrong.returncode == 1, flags
        assert words in wrong.stderr
        assert len(wrong.stderr.strip().splitlines()) == 1
