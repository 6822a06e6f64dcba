"""Lower bounds of mutual information from a critic f(x, y), given its scores on joint and on independent pairs.

Callers score with any critic: `joint` holds f(x_i, y_i), `independent` f(x, y) for x and y drawn independently, as
the off-diagonal pairs of a sample are (`off_diagonal`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def off_diagonal(critic: Callable[[Array, Array], Array], x: Float[Array, "n d"], y: Float[Array, "n e"]):
    """critic(x_i, y_i), (n,), and critic(x_i, y_j) for i != j, (n - 1, n): each shift pairs every x with another y.

    Args:
      critic: (n, d), (n, e) -> (n,) scores of rows.
    Raises: ValueError with fewer than two rows.
    """
    if x.shape[0] < 2:
        raise ValueError("independent pairs need at least two samples")
    shifts = jnp.arange(1, x.shape[0])
    return critic(x, y), jax.lax.map(lambda shift: critic(x, jnp.roll(y, shift, axis=0)), shifts)


def log_mean_exp(scores: Float[Array, "*n"]) -> Float[Array, ""]:
    """log of the mean of exp(scores)."""
    return jax.nn.logsumexp(scores) - jnp.log(scores.size)


def tuba(
    joint: Float[Array, " n"], independent: Float[Array, "*m"], log_baseline: Float[Array, ""] | float = 0.0
) -> Float[Array, ""]:
    """Unnormalised Barber-Agakov bound, E_joint[f] - log a + 1 - E_independent[exp(f)] / a; a lower bound for any a > 0.

    Source: Poole et al. 2019 (arXiv 1905.06922), equation 7 with a constant baseline.
    """
    return jnp.mean(joint) - log_baseline + 1 - jnp.exp(log_mean_exp(independent) - log_baseline)


def nwj(joint: Float[Array, " n"], independent: Float[Array, "*m"]) -> Float[Array, ""]:
    """Nguyen-Wainwright-Jordan bound, E_joint[f] - E_independent[exp(f - 1)]: TUBA with a = e.

    Source: Nguyen, Wainwright and Jordan 2010; Poole et al. 2019 (arXiv 1905.06922), equation 8.
    """
    return tuba(joint, independent, 1.0)


def donsker_varadhan(joint: Float[Array, " n"], independent: Float[Array, "*m"]) -> Float[Array, ""]:
    """E_joint[f] - log E_independent[exp(f)]: a lower bound in the limit, not for finite samples (the log is biased).

    Source: Donsker and Varadhan 1983; Belghazi et al. 2018 (arXiv 1801.04062), equation 4.
    """
    return jnp.mean(joint) - log_mean_exp(independent)


def mine(
    joint: Float[Array, " n"], independent: Float[Array, "*m"], log_average: Float[Array, ""]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Donsker-Varadhan's value with MINE's bias-corrected gradient.

    The gradient of the log divides by a running average of E_independent[exp(f)] rather than by the sample's own.

    Args:
      joint, independent: scores.
      log_average: log of the running average, which the caller keeps.
    Returns: the estimate; log E_independent[exp(f)] of this sample, for the caller's average.

    Source: Belghazi et al. 2018 (arXiv 1801.04062), equation 12.
    """
    log_partition = log_mean_exp(independent)
    surrogate = jnp.exp(log_partition - jax.lax.stop_gradient(log_average))
    log_term = surrogate + jax.lax.stop_gradient(log_partition - surrogate)
    return jnp.mean(joint) - log_term, jax.lax.stop_gradient(log_partition)


def smile(joint: Float[Array, " n"], independent: Float[Array, "*m"], clip: float = 5.0) -> Float[Array, ""]:
    """Donsker-Varadhan with exp(f) clipped to [exp(-clip), exp(clip)]: less variance, no bound.

    Source: Song and Ermon 2020 (arXiv 1910.06222), equation 7.
    """
    return jnp.mean(joint) - log_mean_exp(jnp.clip(independent, -clip, clip))


def info_nce(scores: Float[Array, "n n"]) -> Float[Array, ""]:
    """mean_i log( exp(f(x_i, y_i)) / mean_j exp(f(x_i, y_j)) ), a lower bound that never exceeds log n.

    Keeps the (n, n) scores; for inner products `solosim` gives log n minus this without them.

    Source: van den Oord et al. 2018 (arXiv 1807.03748), equation 4.
    """
    return jnp.mean(jnp.diag(scores) - jax.nn.logsumexp(scores, axis=1)) + jnp.log(scores.shape[0])
