"""The reassociated item map equals the plain one, and the choice follows the count of multiplications."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sea_jax.models import item_map as item_maps
from sea_jax.models.item_map import Reader, item_map, matmul, reassociation_pays

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


@pytest.mark.parametrize("reassociate", [True, False])
def test_gradients_are_those_of_the_formula(reassociate):
    features, parameters = make()

    def loss(parameters):
        kernel, bias, pairs = parameters
        found = item_map(features, kernel, bias, as_readers(pairs), reassociate=reassociate)
        return sum(jnp.sum(jnp.sin(x)) for x in found)

    def formula(parameters):
        kernel, bias, pairs = parameters
        z = features @ kernel + bias
        found = [z[:, columns] @ k + b for (k, b), columns in zip(pairs, COLUMNS, strict=True)]
        return sum(jnp.sum(jnp.sin(x)) for x in found)

    expected, found = jax.grad(formula)(parameters), jax.grad(loss)(parameters)
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.02)])
def test_the_product_and_both_its_gradients(dtype, tolerance):
    rng = np.random.default_rng(1)
    x, kernel, y = (rng.standard_normal(shape).astype(np.float32) for shape in ((7, 5), (5, 3), (7, 3)))
    value, back = jax.vjp(matmul, jnp.asarray(x, dtype), kernel)
    to_x, to_kernel = back(jnp.asarray(y))
    assert (value.dtype, to_x.dtype, to_kernel.dtype) == (jnp.float32, dtype, jnp.float32)
    for found, expected in ((value, x @ kernel), (to_x, y @ kernel.T), (to_kernel, x.T @ y)):
        np.testing.assert_allclose(found.astype(np.float32), expected, rtol=tolerance, atol=4 * tolerance)


def to_host(x):
    return jax.device_put(x, jax.sharding.SingleDeviceSharding(jax.devices()[0], memory_kind="pinned_host"))


@pytest.mark.parametrize("fetch_rows", [1, 3, 7, 100])
@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.02)])
def test_features_on_the_host_give_the_same_product(monkeypatch, fetch_rows, dtype, tolerance):
    """Seven rows of five, fetched some at a time: blocks that divide them, that do not, and that exceed them."""
    rng = np.random.default_rng(1)
    x, kernel, y = (rng.standard_normal(shape).astype(np.float32) for shape in ((7, 5), (5, 3), (7, 3)))
    monkeypatch.setattr(item_maps, "FETCH_BYTES", fetch_rows * 5 * jnp.dtype(dtype).itemsize)

    def weighed(kernel, x):
        return jnp.sum(y * matmul(x, kernel))

    on_host = to_host(jnp.asarray(x, dtype))
    assert on_host.sharding.memory_kind == "pinned_host"
    np.testing.assert_allclose(jax.jit(matmul)(on_host, kernel), x @ kernel, rtol=tolerance, atol=4 * tolerance)
    gradient = jax.jit(jax.grad(weighed))(kernel, on_host)
    np.testing.assert_allclose(gradient, x.T @ y, rtol=tolerance, atol=4 * tolerance)


def test_a_gpu_is_told_to_fetch_the_features():
    """Once forward and once backward, in loops over blocks; on a CPU both memories are one."""
    x, kernel = to_host(np.ones((40_000, 512), np.float32)), jnp.ones((512, 8))
    gradient = jax.jit(jax.grad(lambda kernel, x: jnp.sum(matmul(x, kernel) ** 2)))
    text = gradient.trace(kernel, x).lower(lowering_platforms=("cuda",)).as_text()
    assert 'mhlo.memory_kind = "pinned_host"' in text
    assert text.count('_xla_buffer_placement = "device"') == 4  # whole blocks and the rest
    assert text.count("tensor<32768x512xf32>") > 0  # a block of 64 MiB


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
