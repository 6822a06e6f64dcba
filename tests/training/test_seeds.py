"""Runs that share a program: several seeds in folders of their own, other weights without another compilation."""

import dataclasses
import json
import statistics
from pathlib import Path

import jax
import numpy as np
import pytest

import sea_jax
from sea_jax import config as configs
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.training import loop, seeds, workdir

SMALL = {"batch_size": 64, "club_steps": 2, "topk": (5, 20), "learning_rate": 1e-2}


def untimed(path: Path) -> list[dict]:
    records = map(json.loads, (path / workdir.METRICS).read_text().splitlines())
    return [{name: x for name, x in record.items() if "seconds" not in name} for record in records]


def same_parameters(one, other) -> bool:
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def three(demo, tmp_path_factory):
    """Three seeds that end by patience, each at its own time."""
    folder = tmp_path_factory.mktemp("seeds") / "runs"
    config = Config(epochs=12, patience=2, **SMALL)
    return seeds.fit_seeds(sea_jax.load(demo), config, [1, 2, 3], folder), folder, config


def test_each_seed_is_the_single_run_of_that_seed(demo, tmp_path, three):
    found, folder, config = three
    assert len({len(run.history) for run in found}) > 1  # each stopped for itself
    for run in found[1:]:
        assert run.training.programs is found[0].training.programs
    alone = sea_jax.fit(sea_jax.load(demo), dataclasses.replace(config, seed=2), tmp_path / "alone")
    assert untimed(tmp_path / "alone") == untimed(folder / "seed-2")
    assert same_parameters(alone.parameters()[0], found[1].parameters()[0])
    opened = sea_jax.open_run(folder / "seed-2")
    assert opened.config.seed == 2
    assert opened.metrics == alone.metrics


def test_the_summary_is_over_the_seeds(three):
    found, folder, _ = three
    summary = json.loads((folder / workdir.SUMMARY).read_text())
    assert summary["seeds"] == [1, 2, 3]
    for split in ("valid", "test"):
        values = [run.metrics[split]["recall@20"] for run in found]
        of = summary[split]["recall@20"]
        assert of["mean"] == pytest.approx(sum(values) / 3)
        assert of["sd"] == pytest.approx(np.std(values, ddof=1))
        assert of["values"] == {"1": values[0], "2": values[1], "3": values[2]}
    assert summary["best_epoch"] == {str(n): run.summary["best_epoch"] for n, run in enumerate(found, 1)}
    told = seeds.describe(summary)
    assert f"{statistics.fmean(values):.4f} ± {statistics.stdev(values):.4f}" in told


def test_seeds_that_were_stopped_resume_to_the_same_numbers(demo, tmp_path, three):
    _, expected, config = three
    asked = []

    def stop():  # within the second seed
        asked.append(None)
        return len(asked) == len(untimed(expected / "seed-1")) + 3

    bundle = sea_jax.load(demo)
    with pytest.raises(KeyboardInterrupt):
        seeds.fit_seeds(bundle, config, [1, 2, 3], tmp_path / "runs", stop=stop)
    assert not (tmp_path / "runs" / workdir.SUMMARY).exists()
    assert not (tmp_path / "runs" / "seed-3").exists()
    seeds.fit_seeds(bundle, config, [1, 2, 3], tmp_path / "runs")
    for n in (1, 2, 3):
        assert untimed(tmp_path / "runs" / f"seed-{n}") == untimed(expected / f"seed-{n}")


def test_folders_that_are_not_of_seeds(demo, tmp_path, three):
    _, folder, config = three
    bundle = sea_jax.load(demo)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("")
    for place, words in (
        (folder / "seed-1", "holds a run of one seed"),
        (tmp_path / "other", "holds more than runs of seeds"),
        (tmp_path / "file", "is a file"),
    ):
        with pytest.raises(SeaError, match=words):
            seeds.fit_seeds(bundle, config, [1], place)
    for wrong in ([], [1, 1]):
        with pytest.raises(SeaError, match="--seeds="):
            seeds.fit_seeds(bundle, config, wrong)
    with pytest.raises(SeaError, match=r"holds runs of 3 seeds; name one, such as .*seed-1"):
        sea_jax.open_run(folder)


