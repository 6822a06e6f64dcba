"""Tables of runs: means, deviations, tests and marks against NumPy, SciPy and what is written down here."""

import csv
import io

import numpy as np
import pytest
import scipy.stats

from sea_jax import tabulating
from sea_jax.tabulating import SHOWN, Result


def made(name, rng, lift=0.0, seeds=(1, 2), rival="", valid=0.5, **more):
    users = {metric: np.clip(rng.random((len(seeds) or 1, 40)) + lift, 0, 1) for metric in SHOWN}
    test = {metric: values.mean(axis=1).tolist() for metric, values in users.items()}
    return Result(name, seeds, {metric: [valid] * (len(seeds) or 1) for metric in SHOWN}, test, users, rival, **more)


@pytest.fixture
def results(rng):
    return [
        made("SEA (BPR)", rng, 0.3, valid=0.4),
        made("mf", rng, 0.0, rival="SEA (BPR)"),
        made("ease", rng, 0.25, seeds=(), rival="SEA (BPR)", settings="ridge 50"),
    ]


def test_differences_are_paired_over_users_and_corrected(results):
    found, p = tabulating.compared(results), {}
    assert set(found) == {(name, metric) for name in ("mf", "ease") for metric in SHOWN}
    for one in results[1:]:
        for metric in SHOWN:
            ours, theirs = one.users[metric].mean(axis=0), results[0].users[metric].mean(axis=0)
            expected = scipy.stats.ttest_rel(ours, theirs)
            interval = expected.confidence_interval(0.95)
            of = found[one.name, metric]
            assert of.difference == pytest.approx((ours - theirs).mean())
            assert (of.low, of.high) == pytest.approx((interval.low, interval.high))
            p[one.name, metric] = expected.pvalue
    adjusted = 0.0
    for left, key in zip((4, 3, 2, 1), sorted(p, key=p.get), strict=True):
        adjusted = max(adjusted, min(1, left * p[key]))
        assert found[key].p_holm == pytest.approx(adjusted)


def test_the_markdown_says_what_the_numbers_are(results):
    text = tabulating.markdown("toys", results).splitlines()
    assert text[0] == "### toys"
    seeds, valid, recall, _, beside, p, settings = text[-1].split("|")[2:9]
    assert (seeds.strip(), valid.strip(), settings.strip()) == ("1", ".5000", "ridge 50")
    theirs, ours = results[2].users["recall@20"].mean(), results[0].users["recall@20"].mean()
    assert recall.strip().strip("*") == f"{theirs:.4f}"[1:]
    assert beside.strip().startswith(f"SEA (BPR): {theirs - ours:+.4f} (".replace("0.", ".", 1))
    of = tabulating.compared(results)
    assert [float(x) for x in p.split(",")] == pytest.approx([of["ease", metric].p_holm for metric in SHOWN], rel=0.1)
    mean, sd = np.mean(results[0].test["recall@20"]), np.std(results[0].test["recall@20"], ddof=1)
    assert f"**{f'{mean:.4f}'[1:]}** ± {f'{sd:.4f}'[1:]}" in text[-3]
    assert text[-1].count("**") == 0
    assert "*" in text[-1]


def test_the_csv_has_every_metric(results):
    rows = tabulating.rows("toys", results)
    out = io.StringIO()
    csv.writer(out).writerows([tabulating.COLUMNS, *rows])
    read = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [(row["row"], row["metric"]) for row in read] == [(one.name, metric) for one in results for metric in SHOWN]
    assert float(read[3]["test_mean"]) == pytest.approx(np.mean(results[1].test["ndcg@20"]))
    assert [float(x) for x in read[3]["test_by_seed"].split()] == pytest.approx(results[1].test["ndcg@20"], abs=1e-6)
    assert read[0]["compared_with"] == ""
    assert float(read[2]["difference"]) == pytest.approx(tabulating.compared(results)["mf", "recall@20"].difference)
    assert read[4]["test_sd"] == ""


def test_the_best_is_chosen_by_validation(rng):
    poor, good = made("a", rng, 0.5, valid=0.1), made("b", rng, 0.0, valid=0.2)
    assert tabulating.best_of([poor, good], ["a", "b", "c"]) == "b"
    assert tabulating.best_of([poor], ["b"]) == ""


def test_the_same_lists_are_said_so(rng):
    one = made("a", rng)
    text = tabulating.markdown("toys", [one, one._replace(name="b", rival="a")])
    assert "a: the same" in text.splitlines()[-1]


def test_pictures_show_every_row(results, rng):
    figure = tabulating.bars({"toys": results, "games": results[:2]})
    first, second = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["SEA (BPR)", "mf", "ease"]
    assert [bar.get_width() for bar in second.patches] == pytest.approx(
        [np.mean(one.test["recall@20"]) for one in results[:2]]
    )
    moved = [made(f"alpha {x}", rng, rival="SEA (BPR)", setting="alpha", value=x) for x in (0.0, 0.1, 1.0)]
    (axis,) = tabulating.lines({"toys": [results[0], *moved]}).axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["0", "0.1", "1"]
    assert axis.lines[-1].get_ydata()[0] == pytest.approx(np.mean(results[0].test["recall@20"]))
    assert axis.lines[0].get_ydata() == pytest.approx([np.mean(one.test["recall@20"]) for one in moved])
