"""Estimators of mutual information on data whose mutual information is known."""

import json

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import digamma

from sea_jax.diagnostics import canonical_pairs, diagnose, estimates, held_out_club, ksg
from sea_jax.models.separation import Separated


def correlated(rng, rho, n=2000, d=1):
    x = rng.normal(size=(n, d))
    return x, rho * x + np.sqrt(1 - rho**2) * rng.normal(size=(n, d))


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_ksg_on_gaussians_and_their_cubes(rng, rho):
    x, y = correlated(rng, rho)
    expected = -0.5 * np.log(1 - rho**2)
    assert ksg(x, y) == pytest.approx(expected, abs=0.07)
    assert ksg(x**3, y) == pytest.approx(expected, abs=0.1)


def test_canonical_pairs_find_the_shared_direction(rng):
    shared = rng.normal(size=(1000, 1))
    x = np.hstack([rng.normal(size=(1000, 3)), shared]) @ rng.normal(size=(4, 4))
    y = np.hstack([shared + 0.1 * rng.normal(size=(1000, 1)), rng.normal(size=(1000, 2))]) @ rng.normal(size=(3, 3))
    a, b = canonical_pairs(x, y, 2)
    assert a.shape == b.shape == (1000, 2)
    assert abs(np.corrcoef(a[:, 0], b[:, 0])[0, 1]) > 0.99
    assert abs(np.corrcoef(a[:, 1], b[:, 1])[0, 1]) < 0.2


def test_held_out_club_tells_dependence_from_independence(rng):
    x, y = correlated(rng, 0.6, d=4)
    # CLUB of the exact conditional is d rho^2 / (1 - rho^2) = 2.25, above the 0.89 nats there are.
    assert held_out_club(x, y) == pytest.approx(2.25, rel=0.25)
    assert abs(held_out_club(x, rng.permutation(y))) < 0.15


def test_diagnose_names_what_it_compares(rng):
    generic = rng.normal(size=(300, 4))
    unique = rng.normal(size=(300, 4))
    parts = {name: Separated(generic, unique, None) for name in ("image", "text")}
    found = diagnose(parts)
    assert set(found) == {
        f"mi/{what}/{name}"
        for what in ("generic_unique/image", "generic_unique/text", "generic_generic/text_image")
        for name in ("club", "ksg")
    }
    assert found["mi/generic_generic/text_image/ksg"] > found["mi/generic_unique/text/ksg"] + 1


def plug_in(x, y):
    """Mutual information of discrete columns by their table of counts."""
    table = np.zeros((int(x.max()) + 1, int(y.max()) + 1))
    np.add.at(table, (x[:, 0].astype(int), y[:, 0].astype(int)), 1 / len(x))
    independent = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True)
    return np.sum(table[table > 0] * np.log(table[table > 0] / independent[table > 0]))


@pytest.mark.parametrize("sides", [2, 3, 6, 10])
def test_ksg_of_dice(rng, sides):
    a, b = (rng.integers(0, sides, size=(4000, 1)).astype(float) for _ in "ab")
    assert ksg(a, b) == pytest.approx(0, abs=0.02)
    assert ksg(a, a) == pytest.approx(np.log(sides), abs=0.02)
    told = np.where(rng.random((4000, 1)) < 0.5, a, b)
    assert ksg(a, told) == pytest.approx(plug_in(a, told), abs=0.02)
    assert ksg(a, 1000 * told + 7) == pytest.approx(plug_in(a, told), abs=0.02)


def test_ksg_of_a_coin_and_what_overlaps_it_by_half(rng):
    """y is uniform on (x, x + 2): half of the time it tells the coin x, so that I = ln(2) / 2."""
    coin = rng.integers(0, 2, size=(3000, 1)).astype(float)
    assert ksg(coin, coin + rng.uniform(0, 2, size=coin.shape)) == pytest.approx(np.log(2) / 2, abs=0.04)


def test_ksg_of_values_of_which_half_are_zero(rng):
    x, y = (np.where(rng.random((2000, 1)) < 0.5, 0, rng.normal(size=(2000, 1))) for _ in "xy")
    assert ksg(x, y) == pytest.approx(0, abs=0.06)


def test_ksg_without_ties_is_the_published_formula(rng):
    for rho in (0.0, 0.7):
        x, y = correlated(rng, rho, n=300)
        in_x, in_y = (cdist(rows, rows, "chebyshev") for rows in (x, y))
        radius = np.sort(np.maximum(in_x, in_y), axis=1)[:, 3:4]
        nearer = [(distances < radius).sum(axis=1) for distances in (in_x, in_y)]  # with the point itself
        expected = digamma(3) + digamma(300) - np.mean(digamma(nearer[0]) + digamma(nearer[1]))
        assert ksg(x, y) == pytest.approx(expected, rel=1e-12)


