"""The rounding of matrix products that the precision benchmark puts into a traced program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.precision import rounded_products


def rounded(x, bits):
    """float32 to the nearest number with so many explicit bits of mantissa, ties to even."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    return np.ldexp(np.rint(np.ldexp(mantissa, bits + 1)), exponent - bits - 1)


@pytest.mark.parametrize("bits", [7, 10])
def test_operands_are_rounded_and_sums_are_not(bits):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((5, 300), np.float32), rng.standard_normal((300, 4), np.float32)
    found = rounded_products(jnp.matmul, bits)(a, b)
    np.testing.assert_allclose(found, rounded(a, bits) @ rounded(b, bits), rtol=1e-5, atol=1e-5)
    assert np.abs(found - a.astype(np.float64) @ b).max() > 1e-4


def test_products_within_loops_and_gradients_are_rounded():
    rng = np.random.default_rng(1)
    x, w, y = (rng.standard_normal(shape).astype(np.float32) for shape in ((6, 5), (5, 3), (6, 3)))

    def loss(w, x, y):
        def body(total, _):
            return total + jnp.sum(jax.nn.relu(x @ w) * y), None

        return jax.lax.scan(body, jnp.zeros(()), None, length=2)[0]

    value, gradient = rounded_products(jax.jit(jax.value_and_grad(loss)), 7)(w, x, y)
    product = rounded(x, 7) @ rounded(w, 7)
    np.testing.assert_allclose(value, 2 * np.sum(np.maximum(product, 0) * y), rtol=1e-5)
    np.testing.assert_allclose(gradient, 2 * rounded(x, 7).T @ rounded(y * (product > 0), 7), rtol=1e-5)
