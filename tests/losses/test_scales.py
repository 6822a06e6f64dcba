"""Losses where the plain formula in float32 loses its numbers: against NumPy in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import logsumexp

from sea_jax import losses
from sea_jax.config import Config
from sea_jax.models.separation import Separated
from sea_jax.objective import separation

FAR = [0.0, 1e3, -3e4]


def value(pair):
    return float(pair[0] / pair[1])


def conditional(rng, offset, n=40, d=3):
    """mean, logvar, y of float32, near `offset`, and the table log q(y_j | x_i) of them in float64."""
    y = (offset + rng.normal(size=(n, d))).astype(np.float32)
    mean = (y + 0.5 * rng.normal(size=(n, d))).astype(np.float32)
    logvar = rng.uniform(-1, 1, size=(n, d)).astype(np.float32)
    wide_mean, wide_logvar, wide_y = (x.astype(np.float64)[:, None] for x in (mean, logvar, y))
    difference = wide_y.swapaxes(0, 1) - wide_mean
    return (mean, logvar, y), -0.5 * np.sum(difference**2 / np.exp(wide_logvar) + wide_logvar, axis=2)


@pytest.mark.parametrize("offset", FAR)
def test_club_over_all_pairs_far_from_zero(rng, offset):
    arguments, table = conditional(rng, offset)
    expected = np.mean(np.diag(table) - table.mean(axis=1))
    assert value(losses.club_all_pairs(*arguments)) == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("offset", FAR)
def test_moments_of_parts_add_up_about_one_centre(rng, offset):
    (mean, logvar, y), table = conditional(rng, offset)
    expected = np.mean(np.diag(table) - table.mean(axis=1))
    weights = jnp.ones(len(y))
    parts = slice(0, 15), slice(15, None)
    sums = [losses.weighted_moments(y[part], weights[part]) for part in parts]
    centre = sum(first for _, first, _ in sums) / sum(count for count, _, _ in sums)
    moments = jax.tree.map(jnp.add, *(losses.weighted_moments(y[part], weights[part], centre) for part in parts))
    found = [losses.club_all_pairs(mean[part], logvar[part], y[part], moments=moments, centre=centre) for part in parts]
    total, count = (sum(column) for column in zip(*found, strict=True))
    assert float(total / count) == pytest.approx(expected, rel=2e-5)
    deviations = y.astype(np.float64) - np.asarray(centre, np.float64)
    np.testing.assert_allclose(moments[2], np.sum(deviations**2, axis=0), rtol=1e-5)


def test_moments_without_a_centre_are_about_zero(rng):
    (mean, logvar, y), _ = conditional(rng, 0.0)
    weights = jnp.asarray(rng.random(len(y)), jnp.float32)
    moments = losses.weighted_moments(y, weights)
    np.testing.assert_allclose(moments[1], weights @ y, rtol=1e-5)
    np.testing.assert_allclose(moments[2], weights @ y**2, rtol=1e-5)
    expected = value(losses.club_all_pairs(mean, logvar, y, weights))
    assert value(losses.club_all_pairs(mean, logvar, y, weights, moments=moments)) == pytest.approx(expected, rel=1e-4)


def test_the_centre_carries_no_gradient_and_needs_none(rng):
    (mean, logvar, y), _ = conditional(rng, 0.0)
    anywhere = jnp.full(3, 0.7)
    about = jax.grad(lambda y: losses.club_all_pairs(mean, logvar, y, centre=anywhere)[0])(y)
    np.testing.assert_allclose(jax.grad(lambda y: losses.club_all_pairs(mean, logvar, y)[0])(y), about, atol=1e-4)

    def naive(y):
        table = -0.5 * jnp.sum((y[None] - mean[:, None]) ** 2 / jnp.exp(logvar)[:, None], axis=2)
        return jnp.sum(jnp.diag(table) - table.mean(axis=1))

    np.testing.assert_allclose(jax.grad(naive)(y), about, atol=1e-4)


def test_all_pairs_of_a_conditional_that_is_far_off(rng):
    """q's mean a thousand deviations from every y: the squares of the two distances almost cancel."""
    (mean, logvar, y), _ = conditional(rng, 0.0)
    mean = mean + np.float32(1e3)
    wide = [x.astype(np.float64) for x in (mean, logvar, y)]
    gain = (wide[2].var(axis=0) + (wide[2].mean(axis=0) - wide[0]) ** 2 - (wide[2] - wide[0]) ** 2) / np.exp(wide[1])
    assert value(losses.club_all_pairs(mean, logvar, y)) == pytest.approx(gain.sum(axis=1).mean() / 2, rel=1e-5)