def test_ksg_of_rounded_gaussians(rng):
    x, y = correlated(rng, 0.8)
    assert ksg(np.round(2 * x), np.round(2 * y)) == pytest.approx(-0.5 * np.log(1 - 0.8**2), abs=0.08)


def test_constants_carry_no_information(rng):
    x, constant = rng.normal(size=(200, 3)).astype(np.float32), np.full((200, 3), 0.1, np.float32)
    assert ksg(x, constant) == pytest.approx(0, abs=1e-12)
    assert ksg(constant, constant) == pytest.approx(0, abs=1e-12)
    for a, b in ((x, constant), (constant, x), (constant, constant), (constant, 0 * constant)):
        assert [part.shape for part in canonical_pairs(a, b, 2)] == [(200, 0), (200, 0)]
        assert held_out_club(a, b) == pytest.approx(0, abs=0.05)
        assert estimates(a, b)["ksg"] == 0
    assert ksg(*canonical_pairs(x, constant, 2)) == 0


@pytest.mark.parametrize("scale", [1e-36, 1e-20, 1e-8, 1e8, 1e20, 1e34])
@pytest.mark.parametrize("offset", [0, 1e3])
def test_estimates_do_not_depend_on_scale_or_place(rng, scale, offset):
    x, y = correlated(rng, 0.8, n=400, d=2)
    expected = estimates(x, y)
    found = estimates(((x + offset) * scale).astype(np.float32), (y * [[1, scale]]).astype(np.float32))
    for name, value in found.items():
        assert value == pytest.approx(expected[name], rel=0.05, abs=0.05)


def test_a_column_that_rounding_alone_moves_is_constant(rng):
    x, y = correlated(rng, 0.8, n=400, d=2)
    noise = (1000 + 1e-5 * rng.normal(size=(400, 1))).astype(np.float32)  # one bit of 1000 is 6e-5
    with_noise = np.hstack([x.astype(np.float32), noise])
    assert canonical_pairs(with_noise, np.hstack([y, y[:, :1]]), 5)[0].shape == (400, 2)


DEGENERATE = {
    "constant": lambda x: np.full_like(x, 3.7),
    "zero": np.zeros_like,
    "one row differs": lambda x: np.where(np.arange(len(x))[:, None] == 0, 1, np.zeros_like(x)),
    "one column": lambda x: x * (np.arange(x.shape[1]) == 0),
    "equal columns": lambda x: np.repeat(x[:, :1], x.shape[1], axis=1),
    "repeated rows": lambda x: np.repeat(x[: len(x) // 10], 10, axis=0),
    "coins": np.sign,
    "huge": lambda x: x * np.float32(1e37),
    "tiny": lambda x: x * np.float32(1e-37),
    "one huge row": lambda x: np.where(np.arange(len(x))[:, None] == 0, np.float32(3e38), x),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_rows_end_no_diagnosis(rng, name):
    rows = DEGENERATE[name](rng.normal(size=(100, 4)).astype(np.float32))
    other = rng.normal(size=(100, 4)).astype(np.float32)
    for parts in (Separated(rows, rows, None), Separated(rows, other, None), Separated(other, rows, None)):
        found = diagnose({"image": parts, "text": Separated(other, other, None)})
        assert all(isinstance(value, float) and np.isfinite(value) for value in found.values()), found


@pytest.mark.parametrize("rows", [0, 1, 2, 5, 9])
def test_too_few_rows_have_no_estimate(rng, rows):
    part = rng.normal(size=(rows, 4)).astype(np.float32)
    found = diagnose({"image": Separated(part, part, None)})
    assert found == {"mi/generic_unique/image/club": None, "mi/generic_unique/image/ksg": None}
    with pytest.raises(ValueError, match="10 or more"):
        held_out_club(part, part)
    if rows <= 3:
        with pytest.raises(ValueError, match="no 3 neighbours"):
            ksg(part, part)


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_have_no_estimate(rng, broken):
    rows = rng.normal(size=(50, 4)).astype(np.float32)
    bad = rows.copy()
    bad[7, 2] = broken
    found = diagnose({"image": Separated(rows, bad, None)})
    assert json.loads(json.dumps(found, allow_nan=False)) == dict.fromkeys(found)
    for estimate in (ksg, held_out_club, lambda x, y: canonical_pairs(x, y, 2)):
        with pytest.raises(ValueError, match="mutual information: rows that are not finite"):
            estimate(rows, bad)


def test_rows_that_are_no_pairs_are_refused(rng):
    rows = rng.normal(size=(50, 4))
    for estimate in (ksg, held_out_club, lambda x, y: canonical_pairs(x, y, 2)):
        for other in (rows[:49], rows[:, 0]):
            with pytest.raises((ValueError, TypeError)):
                estimate(rows, other)
    with pytest.raises((ValueError, TypeError)):
        held_out_club(rows, rows[:, :3])
