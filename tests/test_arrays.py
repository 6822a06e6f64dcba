"""Shapes at the door, and rows at one scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sea_jax.arrays import check_shapes, rescaled


def test_shapes_that_agree_pass():
    check_shapes("f", a=(jnp.ones((3, 2)), "n d"), b=(np.ones(3), "n"), c=(None, "d"), d=(1.0, ""), e=([1, 2], "d"))
    check_shapes("f", square=(np.ones((3, 3)), "n n"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"a": (np.ones(4), "n"), "b": (np.ones((4, 1)), "n")},
            r"b has shape \(4, 1\), wanted is \(n,\) with n = 4 as in a",
        ),
        ({"a": (np.ones((4, 2)), "n d"), "b": (np.ones((4, 3)), "n d")}, r"b has .* n = 4 as in a and d = 2 as in a"),
        ({"a": (np.ones((3, 4)), "n n")}, r"a has shape \(3, 4\), wanted is \(n, n\)"),
        ({"a": (np.ones(1), "")}, r"a has shape \(1,\), wanted is \(\)"),
        ({"a": (1.0, "n")}, r"a has shape \(\), wanted is \(n,\)"),
    ],
)
def test_shapes_that_do_not_are_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=f"^f: {sentence}$"):
        check_shapes("f", **arguments)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_rescaled_rows_are_exact_and_of_one_size(dtype):
    limits = jnp.finfo(dtype)
    largest = np.array([float(limits.max), float(limits.tiny), 1.0, 3.0, 0.0])
    rows = jnp.asarray(largest[:, None] * np.array([1.0, -0.5, 0.0]), dtype)
    found = np.asarray(jax.jit(rescaled)(rows), np.float64)
    sizes = np.abs(found).max(axis=1)
    assert ((sizes[:4] >= 0.5) & (sizes[:4] < 4)).all()
    assert not found[4].any()
    factors = found[:4, 0] / np.asarray(rows[:4, 0], np.float64)
    np.testing.assert_array_equal(np.frexp(factors)[0], 0.5)  # powers of two


def test_the_factor_is_a_constant_to_differentiation():
    x = jnp.array([[3.0, 4.0]])
    np.testing.assert_array_equal(jax.grad(lambda x: rescaled(x).sum())(x), [[1 / 8, 1 / 8]])
