"""The reassociated item map equals the plain one, and the choice follows the count of multiplications."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sea_jax.models.item_map import Reader, item_map, reassociation_pays

ITEMS, WIDTH = 11, 9
COLUMNS = (slice(None), slice(0, 5), slice(5, 9))
OUTPUTS = (6, 3, 2)


def make():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(ITEMS, WIDTH)).astype(np.float32)
    kernel = rng.normal(size=(WIDTH, WIDTH)).astype(np.float32)
    bias = rng.normal(size=WIDTH).astype(np.float32)
    readers = [
        (
            rng.normal(size=(len(range(WIDTH)[columns]), outputs)).astype(np.float32),
            rng.normal(size=outputs).astype(np.float32),
        )
        for columns, outputs in zip(COLUMNS, OUTPUTS, strict=True)
    ]
    return features, (kernel, bias, readers)


def as_readers(pairs):
    return [Reader(kernel, bias, columns) for (kernel, bias), columns in zip(pairs, COLUMNS, strict=True)]


@pytest.mark.parametrize("reassociate", [True, False])
def test_equals_the_formula(reassociate):
    features, (kernel, bias, pairs) = make()
    found = item_map(features, kernel, bias, as_readers(pairs), reassociate=reassociate)
    z = features @ kernel + bias
    for x, (reader_kernel, reader_bias), columns in zip(found, pairs, COLUMNS, strict=True):
        np.testing.assert_allclose(x, z[:, columns] @ reader_kernel + reader_bias, rtol=1e-4, atol=1e-4)


def test_gradients_of_both_forms_agree():
    features, parameters = make()

    def loss(parameters, reassociate):
        kernel, bias, pairs = parameters
        found = item_map(features, kernel, bias, as_readers(pairs), reassociate=reassociate)
        return sum(jnp.sum(jnp.sin(x)) for x in found)

    plain = jax.grad(loss)(parameters, False)
    other = jax.grad(loss)(parameters, True)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("items", "width", "pays"),
    [
        # Baby's images: 7,050 x 4,096 read by 256 + 64 + 32 + 32 columns. By hand, in units of 1e9: plain
        # 2 * 118.3 + 3 * 9.2 = 264; reassociated 3 * 6.4 + 2 * 11.1 = 41.
        (7050, 4096, True),
        # A narrow map of few items: plain 2 * 40 * 16^2 + 3 * 40 * A, A = 16 * 256 + 8 * 128 = 5,120: 634,880;
        # reassociated 3 * 16^2 * 384 + 2 * 40 * 16 * 384 = 786,432.
        (40, 16, False),
    ],
)
def test_choice_by_count(items, width, pays):
    half = width // 2
    readers = [(width, 256), (half, 64), (half, 32), (half, 32)]
    assert reassociation_pays(items, width, width, readers) is pays
