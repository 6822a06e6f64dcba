"""Lower bounds of mutual information from a critic f(x, y), given its scores on joint and on independent pairs.

Callers score with any critic: `joint` holds f(x_i, y_i), `independent` f(x, y) for x and y drawn independently, as
the off-diagonal pairs of a sample are (`off_diagonal`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from sea_jax.arrays import Array, check_shapes


def off_diagonal(
    critic: Callable[[Array, Array], Array], x: Float[Array, "n d"], y: Float[Array, "n e"]
) -> tuple[Float[Array, " n"], Float[Array, "n_1 n"]]:
    """critic(x_i, y_i), (n,), and critic(x_i, y_j) for i != j, (n - 1, n): each shift pairs every x with another y.

    Args:
      critic: (n, d), (n, e) -> (n,) scores of rows.
      x, y: (n, d), (n, e).
    Returns: (n,) scores of joint pairs, (n - 1, n) of independent pairs.
    Raises: ValueError with fewer than two rows.

    >>> x = jnp.array([[1.0], [2.0]])
    >>> joint, independent = off_diagonal(lambda x, y: jnp.sum(x * y, axis=1), x, x)
    >>> joint.tolist(), independent.tolist()
    ([1.0, 4.0], [[2.0, 2.0]])
    """
    check_shapes("off_diagonal", x=(x, "n d"), y=(y, "n e"))
    if x.shape[0] < 2:
        raise ValueError("independent pairs need at least two samples")
    shifts = jnp.arange(1, x.shape[0])
    joint = critic(x, y)
    check_shapes("off_diagonal", x=(x, "n d"), **{"critic(x, y)": (joint, "n")})
    return joint, jax.lax.map(lambda shift: critic(x, jnp.roll(y, shift, axis=0)), shifts)


def log_mean_exp(scores: Float[Array, "*n"]) -> Float[Array, ""]:
    """log of the mean of exp(scores)."""
    return jax.nn.logsumexp(scores) - jnp.log(scores.size)


def tuba(
    joint: Float[Array, " n"], independent: Float[Array, "*m"], log_baseline: Float[Array, ""] | float = 0.0
) -> Float[Array, ""]:
    """Unnormalised Barber-Agakov bound, E_joint[f] - log a + 1 - E_independent[exp(f)] / a; a lower bound for any a > 0.

    Args:
      joint: (n,) scores.
      independent: scores, of any shape.
      log_baseline: log a.
    Returns: the estimate.

    >>> float(tuba(jnp.array([1.0, 2.0]), jnp.array([[0.0, 0.0]])))
    1.5

    Source: Poole et al. 2019 (arXiv 1905.06922), equation 7 with a constant baseline.
    """
    check_shapes("tuba", joint=(joint, "n"), log_baseline=(log_baseline, ""))
    return jnp.mean(joint) - log_baseline + 1 - jnp.exp(log_mean_exp(independent) - log_baseline)


def nwj(joint: Float[Array, " n"], independent: Float[Array, "*m"]) -> Float[Array, ""]:
    """Nguyen-Wainwright-Jordan bound, E_joint[f] - E_independent[exp(f - 1)]: TUBA with a = e.

    Args:
      joint: (n,) scores.
      independent: scores, of any shape.
    Returns: the estimate.

    >>> float(nwj(jnp.array([1.0, 3.0]), jnp.array([1.0, 1.0])))
    1.0

    Source: Nguyen, Wainwright and Jordan 2010; Poole et al. 2019 (arXiv 1905.06922), equation 8.
    """
    check_shapes("nwj", joint=(joint, "n"))
    return tuba(joint, independent, 1.0)


def donsker_varadhan(joint: Float[Array, " n"], independent: Float[Array, "*m"]) -> Float[Array, ""]:
    """E_joint[f] - log E_independent[exp(f)]: a lower bound in the limit, not for finite samples (the log is biased).

    Args:
      joint: (n,) scores.
      independent: scores, of any shape.
    Returns: the estimate.

    >>> float(donsker_varadhan(jnp.array([1.0, 2.0]), jnp.array([[0.0, 0.0]])))
    1.5

    Source: Donsker and Varadhan 1983; Belghazi et al. 2018 (arXiv 1801.04062), equation 4.
    """
    check_shapes("donsker_varadhan", joint=(joint, "n"))
    return jnp.mean(joint) - log_mean_exp(independent)


def mine(
    joint: Float[Array, " n"], independent: Float[Array, "*m"], log_average: Float[Array, ""] | float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Donsker-Varadhan's value with MINE's bias-corrected gradient.

    The gradient of the log divides by a running average of E_independent[exp(f)] rather than by the sample's own.

    Args:
      joint: (n,) scores.
      independent: scores, of any shape.
      log_average: log of the running average, which the caller keeps.
    Returns: the estimate; log E_independent[exp(f)] of this sample, for the caller's average.

    >>> value, log_partition = mine(jnp.array([1.0, 2.0]), jnp.array([[0.0, 0.0]]), jnp.log(3.0))
    >>> float(value), float(log_partition)
    (1.5, 0.0)

    Source: Belghazi et al. 2018 (arXiv 1801.04062), equation 12.
    """
    check_shapes("mine", joint=(joint, "n"), log_average=(log_average, ""))
    log_partition = log_mean_exp(independent)
    known = jax.lax.stop_gradient(log_partition)
    # The correction is of the gradient alone: it is finite, and what it multiplies is 0.
    correction = jnp.minimum(jnp.exp(known - jax.lax.stop_gradient(log_average)), jnp.finfo(known.dtype).max)
    return jnp.mean(joint) - (known + correction * (log_partition - known)), known


def smile(joint: Float[Array, " n"], independent: Float[Array, "*m"], clip: float = 5.0) -> Float[Array, ""]:
    """Donsker-Varadhan with exp(f) clipped to [exp(-clip), exp(clip)]: less variance, no bound.

    Args:
      joint: (n,) scores.
      independent: scores, of any shape.
      clip: the largest score that counts whole.
    Returns: the estimate.

    >>> float(smile(jnp.array([1.0, 2.0]), jnp.array([-9.0, -9.0]), clip=1.0))
    2.5

    Source: Song and Ermon 2020 (arXiv 1910.06222), equation 7.
    """
    check_shapes("smile", joint=(joint, "n"))
    return jnp.mean(joint) - log_mean_exp(jnp.clip(independent, -clip, clip))


def info_nce(scores: Float[Array, "n n"]) -> Float[Array, ""]:
    """mean_i log( exp(f(x_i, y_i)) / mean_j exp(f(x_i, y_j)) ), a lower bound that never exceeds log n.

    Keeps the (n, n) scores; for inner products `solosim` gives log n minus this without them.

    Args:
      scores: (n, n), f(x_i, y_j).
    Returns: the estimate.

    >>> round(float(info_nce(100 * jnp.eye(4))), 4)  # every pair is told apart: log 4
    1.3863

    Source: van den Oord et al. 2018 (arXiv 1807.03748), equation 4.
    """
    check_shapes("info_nce", scores=(scores, "n n"))
    return jnp.mean(jnp.diag(scores) - jax.nn.logsumexp(scores, axis=1)) + jnp.log(scores.shape[0])
