"""Every bound against the known mutual information of correlated Gaussians.

y = rho x + sqrt(1 - rho^2) e in d independent pairs: I(x; y) = - d/2 log(1 - rho^2), p(y | x) = N(rho x, 1 - rho^2),
and CLUB with that conditional is d rho^2 / (1 - rho^2).
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sea_jax import losses

DIMENSION, RHO, SAMPLES, RUNS = 3, 0.6, 256, 200
MUTUAL_INFORMATION = -DIMENSION / 2 * np.log(1 - RHO**2)


def sample(key, rho=RHO, samples=SAMPLES, dimension=DIMENSION):
    x, noise = jax.random.normal(key, (2, samples, dimension))
    return x, rho * x + jnp.sqrt(1 - rho**2) * noise


def conditional(x, rho=RHO):
    return rho * x, jnp.full_like(x, jnp.log(1 - rho**2))


def critic(x, y, rho=RHO):
    """log p(y | x) - log p(y), the best critic there is."""
    mean, logvar = conditional(x, rho)
    return jnp.sum(-((y - mean) ** 2) * jnp.exp(-logvar) / 2 - logvar / 2 + y**2 / 2, axis=1)


def all_scores(x, y, rho=RHO):
    return jax.vmap(lambda row: critic(jnp.broadcast_to(row, x.shape), y, rho))(x)


def mean_of(pair):
    return pair[0] / pair[1]


ESTIMATES = {
    "club_sampled": lambda key, x, y, rho: mean_of(
        losses.club_sampled(*conditional(x, rho), y, jax.random.permutation(key, y))
    ),
    "club_all_pairs": lambda key, x, y, rho: mean_of(losses.club_all_pairs(*conditional(x, rho), y)),
    "l1out": lambda key, x, y, rho: mean_of(losses.l1out(*conditional(x, rho), y)),
    "vub": lambda key, x, y, rho: mean_of(losses.vub(*conditional(x, rho))),
    "info_nce": lambda key, x, y, rho: losses.info_nce(all_scores(x, y, rho)),
    "nwj": lambda key, x, y, rho: losses.nwj(*_shifted(x, y, rho, 1.0)),
    "tuba": lambda key, x, y, rho: losses.tuba(*_shifted(x, y, rho, 0.0), 0.2),
    "donsker_varadhan": lambda key, x, y, rho: losses.donsker_varadhan(*_shifted(x, y, rho, 0.0)),
    "smile": lambda key, x, y, rho: losses.smile(*_shifted(x, y, rho, 0.0), 20.0),
}
UPPER, LOWER = ("club_sampled", "club_all_pairs", "l1out", "vub"), ("info_nce", "nwj", "tuba")


def _shifted(x, y, rho, by):
    scores = losses.off_diagonal(lambda a, b: critic(a, b, rho), x, y)
    return scores[0] + by, scores[1] + by


def estimate(name, rho=RHO, runs=RUNS, samples=SAMPLES):
    """Mean of the estimator over independent samples, and its standard error."""

    def one(key):
        x, y = sample(key, rho, samples)
        return ESTIMATES[name](jax.random.fold_in(key, 1), x, y, rho)

    values = np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys))(jax.random.split(jax.random.key(7), runs)))
    return values.mean(), values.std(ddof=1) / np.sqrt(runs)


@pytest.mark.parametrize("name", UPPER)
def test_upper_bounds_lie_above(name):
    mean, error = estimate(name)
    assert mean > MUTUAL_INFORMATION - 4 * error


@pytest.mark.parametrize("name", LOWER)
def test_lower_bounds_lie_below(name):
    mean, error = estimate(name)
    assert mean < MUTUAL_INFORMATION + 4 * error


@pytest.mark.parametrize("name", ["club_sampled", "club_all_pairs"])
def test_club_is_its_closed_form(name):
    mean, error = estimate(name)
    expected = DIMENSION * RHO**2 / (1 - RHO**2)
    # All pairs include each row with itself, and a permutation leaves one row in place on average: 1 / n of the gap.
    assert mean == pytest.approx(expected * (1 - 1 / SAMPLES), abs=4 * error)
    assert expected > 1.2 * MUTUAL_INFORMATION


@pytest.mark.parametrize("name", ["vub", "nwj", "donsker_varadhan", "l1out"])
def test_tight_with_the_exact_density(name):
    mean, error = estimate(name)
    assert mean == pytest.approx(MUTUAL_INFORMATION, abs=4 * error + 0.02)


@pytest.mark.parametrize("name", ESTIMATES)
def test_near_zero_at_independence(name):
    mean, error = estimate(name, rho=0.0, runs=50)
    expected = 1 - 0.2 - np.exp(-0.2) if name == "tuba" else 0.0
    assert mean == pytest.approx(expected, abs=4 * error + 1e-5)


def test_info_nce_saturates_at_log_n():
    mean, _ = estimate("info_nce", rho=0.999, runs=20, samples=32)
    assert np.log(32) * 0.95 < mean <= np.log(32) + 1e-5 < -DIMENSION / 2 * np.log(1 - 0.999**2)


def test_a_conditional_fitted_on_other_pairs_is_no_bound():
    """As in the released pairing: q of (x -> z) says nothing of (x -> y)."""

    def one(key):
        x, y = sample(key)
        return mean_of(losses.club_sampled(*conditional(-x), y, jax.random.permutation(jax.random.fold_in(key, 1), y)))

    values = np.asarray(jax.vmap(one)(jax.random.split(jax.random.key(3), RUNS)))
    assert values.mean() + 4 * values.std() / np.sqrt(RUNS) < 0 < MUTUAL_INFORMATION


def test_mine_has_the_value_of_donsker_varadhan_and_the_corrected_gradient():
    joint, independent = jnp.array([0.3, 1.0]), jnp.array([[0.1, -0.4], [2.0, 0.5]])
    value, log_partition = losses.mine(joint, independent, jnp.log(3.0))
    assert float(value) == pytest.approx(float(losses.donsker_varadhan(joint, independent)), rel=1e-6)
    assert float(log_partition) == pytest.approx(np.log(np.mean(np.exp(independent))), rel=1e-6)
    gradient = jax.grad(lambda scores: losses.mine(joint, scores, jnp.log(3.0))[0])(independent)
    np.testing.assert_allclose(gradient, -np.exp(independent) / 4 / 3.0, rtol=1e-5)


def test_lower_bounds_by_hand():
    joint, independent = jnp.array([1.0, 2.0]), jnp.array([0.0, np.log(3.0)])
    assert float(losses.nwj(joint, independent)) == pytest.approx(1.5 - 2 / np.e, rel=1e-6)
    assert float(losses.donsker_varadhan(joint, independent)) == pytest.approx(1.5 - np.log(2), rel=1e-6)
    assert float(losses.tuba(joint, independent, np.log(2.0))) == pytest.approx(1.5 - np.log(2), rel=1e-6)
    assert float(losses.smile(joint, independent, 0.5)) == pytest.approx(1.5 - np.log((1 + np.exp(0.5)) / 2), rel=1e-6)
    with pytest.raises(ValueError, match="two samples"):
        losses.off_diagonal(critic, jnp.ones((1, 2)), jnp.ones((1, 2)))
