"""Collectives over the device axis; each is the identity when there is no axis (one device).

A differentiated function returns *this device's share* of the loss, so that the loss is the sum of what the
devices return. Under that reading the transposes of these collectives are exact, rows that are divided over
devices get their whole gradient, and replicated parameters need one `psum` of theirs.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from sea_jax.arrays import Array

Axis = str | None


def psum(tree, axis: Axis):
    """Sum of every leaf over the devices."""
    return tree if axis is None else jax.lax.psum(tree, axis)


def gather_rows(rows: Array, axis: Axis) -> Array:
    """All devices' rows, `[rows / devices, ...] -> [rows, ...]`, in the order of the devices."""
    return rows if axis is None else jax.lax.all_gather(rows, axis, tiled=True)


def size(axis: Axis) -> int:
    """Number of devices."""
    return 1 if axis is None else jax.lax.axis_size(axis)


def local_slice(rows: Array, axis: Axis) -> Array:
    """This device's rows of an array that every device holds whole, `[rows, ...] -> [rows / devices, ...]`."""
    if axis is None:
        return rows
    count = rows.shape[0] // size(axis)
    return jax.lax.dynamic_slice_in_dim(rows, jax.lax.axis_index(axis) * count, count)


def row_index(local_rows: int, axis: Axis) -> Int[Array, " rows"]:
    """Global numbers of this device's rows, of a table that holds `local_rows` on each device."""
    start = 0 if axis is None else jax.lax.axis_index(axis) * local_rows
    return start + jnp.arange(local_rows, dtype=jnp.int32)


def take_rows(table: Float[Array, "rows width"], index: Int[Array, " n"], axis: Axis) -> Float[Array, "m width"]:
    """Rows `index` of a table whose rows are divided over the devices: `[n] -> [n / devices, width]`.

    Every device names the whole `index`, gives the rows it holds, and receives the rows of its share of the
    index. One reduce-scatter of n x width numbers moves, however long the table is.
    """
    if axis is None:
        return table[index]
    local = index - jax.lax.axis_index(axis) * table.shape[0]
    held = (local >= 0) & (local < table.shape[0])
    rows = jnp.where(held[:, None], table[jnp.where(held, local, 0)], 0)
    return jax.lax.psum_scatter(rows, axis, tiled=True)
