"""The linear item map Z = X W + b together with the linear layers that read it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sea_jax import axis as ax


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
    """x @ kernel for a large x, which may be stored in bfloat16 to save memory; sums are in float32 all the same.

    The kernel's gradient is made as (dy^T x)^T with dy^T laid out in memory: x^T dy, which differentiation would
    give, walks through x against its layout (on CPU 50 ms against 75 at 7,050 x 4,096 x 384).
    """
    return jnp.matmul(x, kernel.astype(x.dtype), preferred_element_type=kernel.dtype)


def _matmul_forward(x, kernel):
    return matmul(x, kernel), (x, kernel)


def _matmul_backward(saved, cotangent):
    x, kernel = saved
    cotangent = cotangent.astype(x.dtype)
    to_x = jnp.matmul(cotangent, kernel.T.astype(x.dtype))
    rows = jax.lax.optimization_barrier(cotangent.T)  # or the compiler would fold the transpose into the product
    return to_x, jnp.matmul(rows, x, preferred_element_type=kernel.dtype).T


matmul.defvjp(_matmul_forward, _matmul_backward)