@pytest.mark.parametrize("offset", FAR)
def test_leave_one_out_far_from_zero(rng, offset):
    (mean, logvar, y), table = conditional(rng, offset)
    others = table.T + np.where(np.eye(len(y)), -np.inf, 0)  # log q(y_i | x_j)
    expected = np.mean(np.diag(table) - logsumexp(others, axis=1) + np.log(len(y) - 1))
    assert value(losses.l1out(mean, logvar, y)) == pytest.approx(expected, rel=2e-5)
    weights = jnp.ones(len(y))
    parts = [
        losses.l1out(*(x[part] for x in (mean, logvar, y)), others=(mean, logvar, weights, jnp.arange(len(y))[part]))
        for part in (slice(0, 15), slice(15, None))
    ]
    total, count = (sum(column) for column in zip(*parts, strict=True))
    assert float(total / count) == pytest.approx(expected, rel=2e-5)


@pytest.mark.parametrize("offset", FAR)
def test_sampled_club_and_likelihood_far_from_zero(rng, offset):
    (mean, logvar, y), table = conditional(rng, offset)
    rows, partners = np.arange(len(y)), np.roll(np.arange(len(y)), 1)
    expected = np.mean(np.diag(table) - table[rows, partners])
    assert value(losses.club_sampled(mean, logvar, y, y[partners])) == pytest.approx(expected, rel=2e-5)
    assert value(losses.gaussian_nll(mean, logvar, y)) == pytest.approx(-np.mean(np.diag(table)), rel=2e-5)


@pytest.mark.parametrize("logvar", [1e-4, -1e-3, 0.1, 5.0, -30.0])
def test_vub_of_what_is_almost_the_marginal(logvar):
    expected = (np.expm1(np.float64(np.float32(logvar))) - np.float64(np.float32(logvar))) / 2
    found = value(losses.vub(jnp.zeros((1, 1)), jnp.full((1, 1), logvar)))
    assert found == pytest.approx(expected, rel=2e-3, abs=0)


@pytest.mark.parametrize("scale_a", [1e-35, 1e-20, 1e-7, 1.0, 1e10, 1e20, 1e35])
@pytest.mark.parametrize("scale_b", [1e-30, 1.0, 1e30])
def test_cosines_at_every_scale(rng, scale_a, scale_b):
    a, b = ((rng.normal(size=(6, 4)) * scale).astype(np.float32) for scale in (scale_a, scale_b))
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    norm_a, norm_b = (np.linalg.norm(x, axis=1, keepdims=True) for x in (wide_a, wide_b))
    expected = np.sum(wide_a / norm_a * wide_b / norm_b, axis=1)
    np.testing.assert_allclose(losses.cosine(a, b), expected, atol=1e-6)
    assert float(losses.orthogonality(a, b)[0]) == pytest.approx(np.sum(expected**2), rel=1e-5)
    assert float(losses.cosine_alignment(a, b)[0]) == pytest.approx(np.sum(1 - expected), rel=1e-5)
    gradient = np.asarray(jax.grad(lambda a: losses.cosine(a, b).sum())(jnp.asarray(a)), np.float64)
    by_hand = wide_b / norm_b - expected[:, None] * wide_a / norm_a  # times 1 / norm_a
    assert np.isfinite(gradient).all()
    if scale_a < 1e30:  # above, the gradient is less than float32 holds
        np.testing.assert_allclose(gradient * norm_a, by_hand, atol=3e-6)


def test_the_cosine_with_a_zero_row_is_zero_with_a_finite_gradient():
    a, b = jnp.array([[0.0, 0.0], [1e-30, 0.0]]), jnp.array([[1e20, 1.0], [0.0, 0.0]])
    np.testing.assert_array_equal(losses.cosine(a, b), [0, 0])
    for leaf in jax.grad(lambda *x: losses.cosine(*x).sum(), argnums=(0, 1))(a, b):
        assert np.isfinite(leaf).all()


def test_at_ordinary_scales_the_cosine_is_the_plain_formula_bit_for_bit(rng):
    a, b = (jnp.asarray(rng.normal(size=(200, 32)) * np.exp(rng.normal(size=(200, 1))), jnp.float32) for _ in "ab")

    def plain(a, b):
        return jnp.sum(a * b, axis=1) * jax.lax.rsqrt(jnp.sum(a * a, axis=1) * jnp.sum(b * b, axis=1))

    np.testing.assert_array_equal(losses.cosine(a, b), plain(a, b))


