"""Comparisons against SciPy, against closed testing over all subsets, and by hand; the program on runs."""

import csv
import doctest
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

import sea_jax
from sea_jax import comparing
from sea_jax.baselines import Baseline
from sea_jax.errors import SeaError
from sea_jax.training import closed_forms

ROOT = Path(__file__).parent.parent


def test_the_t_test_is_scipys(rng):
    a, b = rng.normal([[0.2], [0.0]], size=(2, 40))
    expected = scipy.stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    found = comparing.paired_t(a - b)
    np.testing.assert_allclose(found, (interval.low, interval.high, expected.statistic, expected.pvalue), rtol=1e-9)


@pytest.mark.parametrize("differences", [[0.25], [0.5, 0.5, 0.5], [0.0, 0.0]])
def test_where_nothing_varies_there_is_no_test(differences):
    assert np.isnan(comparing.paired_t(np.array(differences))).all()


def test_the_bootstrap_of_two_users_is_known():
    # Means of resamples of 0 and 1: 0 with chance 1/4, 1/2 with 1/2, 1 with 1/4.
    assert comparing.bootstrap(np.array([0.0, 1.0]), 1000) == (0.0, 1.0)
    assert comparing.bootstrap(np.array([3.0]), 10) == (3.0, 3.0)
    assert np.isnan(comparing.bootstrap(np.array([0.0, 1.0]), 0)).all()


def test_the_bootstrap_is_scipys_up_to_its_draws(rng):
    differences = rng.exponential(size=60) - 0.8
    expected = scipy.stats.bootstrap((differences,), np.mean, n_resamples=40_000, method="percentile", rng=1)
    found = comparing.bootstrap(differences, 40_000)
    within = 0.03 * differences.std()  # the standard error of either end is about .001
    np.testing.assert_allclose(found, expected.confidence_interval, atol=within)
    assert comparing.bootstrap(differences, 500, seed=3) == comparing.bootstrap(differences, 500, seed=3)
    assert comparing.bootstrap(differences, 500, seed=3) != comparing.bootstrap(differences, 500, seed=4)


def test_draws_at_hand_do_not_change_how_many_there_are(rng, monkeypatch):
    monkeypatch.setattr(comparing, "DRAWS", 7)
    low, high = comparing.bootstrap(rng.normal(size=5), 2001)
    assert low < high
    assert comparing.bootstrap(np.ones(50), 3) == (1.0, 1.0)


