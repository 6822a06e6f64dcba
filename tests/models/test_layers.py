"""Layers against NumPy in float64, at every scale of float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sea_jax.models.layers import BatchNorm, normalise

SCALES = [1e-35, 1e-30, 1e-20, 1e-12, 1.0, 1e12, 1e19, 1e30, 1e37]


def plain(x):
    """The formula without a care for scales."""
    return x * jax.lax.rsqrt(jnp.sum(x * x, axis=-1, keepdims=True))


@pytest.mark.parametrize("scale", SCALES)
def test_normalise_makes_unit_rows_at_every_scale(rng, scale):
    x = (rng.normal(size=(7, 5)) * scale).astype(np.float32)
    cotangent = rng.normal(size=(7, 5)).astype(np.float32)
    found, pull = jax.vjp(normalise, jnp.asarray(x))
    wide = x.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    unit = wide / norms
    np.testing.assert_allclose(found, unit, rtol=1e-6, atol=1e-7)
    expected = (cotangent - unit * np.sum(unit * cotangent, axis=1, keepdims=True)) / norms
    # In units of the gradient's size; below 1e-38, what float32 holds of it is 0.
    np.testing.assert_allclose(pull(cotangent)[0] * norms, expected * norms, atol=2e-6 if scale < 1e30 else 1.0)
    assert np.isfinite(pull(cotangent)[0]).all()


def test_normalise_leaves_zero_rows_with_a_finite_gradient():
    x = jnp.array([[0.0, 0.0], [3.0, 4.0]])
    found, pull = jax.vjp(normalise, x)
    np.testing.assert_allclose(found, [[0, 0], [0.6, 0.8]], rtol=1e-6)
    assert np.isfinite(pull(jnp.ones_like(x))[0]).all()


def test_one_row_does_not_touch_another():
    x = jnp.array([[3.0, 4.0], [1e30, 0.0], [0.0, 1e-30]])
    np.testing.assert_allclose(normalise(x), [[0.6, 0.8], [1, 0], [0, 1]], rtol=1e-6)


def test_at_ordinary_scales_normalise_is_the_plain_formula_bit_for_bit(rng):
    x = jnp.asarray(rng.normal(size=(50, 3, 64)) * np.exp(3 * rng.normal(size=(50, 3, 1))), jnp.float32)
    cotangent = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    for f in (lambda f: f, jax.jit):
        (found, pull), (expected, pull_plain) = (jax.vjp(f(g), x) for g in (normalise, plain))
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(pull(cotangent)[0], pull_plain(cotangent)[0])


def test_normalise_in_half_precision():
    x = jnp.array([[300.0, 400.0], [3e-5, 4e-5]], jnp.float16)  # 300^2 is no float16
    np.testing.assert_allclose(normalise(x), [[0.6, 0.8], [0.6, 0.8]], rtol=0.02)


@pytest.mark.parametrize(("mean", "scale"), [(0, 1), (1e3, 1), (-1e4, 3), (0, 1e15), (1e16, 1e14)])
def test_batch_norm_far_from_zero_equals_float64(rng, mean, scale):
    x = (mean + scale * rng.normal(size=(300, 4))).astype(np.float32)
    layer = BatchNorm(4)
    weights = jnp.ones(300)
    params = layer.init(jax.random.key(0), x, weights, None)
    found = layer.apply(params, x, weights, None)
    wide = x.astype(np.float64)
    expected = (wide - wide.mean(axis=0)) / np.sqrt(wide.var(axis=0) + 1e-5)
    np.testing.assert_allclose(found, expected, atol=2e-3 if mean else 1e-5)