def test_folders_of_seeds_are_found_by_number(tmp_path):
    for name in ("seed-10", "seed-2", "seed-x", "seed-", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "seed-3").write_text("")
    assert [path.name for path in workdir.seed_folders(tmp_path)] == ["seed-2", "seed-10"]
    assert workdir.runs_at(tmp_path) == [tmp_path / "seed-2", tmp_path / "seed-10"]
    assert workdir.runs_at(tmp_path / "other") == [tmp_path / "other"]


@pytest.mark.parametrize(
    ("backbone", "before", "after"),
    [
        ("sea", {}, {"alpha": 0.5, "ureg": 0.1, "temperature": 0.4, "learning_rate": 1e-3, "club_learning_rate": 1e-2}),
        ("sea", {"ranking_loss": "softmax"}, {"ranking_temperature": 0.3}),
        ("bm3", {}, {"bm3_contrast_weight": 0.7, "reg_weight": 0.2}),
        ("mgcn", {}, {"mgcn_contrast_weight": 0.7}),
        ("smore", {}, {"smore_contrast_weight": 0.7}),
        ("lgmrec", {}, {"lgmrec_contrast_weight": 0.7, "lgmrec_alpha": 0.6}),
        ("pgl", {"reg_weight": 0.1}, {"pgl_temperature": 0.5}),
    ],
)
def test_a_program_takes_weights_as_arguments(demo, backbone, before, after):
    """What it computes for other weights is what a program made for these computes; its name says that nothing was compiled."""
    bundle, names = sea_jax.load(demo), {"backbone": backbone} | SMALL
    first = loop.prepare(bundle, Config(**names | before))
    config = Config(**names | before | after, seed=5)
    alike = loop.prepare(bundle, config, like=first)
    assert alike.programs is first.programs
    _, found = loop.advance(alike)
    _, expected = loop.advance(loop.prepare(bundle, config))
    _, other = loop.advance(first)
    for name in found:
        if "seconds" not in name:
            assert found[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-6), name
    assert found["loss/total"] != pytest.approx(other["loss/total"], rel=1e-3)


def test_what_shares_a_program():
    config = Config()
    assert configs.share_programs(config, Config(seed=3, alpha=0.1, epochs=2, workdir="x", learning_rate=1e-2))
    for other in ({"knn_k": 5}, {"embedding_dim": 32}, {"separation": "none"}, {"batch_size": 64}, {"topk": (20,)}):
        assert not configs.share_programs(config, Config(**other)), other
    # Below 1/30 the largest logit is looked for, which is another program.
    assert not configs.share_programs(config, Config(temperature=0.01))
    assert not configs.share_programs(Config(temperature=0.02), Config(temperature=0.01))
    assert "temperature" not in configs.arguments(Config(temperature=0.01))


def test_other_data_are_not_shared(demo):
    bundle = sea_jax.load(demo)
    run = loop.prepare(bundle, Config(**SMALL))
    assert loop.serves(run, bundle.select(()), Config(**SMALL, seed=1))
    assert not loop.serves(run, sea_jax.load(demo), Config(**SMALL))
    assert not loop.serves(run, bundle.select(("image",)), Config(**SMALL))


def test_a_refused_command_changes_nothing(demo, three):
    _, folder, config = three
    before = (folder / workdir.SUMMARY).read_bytes()
    for changed in (dataclasses.replace(config, layers=3), dataclasses.replace(config, layers=3, seed=4)):
        with pytest.raises(SeaError, match=r"other flags \(--layers was 2 and is 3\)"):
            seeds.fit_seeds(sea_jax.load(demo), changed, [changed.seed], folder)
    assert (folder / workdir.SUMMARY).read_bytes() == before


def test_the_summary_is_over_all_that_are_there(demo, tmp_path):
    bundle, config = sea_jax.load(demo), Config(epochs=1, backbone="mf", **SMALL)
    for some in ([2], [1]):
        seeds.fit_seeds(bundle, config, some, tmp_path / "runs")
    assert json.loads((tmp_path / "runs" / workdir.SUMMARY).read_text())["seeds"] == [1, 2]