def test_frobenius_overflows_only_where_its_value_does(rng):
    a, b = (rng.normal(size=(5000, 2)).astype(np.float32) for _ in "ab")
    expected = np.sum((a.astype(np.float64).T @ b.astype(np.float64)) ** 2) / 5000**2
    assert float(losses.frobenius(a, b)) == pytest.approx(expected, rel=1e-3)
    ones = jnp.full((5000, 1), 1e9)
    assert float(losses.frobenius(ones, ones)) == pytest.approx(1e36, rel=1e-4)
    tiny = jnp.full(5000, 1e-30)
    assert float(losses.frobenius(a, b, tiny)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("size", [1.0, 1e3, 1e6])
def test_log_sum_exp_of_large_logits(rng, size):
    anchors = rng.normal(size=(9, 4)).astype(np.float32)
    candidates = (size * rng.normal(size=(6, 4))).astype(np.float32)
    logits = anchors.astype(np.float64) @ candidates.T.astype(np.float64)
    found, gradient = jax.value_and_grad(lambda a: losses.logsumexp_sum(a, candidates, None, jnp.ones(9)))(anchors)
    assert float(found) == pytest.approx(logsumexp(logits, axis=1).sum(), rel=1e-5)
    shares = np.exp(logits - logsumexp(logits, axis=1)[:, None])
    np.testing.assert_allclose(gradient, shares @ candidates, atol=1e-5 * size, rtol=1e-3)


@pytest.mark.parametrize("bound", [None, 5.0])
def test_padding_anchors_do_not_exclude_the_only_candidate(bound):
    anchors, one = jnp.ones((3, 2)), jnp.ones((1, 2))  # a second block of two has one anchor of padding
    found, gradient = jax.value_and_grad(losses.logsumexp_sum, argnums=1)(
        anchors, one, None, jnp.ones(3), jnp.full((3, 1), -1), None, bound, 2
    )
    assert float(found) == pytest.approx(6)
    np.testing.assert_allclose(gradient, [[3, 3]], rtol=1e-6)


@pytest.mark.parametrize("score", [-1e4, -100.0, 100.0, 1e4])
def test_lower_bounds_of_large_scores(score):
    joint, independent = jnp.full(3, score), jnp.array([[score, score - np.log(3.0)]])
    expected = -np.log(2 / 3)  # the mean of exp is exp(score) (1 + 1/3) / 2
    tolerance = 1e-6 * abs(score)
    assert float(losses.donsker_varadhan(joint, independent)) == pytest.approx(expected, abs=tolerance)
    assert float(losses.tuba(joint, independent, score)) == pytest.approx(1 - 2 / 3, abs=tolerance)
    assert float(losses.info_nce(score * jnp.ones((3, 3)))) == pytest.approx(0, abs=tolerance)
    assert float(losses.smile(joint, independent, 1e6)) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize("log_average", [-200.0, -20.0, 0.0, 200.0])
def test_mine_keeps_its_value_whatever_the_running_average(log_average):
    joint, independent = jnp.array([0.3, 1.0]), jnp.array([0.1, -0.4, 2.0])
    found, gradient = jax.value_and_grad(lambda f: losses.mine(joint, f, jnp.float32(log_average))[0])(independent)
    assert float(found) == pytest.approx(0.65 - np.log(np.mean(np.exp([0.1, -0.4, 2.0]))), rel=1e-5)
    assert np.isfinite(gradient).all()
    if log_average == -20:
        np.testing.assert_allclose(gradient, -np.exp([0.1, -0.4, 2.0]) / 3 * np.exp(20), rtol=1e-5)


@pytest.mark.parametrize("offset", FAR)
def test_the_objective_divides_all_pairs_over_devices(rng, offset):
    """Four devices' shares, the last of them with padding, add up to the value in float64, and so do gradients."""
    (mean, logvar, y), table = conditional(rng, offset, n=38)
    config = Config(separation="club_all_pairs")
    weights = np.r_[np.ones(38), np.zeros(2)].astype(np.float32)
    mean, logvar, y = (np.vstack([x, x[:2]]) for x in (mean, logvar, y))

    def share(y, mean, logvar, weights, axis):
        return separation(Separated(mean, y, None), None, lambda x: (x, logvar), weights, config, axis)

    def total(y):
        rows = [x.reshape(4, 10, *x.shape[1:]) for x in (y, mean, logvar, weights)]
        return jax.vmap(partial(share, axis="devices"), axis_name="devices")(*rows).sum()

    found, gradient = jax.value_and_grad(total)(jnp.asarray(y))
    assert float(found) == pytest.approx(np.mean(np.diag(table) - table.mean(axis=1)), rel=2e-5)
    one, whole = jax.value_and_grad(share)(jnp.asarray(y), mean, logvar, weights, None)
    assert float(found) == pytest.approx(float(one), rel=2e-5)
    np.testing.assert_allclose(gradient, whole, atol=1e-4 * max(1, abs(offset) / 1e3) / 38)
