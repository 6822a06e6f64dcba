"""A GaussianConditional's likelihood and its gradient as one kernel on a GPU, for a fit of many short rounds.

XLA's own program for a round of the fit is some sixteen kernels that pass arrays of all samples between them; this is
one that reads each sample once, and a sum over its programs' shares. The kernel is in Pallas, for its Triton compiler.
"""

import math
from functools import lru_cache, partial
from itertools import accumulate, pairwise

import jax
import jax.numpy as jnp
from jaxtyping import Float

from sea_jax.arrays import Array
from sea_jax.errors import SeaError
from sea_jax.losses import gaussian_nll
from sea_jax.models.conditionals import GaussianConditional, Merged, gaussian_columns, merge

SAMPLES = 64  # of one program, whose registers hold no more; their number must be a multiple of it


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def nll_sum(
    merged: Merged,
    x: Float[Array, "rows n"],
    y: Float[Array, "d n"],
    weights: Float[Array, " n"],
    interpret: bool = False,
) -> Float[Array, ""]:
    """Weighted sum over samples of what `losses.gaussian_nll` makes of `gaussian_columns`; samples are columns.

    Args:
      merged: q's parameters, d and twice the hidden units powers of two from 16 on.
      x: as for `gaussian_columns`, its last row ones. y, weights: of the samples, a multiple of SAMPLES. These three
        are constants, without a gradient.
      interpret: run on any platform, slowly, to check the numbers.
    Raises: ValueError for another number of samples.
    """
    return _forward(merged, x, y, weights, interpret)[0]


def _forward(merged, x, y, weights, interpret):
    # Imported only here: Pallas' Triton is deprecated from JAX 0.11 on, and where it is gone the plain form is used.
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    if y.shape[1] % SAMPLES:
        raise ValueError(f"the kernel needs a multiple of {SAMPLES} samples, not {y.shape[1]}")
    starts = _starts(merged)
    programs, numbers = y.shape[1] // SAMPLES, starts[-1] + 1  # the likelihood comes last

    def columns(rows):
        return pl.BlockSpec((rows, SAMPLES), lambda program: (0, program))

    shares = pl.pallas_call(
        _kernel,
        grid=(programs,),
        in_specs=[
            *(pl.BlockSpec(leaf.shape, lambda program, leaf=leaf: (0,) * leaf.ndim) for leaf in merged),
            *(columns(x.shape[0]), columns(y.shape[0])),
            pl.BlockSpec((SAMPLES,), lambda program: (program,)),
        ],
        out_specs=pl.BlockSpec((numbers,), lambda program: (program,)),
        out_shape=jax.ShapeDtypeStruct((programs * numbers,), y.dtype),
        compiler_params=triton.CompilerParams(num_warps=4, num_stages=1),
        interpret=interpret,
        name="gaussian_nll",
    )(*merged, x, y, weights)
    total = shares.reshape(programs, numbers).sum(axis=0)
    leaves = [total[a:b].reshape(leaf.shape) for leaf, (a, b) in zip(merged, pairwise(starts), strict=True)]
    return total[-1], Merged(*leaves)


def _starts(merged) -> list[int]:
    """Where each array of Merged begins when all stand in one row, and where the last one ends."""
    return [0, *accumulate(math.prod(leaf.shape) for leaf in merged)]


def _backward(interpret, gradient, cotangent):
    return jax.tree.map(lambda leaf: cotangent * leaf, gradient), None, None, None


nll_sum.defvjp(_forward, _backward)


def _kernel(first, second, bias, x, y, weights, share):
    """One program: the sums over its samples of the gradient and the likelihood, side by side as in Merged.

    d numbers and h hidden units; products are of 16 rows at least, so that mean's and logvar's units stay one array
    and each reads the half of the second layer that is its own.
    """
    d, units = first.shape[0] - 1, first.shape[1]
    row, unit, half = jnp.arange(d), jnp.arange(units), units // 2
    is_mean = (unit < half)[:, None]
    first_kernel = first[0:d, :].T
    second_kernel = second[...].reshape(units, d)
    mean_kernel, logvar_kernel = jnp.where(is_mean, second_kernel, 0), jnp.where(is_mean, 0, second_kernel)
    x, y, weights = x[0:d, :], y[...], weights[...]

    hidden = jnp.maximum(first_kernel @ x + first[d, :][:, None], 0)  # [units, samples]
    mean = mean_kernel.T @ hidden + bias[0, :][:, None]  # [d, samples]
    logvar = jnp.tanh(logvar_kernel.T @ hidden + bias[1, :][:, None])
    precision = jnp.exp(-logvar)
    square = (mean - y) ** 2 * precision

    to_mean = weights * (mean - y) * precision
    to_logvar = weights * (1 - square) / 2 * (1 - logvar**2)  # before tanh
    to_second = jnp.where(is_mean, hidden @ to_mean.T, hidden @ to_logvar.T)
    to_hidden = jnp.where(hidden > 0, mean_kernel @ to_mean + logvar_kernel @ to_logvar, 0)

    at_first, at_second, at_bias, at_likelihood = _starts((first, second, bias))
    share[at_first + unit[:, None] + units * row] = to_hidden @ x.T
    share[at_first + units * d + unit] = to_hidden.sum(axis=1)
    share[at_second + d * unit[:, None] + row] = to_second
    share[at_bias + row] = to_mean.sum(axis=1)
    share[at_bias + d + row] = to_logvar.sum(axis=1)
    share[at_likelihood] = jnp.sum(weights * (square + logvar).sum(axis=0)) / 2


def resolve(choice: str, precision: str) -> str:
    """The form of the fit for this platform, "kernel" or "plain": the kernel on a GPU where it is seen to work.

    Args:
      choice: "auto", "plain" or "kernel".
      precision: of products, as `jax.default_matmul_precision` takes it.
    Raises: SeaError if the kernel is asked for and does not work here.
    """
    if choice == "plain" or (choice == "auto" and jax.default_backend() != "gpu"):
        return "plain"
    if is_right(precision):
        return "kernel"
    if choice == "kernel":
        raise SeaError(
            f"--club_fit=kernel does not work on this device ({jax.devices()[0].device_kind}): it needs a GPU that "
            "Pallas compiles for; use --club_fit=auto."
        )
    return "plain"


@lru_cache
def is_right(precision: str = "float32", interpret: bool = False) -> bool:
    """Whether the kernel compiles on this device and agrees with the plain form, value and gradient, on random data."""
    d, count = 32, 2 * SAMPLES
    x_key, y_key, q_key = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(x_key, (d + 1, count)).at[-1].set(1)
    y, weights = jax.random.normal(y_key, (d, count)), jnp.ones(count)
    merged = merge(GaussianConditional(d).init(q_key, y.T)["params"])

    def plain(merged):
        return gaussian_nll(*gaussian_columns(merged, x), y, weights, samples=1)[0]

    with jax.default_matmul_precision("float32"):
        expected = jax.value_and_grad(plain)(merged)
    try:
        with jax.default_matmul_precision(precision):
            found = jax.block_until_ready(jax.value_and_grad(nll_sum)(merged, x, y, weights, interpret))
    except Exception:  # Pallas, Triton and XLA raise many kinds where a device or a version is not theirs
        return False
    tolerance = 1e-4 if precision == "float32" else 1e-2  # the other products keep 10 bits
    return all(
        bool(jnp.max(jnp.abs(a - b)) <= tolerance * jnp.max(jnp.abs(b)))
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    )
