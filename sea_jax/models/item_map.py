"""The linear item map Z = X W + b together with the linear layers that read it."""

from typing import NamedTuple

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


def reassociation_pays(items: int, inputs: int, width: int, readers: list[tuple[int, int]]) -> bool:
    """Whether X (W C) takes fewer multiplications than (X W) C in a training step.

    X needs no gradient, so that products with X count twice (forward, and the gradient of the other factor) and
    products without it three times.

    Args:
      items, inputs, width: X is items x inputs, W inputs x width.
      readers: (columns read, outputs) of each linear layer C that reads X W.
    """
    area = sum(read * outputs for read, outputs in readers)
    outputs = sum(outputs for _, outputs in readers)
    plain = 2 * items * inputs * width + 3 * items * area
    reassociated = 3 * inputs * area + 2 * items * inputs * outputs
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
    gives the exact gradients of either form. With several devices the kernel's rows are divided: each device
    makes its rows of W C and gathers that small product.

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
        return read(_matmul(features, whole) + bias, readers)
    combined = jnp.concatenate([kernel[:, reader.columns] @ reader.kernel for reader in readers], axis=1)
    shift = jnp.concatenate([bias[reader.columns] @ reader.kernel + reader.bias for reader in readers])
    outputs = _matmul(features, ax.gather_rows(combined, axis)[:inputs]) + shift
    ends = [sum(reader.bias.shape[0] for reader in readers[:n]) for n in range(1, len(readers))]
    return jnp.split(outputs, ends, axis=1)


def _matmul(features, kernel):
    # Features may be stored in bfloat16 to save memory; products are summed in float32 all the same.
    return jnp.matmul(features, kernel.astype(features.dtype), preferred_element_type=kernel.dtype)
