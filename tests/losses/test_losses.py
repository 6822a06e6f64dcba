"""Losses against formulas by hand and naive NumPy, values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sea_jax import losses


def gaussians(rng, n=7, d=3):
    return tuple(rng.normal(size=(n, d)).astype(np.float32) for _ in range(3))


def log_q(mean, logvar, y):
    """log N(y_j; mean_i, exp(logvar_i)) without the constant, (i, j), by the definition."""
    difference = y[None] - mean[:, None]
    return -0.5 * np.sum(difference**2 / np.exp(logvar)[:, None] + logvar[:, None], axis=2)


def test_bpr_by_hand():
    total, count = losses.bpr(jnp.array([1.0, 0.0]), jnp.array([0.0, 0.0]), jnp.array([1.0, 2.0]))
    sigmoid = 1 / (1 + np.exp(-1.0))
    assert float(total) == pytest.approx(-np.log2(sigmoid) + 2 * 1.0, rel=1e-6)
    assert float(count) == 3
    natural, _ = losses.bpr(jnp.array([1.0]), jnp.array([0.0]), base=np.e)
    assert float(natural) == pytest.approx(-np.log(sigmoid), rel=1e-6)


@pytest.mark.parametrize("difference", [-1e4, -200.0, 0.0, 200.0, 1e4])
def test_bpr_is_finite_at_extremes(difference):
    value, gradient = jax.value_and_grad(lambda x: losses.bpr(x[None], jnp.zeros(1))[0])(difference)
    assert np.isfinite(value)
    assert np.isfinite(gradient)
    if difference < -100:
        assert float(value) == pytest.approx(-difference / np.log(2), rel=1e-6)


def test_club_by_hand():
    one = jnp.ones((1, 1))
    total, _ = losses.club_sampled(0 * one, jnp.log(4.0) * one, 1 * one, 3 * one)
    assert float(total) == pytest.approx((9 - 1) / 4 / 2, rel=1e-6)
    assert float(losses.club_released(0 * one, 0 * one, 1 * one, 3 * one)) == pytest.approx(2.0, rel=1e-6)
    assert float(losses.club_released(0 * one, 0 * one, 3 * one, 1 * one)) == 0
    total, _ = losses.gaussian_nll(0 * one, jnp.log(4.0) * one, 3 * one)
    assert float(total) == pytest.approx((9 / 4 + np.log(4)) / 2, rel=1e-6)


def test_all_pairs_equal_the_naive_table(rng):
    mean, logvar, y = gaussians(rng)
    table = log_q(mean, logvar, y)
    total, count = losses.club_all_pairs(mean, logvar, y)
    assert float(total / count) == pytest.approx(np.mean(np.diag(table) - table.mean(axis=1)), abs=1e-5)


def test_sampled_club_averages_to_all_pairs(rng):
    mean, logvar, y = gaussians(rng, n=5)
    shifts = [losses.club_sampled(mean, logvar, y, np.roll(y, shift, axis=0))[0] for shift in range(5)]
    assert float(np.mean(shifts)) == pytest.approx(float(losses.club_all_pairs(mean, logvar, y)[0]), rel=1e-5)


@pytest.mark.parametrize("block", [2, 7, 100])
def test_l1out_equals_the_naive_table(rng, block):
    mean, logvar, y = gaussians(rng)
    table = log_q(mean, logvar, y)
    expected = [table[i, i] - np.log(np.mean([np.exp(table[j, i]) for j in range(7) if j != i])) for i in range(7)]
    total, count = losses.l1out(mean, logvar, y, block=block)
    assert float(total / count) == pytest.approx(np.mean(expected), rel=1e-5)
    with pytest.raises(ValueError, match="two samples"):
        losses.l1out(mean[:1], logvar[:1], y[:1])


@pytest.mark.parametrize("loss", [losses.club_all_pairs, losses.l1out])
def test_padding_weighs_nothing(rng, loss):
    mean, logvar, y = gaussians(rng)
    padded = [np.vstack([x, np.full((2, 3), 9.0, np.float32)]) for x in (mean, logvar, y)]
    weights = np.array([1.0] * 7 + [0.0] * 2, np.float32)
    np.testing.assert_allclose(loss(*padded, weights), loss(mean, logvar, y), rtol=1e-4)


@pytest.mark.parametrize("block", [1, 4, 9, 100])
def test_solosim_equals_the_dense_formula(rng, block):
    anchors, candidates = (rng.normal(size=(9, 4)).astype(np.float32) for _ in range(2))

    def dense(a, c):
        logits = a @ c.T / 0.3
        return jnp.sum(jax.nn.logsumexp(logits, axis=1) - jnp.diag(logits))

    def blocked(a, c):
        return losses.solosim(a, c, jnp.arange(9), temperature=0.3, block=block)[0]

    expected, expected_gradient = jax.value_and_grad(dense, argnums=(0, 1))(anchors, candidates)
    found, gradient = jax.jit(jax.value_and_grad(blocked, argnums=(0, 1)))(anchors, candidates)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bound", [None, 20.0])
def test_every_argument_of_the_blocked_sum_has_its_gradient(rng, bound):
    anchors, candidates = (rng.normal(size=(n, 4)).astype(np.float32) for n in (9, 6))
    weights, own, v = (rng.random(n).astype(np.float32) for n in (9, 9, 6))
    v[2] = 0
    excluded = np.array([0, 1, -1, 3, 4, 5, -1, 2, 0])

    def dense(anchors, candidates, weights, own):
        each = jnp.where(jnp.arange(6) == excluded[:, None], 0, v * jnp.exp(anchors @ candidates.T))
        return weights @ jnp.log(each.sum(axis=1) + jnp.exp(own))

    def blocked(anchors, candidates, weights, own):
        return losses.logsumexp_sum(anchors, candidates, v, weights, excluded[:, None], own, bound, 4)

    arguments = anchors, candidates, weights, own
    expected, found = (jax.value_and_grad(f, argnums=(0, 1, 2, 3))(*arguments) for f in (dense, blocked))
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5)


def test_unit_rows_need_no_search_for_the_largest_logit(rng):
    """Whatever the temperature: the smallest that uses the bound, and one that is too small for it."""
    rows = rng.normal(size=(2, 9, 4)).astype(np.float32)
    anchors, candidates = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    for temperature in (1.0, 0.034, 0.01):
        found, expected = (
            losses.solosim(anchors, candidates, jnp.arange(9), temperature=temperature, unit_rows=unit_rows)[0]
            for unit_rows in (True, False)
        )
        logits = (anchors.astype(np.float64) @ candidates.T) / temperature
        largest = logits.max(axis=1)
        by_hand = np.sum(np.log(np.exp(logits - largest[:, None]).sum(axis=1)) + largest - np.diag(logits))
        assert float(found) == pytest.approx(by_hand, rel=1e-5)
        assert float(expected) == pytest.approx(by_hand, rel=1e-5)


def test_solosim_without_padding_candidates(rng):
    anchors = rng.normal(size=(5, 4)).astype(np.float32)
    padded = np.vstack([anchors, np.zeros((3, 4), np.float32)])
    weights = np.array([1.0] * 5 + [0.0] * 3, np.float32)
    found = losses.solosim(padded, padded, jnp.arange(8), weights, temperature=0.2, candidate_weights=weights)
    expected = losses.solosim(anchors, anchors, jnp.arange(5), temperature=0.2)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_separation_by_hand():
    a = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    b = jnp.array([[0.0, 2.0], [3.0, 3.0], [1.0, 0.0]])
    assert float(losses.orthogonality(a, b)[0]) == pytest.approx(1.0)
    assert float(losses.cosine_alignment(a, b)[0]) == pytest.approx(1 + 0 + 1)
    assert float(losses.negative_l2(a, b)[0]) == pytest.approx(-(5 / 2 + 8 / 2 + 1 / 2))
    assert float(losses.frobenius(a, b)) == pytest.approx((9 + 25 + 9 + 9) / 9)
    gradient = jax.grad(lambda x: losses.orthogonality(x, b)[0] + losses.cosine_alignment(x, b)[0])(a)
    assert np.isfinite(gradient).all()
