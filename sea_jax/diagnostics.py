"""Estimates of mutual information between learnt parts: what the losses did, measured by other means."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg
from jaxtyping import Float, Shaped
from scipy.spatial import cKDTree
from scipy.special import digamma

from sea_jax import losses
from sea_jax.arrays import Array, check_shapes
from sea_jax.fitting import fit
from sea_jax.models.conditionals import GaussianConditional

Rows = Shaped[Array, "n d"]  # of any type of number
OtherRows = Shaped[Array, "n e"]
LEAST_ROWS = 10  # fewer are no sample to estimate from


def _check(x: Shaped[Array, "..."], y: Shaped[Array, "..."]) -> None:
    """Raises: ValueError unless x and y are rows, as many of one as of the other, and finite."""
    check_shapes("mutual information", x=(x, "n d"), y=(y, "n e"))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("mutual information: rows that are not finite have none")


def _standardised(rows: Rows) -> Float[np.ndarray, "n d"]:
    """Columns of mean 0 and variance 1, whatever their scale; those that vary by less than their type resolves are 0."""
    resolution = np.finfo(np.result_type(rows, np.float32)).eps
    rows = np.asarray(rows, np.float64)
    largest = np.abs(rows).max(axis=0)
    rows = np.ldexp(rows, -np.frexp(largest)[1])  # exact; the largest of each column is now between 1/2 and 1, or 0
    rows = rows - rows[0]  # a constant column is now exactly 0
    rows = rows - rows.mean(axis=0)
    deviation = rows.std(axis=0)
    constant = deviation <= resolution
    return np.where(constant, 0, rows / np.where(constant, 1, deviation))


def ksg(x: Rows, y: OtherRows, k: int = 3) -> float:
    """Mutual information in nats by nearest neighbours; good in a few dimensions, not in dozens.

    psi(k) + psi(n) - mean[psi(n_x + 1) + psi(n_y + 1)], with n_x and n_y the points nearer in x (in y) than the k-th
    neighbour is in (x, y), by the largest coordinate difference. Where ties put more than k neighbours within that
    distance (values that repeat, as a coin's), all points up to it count, the point itself among them: their number
    takes the place of k, of n_x + 1 and of n_y + 1. Values on a fine grid of which few repeat are still flattered.

    Args:
      x, y: (n, d), (n, e), n > k, finite, on scales that can be compared. Without columns nothing is known: 0.
      k: neighbours.
    Raises: ValueError where there are too few rows, or some are not finite.

    >>> coin = np.arange(1000.0)[:, None] % 2
    >>> round(ksg(coin, coin), 2)  # ln 2: one tells the other
    0.69

    Source: Kraskov, Stoegbauer and Grassberger 2004 (Phys. Rev. E 69, 066138), equation 8; for ties Gao et al. 2017
    (arXiv 1709.06212), there at distance 0.
    """
    _check(x, y)
    x, y = (np.asarray(rows, np.float64) for rows in (x, y))
    if len(x) <= k:
        raise ValueError(f"{len(x)} rows have no {k} neighbours each")
    if not x.shape[1] or not y.shape[1]:
        return 0.0
    joint = np.hstack([x, y])
    tree = cKDTree(joint)
    distance = tree.query(joint, k + 1, p=np.inf)[0][:, -1]
    within = tree.query_ball_point(joint, distance, p=np.inf, return_length=True)  # with the point itself
    tied = within > k + 1
    radius = np.where(tied, distance, np.nextafter(distance, 0))
    counts = [cKDTree(rows).query_ball_point(rows, radius, p=np.inf, return_length=True) - 1 for rows in (x, y)]
    gain = np.where(tied, digamma(within) - digamma(k), 0)
    return float(digamma(k) + digamma(len(x)) - np.mean(digamma(counts[0] + 1) + digamma(counts[1] + 1) - gain))


def canonical_pairs(x: Rows, y: OtherRows, pairs: int) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "n p"]]:
    """The `pairs` most correlated pairs of linear combinations of x and y (canonical correlation analysis).

    Args:
      x, y: (n, d), (n, e), finite.
      pairs: how many.
    Returns: (n, p), (n, p) with p at most `pairs` and the rank of either, 0 if one of them is constant; columns of unit
      variance.
    Raises: ValueError where rows are not finite.
    """
    _check(x, y)
    bases = []
    for rows in (x, y):
        basis, singular, _ = scipy.linalg.svd(_standardised(rows), full_matrices=False)
        bases.append(basis[:, singular > 1e-6 * singular.max(initial=0)])
    if not all(basis.shape[1] for basis in bases):
        return np.empty((len(x), 0)), np.empty((len(x), 0))
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

    Columns are standardised, which changes no mutual information; one that is constant says nothing. On rows that q has
    not seen the value is not flattered by overfitting; near independence it may fall a little below 0.

    Args:
      x, y: (n, d) of one width, at least 10 rows, finite.
      steps: Adam steps of the fit.
      seed: of the division of the rows.
    Raises: ValueError where there are too few rows, or some are not finite.
    """
    _check(x, y)
    if len(x) < LEAST_ROWS or np.shape(x) != np.shape(y):
        raise ValueError(f"rows of {np.shape(x)} and {np.shape(y)}: wanted are {LEAST_ROWS} or more, of one width")
    x, y = _standardised(x), _standardised(y)
    order = np.random.default_rng(seed).permutation(len(x))
    cut = int(0.8 * len(x))
    parts = [tuple(jnp.asarray(rows[index], jnp.float32) for rows in (x, y)) for index in (order[:cut], order[cut:])]
    return float(_held_out_club(*parts, steps, x.shape[1]))


def estimates(x: Rows, y: Rows, pairs: int = 2) -> dict[str, float | None]:
    """Both estimates of I(x; y): "club" by `held_out_club`, "ksg" on the leading canonical pairs.

    None, where there is none: of rows that are not finite, or fewer than 10. Never raises on them, so that a diagnosis
    ends no training.
    """
    if len(x) < LEAST_ROWS or not (np.isfinite(x).all() and np.isfinite(y).all()):
        return {"club": None, "ksg": None}
    found = {"club": held_out_club(x, y), "ksg": ksg(*canonical_pairs(x, y, pairs))}
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def diagnose(parts: dict) -> dict[str, float | None]:
    """I(generic; unique) of each modality and I(generic; generic') between modalities, as a flat record.

    Args:
      parts: models.Separated by modality, all items, on the host.
    Returns: `mi/generic_unique/<m>/<estimate>` and `mi/generic_generic/<m>_<m'>/<estimate>` in nats, or None, see `estimates`.
    """
    names = list(parts)
    compared = {f"generic_unique/{m}": (parts[m].generic, parts[m].unique) for m in names}
    compared |= {
        f"generic_generic/{later}_{earlier}": (parts[later].generic, parts[earlier].generic)
        for n, later in enumerate(names)
        for earlier in names[:n]
    }
    return {f"mi/{what}/{name}": value for what, pair in compared.items() for name, value in estimates(*pair).items()}
