"""The fit's GPU kernel: its numbers by Pallas' interpreter, and where it is used."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sea_jax.errors import SeaError
from sea_jax.models.conditionals import GaussianConditional, merge
from sea_jax.models.separation import PART_WIDTH
from sea_jax.training import fit_kernel


@pytest.fixture(autouse=True)
def unseen():
    """Each test has the kernel looked at anew, and leaves nothing remembered."""
    fit_kernel.is_right.cache_clear()
    yield
    fit_kernel.is_right.cache_clear()


def test_the_kernel_equals_the_formula(rng):
    """Value and gradient of the kernel, run by Pallas' interpreter, three programs' worth of samples, some weightless."""
    count = 3 * fit_kernel.SAMPLES
    shapes = jax.eval_shape(GaussianConditional(PART_WIDTH).init, jax.random.key(0), jnp.zeros((1, PART_WIDTH)))
    params = jax.tree.map(lambda x: jnp.asarray(0.3 * rng.normal(size=x.shape), jnp.float32), shapes["params"])
    x, y = (rng.normal(size=(count, PART_WIDTH)).astype(np.float32) for _ in range(2))
    weights = (np.arange(count) < count - 70).astype(np.float32)

    def formula(params):
        mean, logvar = GaussianConditional(PART_WIDTH).apply({"params": params}, x)
        return jnp.sum(weights[:, None] * ((y - mean) ** 2 / jnp.exp(logvar) + logvar)) / 2

    columns = np.append(x, np.ones((count, 1), np.float32), axis=1).T
    kernel = jax.jit(jax.value_and_grad(lambda q: 3 * fit_kernel.nll_sum(q, columns, y.T, weights, True)))
    value, gradient = kernel(merge(params))
    expected, expected_gradient = jax.value_and_grad(formula)(params)
    assert float(value) == pytest.approx(3 * float(expected), rel=1e-5)
    for found, wanted in zip(gradient, merge(expected_gradient), strict=True):
        np.testing.assert_allclose(found, 3 * wanted, atol=1e-5 * np.abs(wanted).max())


def test_the_kernel_is_used_only_where_it_works(monkeypatch):
    assert fit_kernel.is_right(interpret=True)
    assert fit_kernel.resolve("auto", "float32") == fit_kernel.resolve("plain", "float32") == "plain"
    with pytest.raises(SeaError, match="--club_fit=kernel does not work on this device"):
        fit_kernel.resolve("kernel", "tensorfloat32")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")  # a GPU that the kernel does not compile for
    assert fit_kernel.resolve("auto", "float32") == "plain"
    monkeypatch.setattr(fit_kernel, "is_right", lambda precision: precision == "float32")
    assert fit_kernel.resolve("auto", "float32") == "kernel"
    assert fit_kernel.resolve("auto", "tensorfloat32") == "plain"  # seen to work at another precision only


def test_a_kernel_that_computes_something_else_is_noticed(monkeypatch):
    right = fit_kernel.nll_sum
    monkeypatch.setattr(fit_kernel, "nll_sum", lambda *arguments: 1.001 * right(*arguments))
    assert not fit_kernel.is_right(interpret=True)


def test_samples_that_no_program_would_read_are_refused():
    q = merge(GaussianConditional(PART_WIDTH).init(jax.random.key(0), jnp.zeros((1, PART_WIDTH)))["params"])
    x, y, weights = (jnp.zeros(shape) for shape in ((33, 100), (32, 100), (100,)))
    with pytest.raises(ValueError, match="a multiple of 64 samples, not 100"):
        fit_kernel.nll_sum(q, x, y, weights)