def test_holm_by_hand():
    # Sorted .005 .01 .03 .04, times 4 3 2 1: .02 .03 .06 .04, which may not fall.
    np.testing.assert_allclose(comparing.holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(comparing.holm(np.array([0.6, np.nan, 0.01])), [1.0, np.nan, 0.03])


def test_holm_is_closed_testing(rng):
    """A hypothesis' adjusted p is the largest Bonferroni p of all the sets of hypotheses that it is in."""
    p = np.round(rng.random(6) ** 3, 2)  # some tie
    for i, found in enumerate(comparing.holm(p)):
        sets = (s for n in range(1, 7) for s in itertools.combinations(range(6), n) if i in s)
        assert found == pytest.approx(max(min(1, len(s) * p[list(s)].min()) for s in sets))


def test_settings_of_several_seeds_are_compared_by_the_means_of_users(rng):
    first = {"recall@5": rng.random((3, 30)).astype(np.float32), "mrr@5": rng.random((3, 30)).astype(np.float32)}
    seconds = [{name: rng.random((n, 30)).astype(np.float32) for name in first} for n in (2, 1)]
    found = comparing.compare(first, seconds, 100, 7)
    assert [(one.second, one.metric) for one in found] == [(n, name) for n in (0, 1) for name in first]
    p = []
    for one in found:
        a, b = np.float64(first[one.metric]).mean(0), np.float64(seconds[one.second][one.metric]).mean(0)
        expected = scipy.stats.ttest_rel(a, b)
        assert (one.t, one.p) == (pytest.approx(expected.statistic), pytest.approx(expected.pvalue))
        assert one.difference == pytest.approx(a.mean() - b.mean()) == pytest.approx(one.first_mean - one.second_mean)
        assert (one.bootstrap_low, one.bootstrap_high) == comparing.bootstrap(a - b, 100, 7)
        p.append(one.p)
    np.testing.assert_allclose([one.p_holm for one in found], comparing.holm(np.array(p)))
    assert f"by Holm {found[0].p_holm:.2g}" in comparing.sentence(found[0])


@pytest.mark.parametrize(
    "given", [[], [""], ["auc"], ["recall@"], ["recall@0"], ["recall@2147483648"], ["recall@x"], ["@5"]]
)
def test_what_is_no_metric_is_refused(given):
    with pytest.raises(SeaError, match="--metric="):
        comparing.metrics_of(given, 20) if given else comparing.metrics_of([*given, ""], 20)


def test_the_examples_run():
    found = doctest.testmod(comparing)
    assert found.attempted == 2 and not found.failed


def test_metrics_without_a_cut_off_have_ks():
    assert comparing.metrics_of(["recall", "recall@20", "map@3"], 20) == ["recall@20", "map@3"]


def program(name, *arguments):
    command = [sys.executable, str(ROOT / "experiments" / f"{name}.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)


def told(done):
    """The one sentence that a program ended with."""
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


@pytest.fixture(scope="module")
def places(demo, tmp_path_factory):
    """Runs without training: three settings, one in two places as if of two seeds; and one training."""
    root = tmp_path_factory.mktemp("compared")
    bundle = sea_jax.load(demo)
    for name, more in (("popularity", {}), ("item_knn", {"neighbours": 5}), ("ease", {"ridge": 10.0})):
        settings = Baseline(
            model=name, data_dir=str(demo), workdir=str(root / name), topk=(5, 10), monitor="recall@10", **more
        )
        closed_forms.run(bundle, settings)
    for seed in (1, 2):
        shutil.copytree(root / "ease", root / "seeds" / f"seed-{seed}")
    config = sea_jax.Config(
        backbone="mf", epochs=1, data_dir=str(demo), topk=(5, 10), monitor="ndcg@5", mask_valid_at_test=True
    )
    sea_jax.fit(bundle, config, workdir=root / "trained")
    return root


def test_several_settings_at_once(places, demo):
    done = program(
        "compare", f"--first={places / 'seeds'}", f"--second={places / 'popularity'}", f"--second={places / 'item_knn'}",
        "--metric=recall@10,ndcg", "--k=5", "--bootstrap=200", "--seed=3", f"--output={places / 'out.csv'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with open(places / "out.csv") as file:
        rows = list(csv.DictReader(file))
    bundle, values = sea_jax.load(demo), {}
    for name in ("ease", "popularity", "item_knn"):
        summary = json.loads((places / name / "summary.json").read_text())
        _, values[name] = sea_jax.open_run(places / name).by_user((5, 10))
        assert f"{summary['test']['recall@10']:.4f}, by seed" in done.stdout
    counted = np.isin(sea_jax.open_run(places / "ease").by_user((5,))[0], bundle.test[:, 0])
    assert [(Path(row["second"]).name, row["metric"]) for row in rows] == [
        (name, metric) for name in ("popularity", "item_knn") for metric in ("recall@10", "ndcg@5")
    ]
    p = []
    for row in rows:
        a, b = (values[name]["test"][row["metric"]][counted] for name in ("ease", Path(row["second"]).name))
        expected = scipy.stats.ttest_rel(np.float64(a), np.float64(b))
        p.append(expected.pvalue)
        assert float(row["p"]) == pytest.approx(expected.pvalue) and float(row["t"]) == pytest.approx(
            expected.statistic
        )
        assert (row["first_seeds"], row["second_seeds"], row["users"]) == ("2", "1", str(counted.sum()))
        assert float(row["bootstrap_low"]) <= float(row["difference"]) <= float(row["bootstrap_high"])
    np.testing.assert_allclose([float(row["p_holm"]) for row in rows], comparing.holm(np.array(p)))
    assert "4 comparisons" in done.stdout


def test_bad_groups_are_told_in_one_sentence(places):
    ease, other = places / "ease", places / "popularity"
    for arguments, words in (
        ((f"--first={places / 'seeds'},{places / 'seeds/seed-1'}", f"--second={other}"), "names a run twice"),
        ((f"--first={ease},", f"--second={other}"), "names no run"),
        ((f"--first={ease}", f"--second={other}", f"--second={other}"), "stands in second 1 and in second 2"),
        ((f"--first={ease}", f"--second={places}"), "holds no run"),
        ((f"--first={ease}",), "--second is missing"),
        ((f"--first={ease}", f"--second={other}", "--metric=gini@5"), "--metric=gini@5 is no metric"),
    ):
        assert words in told(program("compare", *arguments))


@pytest.mark.parametrize("name", ["ease", "trained"])
def test_beyond_and_by_user_agree_with_the_run(places, demo, name):
    done = program("evaluate", f"--workdir={places / name}", "--beyond", f"--by_user={places / 'users.csv'}")
    assert done.returncode == 0, done.stderr
    run, bundle = sea_jax.open_run(places / name), sea_jax.load(demo)
    with open(places / "users.csv") as file:
        rows = list(csv.DictReader(file))
    places_of = {"ease": 10, "trained": 5}[name]
    for split in ("valid", "test"):
        own = [row for row in rows if row["split"] == split]
        assert {row["user"] for row in own} == {str(bundle.user_ids[user]) for user in getattr(bundle, split)[:, 0]}
        for metric, value in run.metrics[split].items():
            assert np.mean([float(row[metric]) for row in own]) == pytest.approx(value, abs=1e-6), (split, metric)
        assert f"\n{split}, lists of {places_of} for {len(own)} users\n" in done.stdout
    for words in (
        "item coverage",
        "Gini",
        "average popularity",
        "novelty",
        "features of image and text",
        "by activity",
    ):
        assert done.stdout.count(words) == 2
    heading = done.stdout.index("test, lists of")
    assert "head" in done.stdout[heading:] and "light, " in done.stdout[heading:]


def test_beyond_is_of_lists_without_training_items(places, demo):
    """Coverage of popularity's lists, from its definition."""
    shown = program("evaluate", f"--workdir={places / 'popularity'}", "--beyond").stdout
    bundle, covered = sea_jax.load(demo), {"valid": set(), "test": set()}
    order = np.argsort(-np.bincount(bundle.train[:, 1], minlength=bundle.num_items), kind="stable").tolist()
    for split, found in covered.items():
        for user in np.unique(getattr(bundle, split)[:, 0]):
            seen = set(bundle.train[bundle.train[:, 0] == user, 1].tolist())
            found.update([item for item in order if item not in seen][:10])
    lines = [line.split()[2] for line in shown.splitlines() if line.startswith("  item coverage")]
    assert lines == [f"{len(found) / bundle.num_items:.4f}" for found in covered.values()]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--cold", "--beyond"), "--beyond is about all items"),
        (("--cold", "--by_user=x.csv"), "--by_user is about all items"),
        (("--by_user=nowhere/x.csv",), "the folder of nowhere/x.csv does not exist"),
    ],
)
def test_what_evaluate_cannot_do_is_told_in_one_sentence(places, flags, words):
    assert words in told(program("evaluate", f"--workdir={places / 'ease'}", *flags))
