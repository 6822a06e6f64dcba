"""What losses and layers share about arrays: their type, their shapes checked at the door, rows at one scale."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

Array = jax.Array | np.ndarray  # what an argument may be; what a function makes of it is JAX's


def check_shapes(what: str, **arguments: tuple) -> None:
    """Static shapes against their names: sizes of one name are equal, whichever argument has them.

    Args:
      what: the function, for the message.
      arguments: by name, (array, dimensions): names of the sizes in order, as "n d"; "" for a scalar. An array that is
        None is not looked at.
    Raises: ValueError that names the argument, its shape and the shape wanted.

    >>> check_shapes("bpr", positive=(jnp.ones(4), "n"), negative=(jnp.ones((4, 1)), "n"))
    Traceback (most recent call last):
    ValueError: bpr: negative has shape (4, 1), wanted is (n,) with n = 4 as in positive
    """
    sizes = {}
    for name, (array, dimensions) in arguments.items():
        if array is None:
            continue
        shape, dimensions = np.shape(array), dimensions.split()
        fits = len(shape) == len(dimensions)
        if fits:
            found = dict(zip(dimensions, shape, strict=True))
            fits = all(
                found[dimension] == size and sizes.get(dimension, (size, ""))[0] == size
                for dimension, size in zip(dimensions, shape, strict=True)
            )
        if not fits:
            raise ValueError(f"{what}: {name} has shape {shape}, wanted is {_wanted(dimensions, sizes)}")
        sizes |= {dimension: (size, name) for dimension, size in found.items() if dimension not in sizes}


def _wanted(dimensions: Iterable[str], sizes: dict[str, tuple[int, str]]) -> str:
    known = [f"{d} = {sizes[d][0]} as in {sizes[d][1]}" for d in dict.fromkeys(dimensions) if d in sizes]
    shape = f"({', '.join(dimensions)}{',' * (len(dimensions) == 1)})"
    return f"{shape} with {' and '.join(known)}" if known else shape


def rescaled(x: Float[Array, "*n d"]) -> Float[jax.Array, "*n d"]:
    """Each row times a power of two that brings its largest entry to 1/2 or more and below 4; a zero row as it is.

    For what does not depend on the length of a row, as a direction or a cosine: squares and products of such rows
    neither overflow nor vanish, and the product is exact. The factor is a constant to differentiation.
    """
    limits = jnp.finfo(x.dtype)
    largest = jnp.max(jnp.abs(jax.lax.stop_gradient(x)), axis=-1, keepdims=True, initial=0)
    exponent = jnp.clip(jnp.frexp(largest)[1], limits.minexp, limits.maxexp - 2)  # its power of two is a normal number
    return x * jnp.ldexp(jnp.ones_like(largest), -exponent)
