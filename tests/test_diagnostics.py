"""Estimators of mutual information on data whose mutual information is known."""

import numpy as np
import pytest

from sea_jax.diagnostics import canonical_pairs, diagnose, held_out_club, ksg
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
