"""The linear item map Z = X W + b together with the linear layers that read it."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from sea_jax import axis as ax
from sea_jax.arrays import Array

FETCH_BYTES = 64 << 20  # of features that stay on the host, on the device at a time


class Reader(NamedTuple):
    """A linear layer that reads some columns of its input."""

    kernel: Float[Array, "read outputs"]
    bias: Float[Array, " outputs"]
    columns: slice


def read(x: Float[Array, "n width"], readers: list[Reader]) -> list[Array]:
    """What each reader makes of x."""
    return [x[:, reader.columns] @ reader.kernel + reader.bias for reader in readers]


def side_by_side(readers: list[Reader], width: int) -> Float[Array, "width outputs"]:
    """The readers' kernels as one, zero where a reader does not read."""

    def whole(reader):
        start, stop, _ = reader.columns.indices(width)
        return jnp.pad(reader.kernel, [(start, width - stop), (0, 0)])

    return jnp.concatenate([whole(reader) for reader in readers], axis=1)


def reassociation_pays(items: int, inputs: int, width: int, readers: list[tuple[int, int]]) -> bool:
    """Whether X (W C) takes fewer multiplications than (X W) C in a training step.

    X needs no gradient, so that products with X count twice (forward, and the gradient of the other factor) and
    products without it three times.

    Args:
      items, inputs, width: X is items x inputs, W inputs x width.
      readers: (columns read, outputs) of each linear layer C that reads X W.
    """
    outputs = sum(outputs for _, outputs in readers)
    plain = 2 * items * inputs * width + 3 * items * sum(read * outputs for read, outputs in readers)
    reassociated = 3 * inputs * width * outputs + 2 * items * inputs * outputs
    return reassociated < plain


def item_map(
    features: Float[Array, "items inputs"],
    kernel: Float[Array, "rows width"],
    bias: Float[Array, " width"],
    readers: list[Reader],
    axis: ax.Axis = None,
    reassociate: bool | None = None,
) -> list[Array]:
    """What each reader makes of Z = features @ kernel + bias, without forming Z where that costs more.

    All readers are linear, so with C their kernels side by side (X W) C = X (W C); automatic differentiation
    gives the exact gradients of either form. W C is one product, C holding zeros where a reader does not read:
    a product for each reader multiplies less, but its gradients are further arrays of W's size to add up. With
    several devices the kernel's rows are divided: each device makes its rows of W C and gathers that small product.

    Args:
      features: X, this device's items.
      kernel: W, this device's rows (inputs / devices, padded; all of them on one device).
      bias: b.
      readers: the linear layers that read Z.
      axis: the device axis or None.
      reassociate: which form; by default the one with fewer multiplications.
    Returns: one array (items, outputs) per reader.
    """
    inputs, width = features.shape[1], kernel.shape[1]
    if reassociate is None:
        shapes = [reader.kernel.shape for reader in readers]
        reassociate = reassociation_pays(features.shape[0] * ax.size(axis), inputs, width, shapes)
    if not reassociate:
        whole = ax.gather_rows(kernel, axis)[:inputs]
        return read(matmul(features, whole) + bias, readers)
    beside = side_by_side(readers, width)
    shift = bias @ beside + jnp.concatenate([reader.bias for reader in readers])
    outputs = matmul(features, ax.gather_rows(matmul(kernel, beside), axis)[:inputs]) + shift
    ends = [sum(reader.bias.shape[0] for reader in readers[:n]) for n in range(1, len(readers))]
    return jnp.split(outputs, ends, axis=1)


@jax.custom_vjp
def matmul(x: Float[Array, "n inputs"], kernel: Float[Array, "inputs outputs"]) -> Float[Array, "n outputs"]:
    """x @ kernel for a large x; sums are in float32 whatever x is stored in.

    x may be in bfloat16 to save memory, and may stay in the host's memory: then it is a constant without a gradient,
    and some of its rows at a time are fetched, once forward and once backward.

    The kernel's gradient is made as (dy^T x)^T with dy^T laid out in memory: x^T dy, which differentiation would
    give, walks through x against its layout (on CPU 50 ms against 75 at 7,050 x 4,096 x 384).
    """
    if not on_host(x):
        return _product(x, kernel)
    out = jnp.zeros((x.shape[0], kernel.shape[1]), kernel.dtype)
    return fold_rows(
        lambda out, first, rows: jax.lax.dynamic_update_slice_in_dim(out, _product(rows, kernel), first, 0), out, x
    )


def _product(x, kernel):
    return jnp.matmul(x, kernel.astype(x.dtype), preferred_element_type=kernel.dtype)


def _kernel_gradient(x, cotangent, dtype):
    rows = jax.lax.optimization_barrier(cotangent.T)  # or the compiler would fold the transpose into the product
    return jnp.matmul(rows, x, preferred_element_type=dtype)


def _matmul_forward(x, kernel):
    return matmul(x, kernel), (x, kernel)


def _matmul_backward(saved, cotangent):
    x, kernel = saved
    cotangent = cotangent.astype(x.dtype)
    if not on_host(x):
        to_x = jnp.matmul(cotangent, kernel.T.astype(x.dtype))
        return to_x, _kernel_gradient(x, cotangent, kernel.dtype).T

    def add(total, first, rows):
        share = jax.lax.dynamic_slice_in_dim(cotangent, first, rows.shape[0])
        return total + _kernel_gradient(rows, share, kernel.dtype)

    return None, fold_rows(add, jnp.zeros(kernel.shape[::-1], kernel.dtype), x).T


matmul.defvjp(_matmul_forward, _matmul_backward)


def on_host(x: Array) -> bool:
    """Whether an array of a traced program stays in the host's memory."""
    return jax.typeof(x).memory_space == jax.memory.Space.Host


def fold_rows(body: Callable, carry, x: Float[Array, "n inputs"]):
    """carry = body(carry, number of the first row, rows) over the rows of a host's array, some fetched at a time."""
    size = min(max(1, FETCH_BYTES // (x.shape[1] * x.dtype.itemsize)), x.shape[0])
    blocks, rest = divmod(x.shape[0], size)

    def fetch(carry, first, count):
        rows = jax.lax.dynamic_slice_in_dim(x, first, count)
        return body(carry, first, jax.device_put(rows, jax.memory.Space.Device))

    carry = jax.lax.fori_loop(0, blocks, lambda n, carry: fetch(carry, n * size, size), carry)
    return fetch(carry, blocks * size, rest) if rest else carry
