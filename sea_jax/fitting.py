"""Fits a conditional or a critic: the step's inner loop, and the studies' estimators."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jaxtyping import Float

from sea_jax import axis as ax
from sea_jax.arrays import Array


def fit(
    objective: Callable[..., Array],
    params: Any,
    optimiser: optax.GradientTransformation,
    state: optax.OptState,
    steps: int,
    axis: ax.Axis = None,
    inputs: Any = None,
) -> tuple[Any, optax.OptState, Float[Array, " steps"]]:
    """Minimises `objective(params)` by `steps` steps, as one scan; or `objective(params, input)`, an input a step.

    Args:
      objective: this device's share of a scalar loss.
      params, state: where to start.
      optimiser: the update rule.
      steps: how many.
      axis: the device axis or None.
      inputs: a pytree with one row for each step, such as keys from which the objective draws; none if None.
    Returns: parameters, optimiser state, the loss of all devices before each step (steps,).
    """

    def body(carry, row):
        params, state = carry
        rest = () if inputs is None else (row,)
        value, gradient = ax.psum(jax.value_and_grad(objective)(params, *rest), axis)
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    (params, state), values = jax.lax.scan(body, (params, state), inputs, length=steps)
    return params, state, values
