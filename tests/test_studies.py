"""The studies: fitted estimators against closed forms, and what the programs write."""

import csv

import jax
import numpy as np
import pytest

from experiments import mi_study, separation_study
from sea_jax import files

DIMENSION, MUTUAL_INFORMATION = 16, 5.0
SQUARE = 1 - np.exp(-2 * MUTUAL_INFORMATION / DIMENSION)  # rho^2


@pytest.fixture(scope="module")
def fitted():
    """By estimator, the mean over runs on Gaussians of 16 dimensions and 5 nats."""
    runs = mi_study.all_runs(jax.random.key(0), np.sqrt(SQUARE), "fitted", DIMENSION, 3, 300)
    return {name: float(values.mean()) for name, values in runs.items()}


def test_fitted_club_is_its_closed_form_and_far_above_the_truth(fitted):
    closed = DIMENSION * SQUARE / (1 - SQUARE)
    assert closed == pytest.approx(13.9, abs=0.05)
    assert fitted["club_all_pairs"] == pytest.approx(closed, rel=0.1)
    assert fitted["club_sampled"] == pytest.approx(closed, rel=0.1)
    assert fitted["club_released"] == pytest.approx(closed / 2, rel=0.1)


def test_fitted_vub_is_the_mutual_information(fitted):
    assert fitted["vub"] == pytest.approx(MUTUAL_INFORMATION, rel=0.1)


def test_seas_small_conditional_misses_much(fitted):
    """8 hidden units cannot carry 16 dimensions: CLUB falls by more than a quarter."""
    assert fitted["club_sea_q"] < 0.75 * DIMENSION * SQUARE / (1 - SQUARE)


def test_fitted_lower_bounds_where_log_n_allows():
    true = 1.5
    runs = mi_study.all_runs(jax.random.key(1), np.sqrt(1 - np.exp(-true)), "fitted", 2, 4, 300)
    for name in ("info_nce", "nwj", "tuba"):
        assert float(runs[name].mean()) == pytest.approx(true, rel=0.1), name
        assert float(runs[name].mean()) < true + 4 * float(runs[name].std()) / 2


def test_the_study_writes_bounds_on_their_side(tmp_path):
    settings = [(2, 0.0), (2, 2.0)]
    rows = mi_study.rows_of("exact", settings, 40, 0)
    files.write_table(tmp_path / "mi_study.csv", mi_study.COLUMNS, (row.values() for row in rows))
    with open(tmp_path / "mi_study.csv") as file:
        found = list(csv.DictReader(file))
    assert tuple(found[0]) == ("estimator", "side", "conditional", "dimension", "true_mi", "mean", "std", "runs")
    sides = {row["estimator"]: row["side"] for row in found}
    assert sides["nwj"] == "lower"
    assert all(sides[name] == "neither" for name in ("donsker_varadhan", "mine", "smile", "club_released"))
    for row in found:
        error = 4 * float(row["std"]) / np.sqrt(int(row["runs"])) + 1e-5
        if row["side"] == "upper":
            assert float(row["mean"]) > float(row["true_mi"]) - error, row
        if row["side"] == "lower":
            assert float(row["mean"]) < float(row["true_mi"]) + error, row
    assert "club_sampled" in mi_study.table_of(rows)
    mi_study.plot(tmp_path / "mi_study.png", rows)
    assert (tmp_path / "mi_study.png").stat().st_size > 10_000


def test_sides_where_samples_miss_the_tail():
    assert mi_study.side_of("nwj", 3.9, 512) == "lower"
    assert mi_study.side_of("tuba", 4.0, 512) == "neither"
    assert mi_study.side_of("info_nce", 10.0, 512) == "lower"


def test_orthogonality_does_not_see_dependence():
    rows = separation_study.cosine_rows((16, 64), 400, 0)
    found = {(row["relation"], row["dimension"]): row for row in rows}
    assert found["dependent", 64]["mean_squared_cosine"] < found["random", 64]["mean_squared_cosine"]
    assert found["dependent", 64]["true_mi"] == pytest.approx(-32 * np.log(0.19))
    assert found["dependent", 64]["estimated_mi"] > 0.8 * found["dependent", 64]["true_mi"]
    assert abs(found["independent", 64]["estimated_mi"]) < 3
    assert found["independent", 64]["mean_cosine"] == pytest.approx(1 / np.pi, abs=0.02)


def test_the_probe_finds_what_is_linear(rng):
    x = rng.normal(size=(200, 5))
    y = x @ rng.normal(size=(5, 2))
    assert separation_study.probe(x, y) > 0.99
    assert separation_study.probe(x, rng.normal(size=(200, 2))) < 0.05


@pytest.mark.slow
def test_parts_of_trained_models_are_probed(demo):
    rows = separation_study.probe_rows(str(demo), 1, 1, 0.1, separations=("club", "subtraction"))
    assert {row["separation"] for row in rows} == {"features", "club", "subtraction"}
    assert len(rows) == 2 * 4 + 2 * 2 * 2 * 4
    assert all(np.isfinite(row["r2"]) and row["r2"] <= 1 for row in rows)
