"""Fits a conditional or a critic: the step's inner loop, and the studies' estimators."""

from collections.abc import Callable
from typing import Any

import jax
import optax
from jaxtyping import Array, Float

from sea_jax import axis as ax


def fit(
    objective: Callable[[Any], Array],
    params: Any,
    optimiser: optax.GradientTransformation,
    state: optax.OptState,
    steps: int,
    axis: ax.Axis = None,
) -> tuple[Any, optax.OptState, Float[Array, " steps"]]:
    """Minimises `objective(params)` by `steps` full-batch steps, as one scan.

    Args:
      objective: this device's share of a scalar loss.
      params, state: where to start.
      optimiser: the update rule.
      steps: how many.
      axis: the device axis or None.
    Returns: parameters, optimiser state, the loss of all devices before each step (steps,).
    """

    def body(carry, _):
        params, state = carry
        value, gradient = ax.psum(jax.value_and_grad(objective)(params), axis)
        updates, state = optimiser.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), value

    (params, state), values = jax.lax.scan(body, (params, state), length=steps)
    return params, state, values
