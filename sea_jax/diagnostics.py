"""Estimates of mutual information between learnt parts: what the losses did, measured by other means."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg
from jaxtyping import Float
from scipy.spatial import cKDTree
from scipy.special import digamma

from sea_jax import losses
from sea_jax.models.conditionals import GaussianConditional
from sea_jax.fitting import fit

Rows = Float[np.ndarray, "n d"]


def ksg(x: Rows, y: Rows, k: int = 3) -> float:
    """Mutual information in nats by nearest neighbours; good in a few dimensions, not in dozens.

    psi(k) + psi(n) - mean[psi(n_x + 1) + psi(n_y + 1)], with n_x and n_y the points nearer in x (in y) than the k-th
    neighbour is in (x, y), by the largest coordinate difference.

    Args:
      x, y: (n, d), (n, e), n > k.
      k: neighbours.
    Source: Kraskov, Stoegbauer and Grassberger 2004 (Phys. Rev. E 69, 066138), equation 8.
    """
    x, y = (np.asarray(rows, np.float64) for rows in (x, y))
    distance = cKDTree(np.hstack([x, y])).query(np.hstack([x, y]), k + 1, p=np.inf)[0][:, -1]
    nearer = np.nextafter(distance, 0)
    counts = [cKDTree(rows).query_ball_point(rows, nearer, p=np.inf, return_length=True) - 1 for rows in (x, y)]
    return float(digamma(k) + digamma(len(x)) - np.mean(digamma(counts[0] + 1) + digamma(counts[1] + 1)))


def canonical_pairs(x: Rows, y: Rows, pairs: int) -> tuple[Rows, Rows]:
    """The `pairs` most correlated pairs of linear combinations of x and y (canonical correlation analysis).

    Returns: (n, p), (n, p) with p at most `pairs` and the rank of either; columns of unit variance.
    """
    bases = []
    for rows in (x, y):
        rows = np.asarray(rows, np.float64)
        basis, singular, _ = scipy.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
        bases.append(basis[:, singular > 1e-6 * max(singular[0], 1e-30)])
    left, _, right = scipy.linalg.svd(bases[0].T @ bases[1], full_matrices=False)
    scale = np.sqrt(len(x))
    return bases[0] @ left[:, :pairs] * scale, bases[1] @ right[:pairs].T * scale


@partial(jax.jit, static_argnums=(2, 3))
def _held_out_club(fitted, held_out, steps, width):
    model = GaussianConditional(width)
    params = model.init(jax.random.key(0), fitted[0][:1])["params"]

    def objective(params):
        total, count = losses.gaussian_nll(*model.apply({"params": params}, fitted[0]), fitted[1])
        return total / count

    optimiser = optax.adam(1e-2)
    params, _, _ = fit(objective, params, optimiser, optimiser.init(params), steps)
    total, count = losses.club_all_pairs(*model.apply({"params": params}, held_out[0]), held_out[1])
    return total / count


def held_out_club(x: Rows, y: Rows, steps: int = 300, seed: int = 0) -> float:
    """CLUB over all pairs in nats, its q(y | x) fitted on 80 % of the rows and evaluated on the other 20 %.

    Columns are standardised, which changes no mutual information. On rows that q has not seen the value is not
    flattered by overfitting; near independence it may fall a little below 0.

    Args:
      x, y: (n, d) of one width, at least 10 rows.
      steps: Adam steps of the fit.
      seed: of the division of the rows.
    """
    x, y = ((rows - rows.mean(axis=0)) / np.maximum(rows.std(axis=0), 1e-6) for rows in (np.asarray(x), np.asarray(y)))
    order = np.random.default_rng(seed).permutation(len(x))
    cut = int(0.8 * len(x))
    parts = [tuple(jnp.asarray(rows[index], jnp.float32) for rows in (x, y)) for index in (order[:cut], order[cut:])]
    return float(_held_out_club(*parts, steps, x.shape[1]))


def estimates(x: Rows, y: Rows, pairs: int = 2) -> dict[str, float]:
    """Both estimates of I(x; y): "club" by `held_out_club`, "ksg" on the leading canonical pairs."""
    return {"club": held_out_club(x, y), "ksg": ksg(*canonical_pairs(x, y, pairs))}


def diagnose(parts: dict) -> dict[str, float]:
    """I(generic; unique) of each modality and I(generic; generic') between modalities, as a flat record.

    Args:
      parts: models.Separated by modality, all items, on the host.
    Returns: `mi/generic_unique/<m>/<estimate>` and `mi/generic_generic/<m>_<m'>/<estimate>` in nats.
    """
    names = list(parts)
    compared = {f"generic_unique/{m}": (parts[m].generic, parts[m].unique) for m in names}
    compared |= {
        f"generic_generic/{later}_{earlier}": (parts[later].generic, parts[earlier].generic)
        for n, later in enumerate(names)
        for earlier in names[:n]
    }
    return {f"mi/{what}/{name}": value for what, pair in compared.items() for name, value in estimates(*pair).items()}
