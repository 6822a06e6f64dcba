"""Whether settings rank differently, user by user: paired t-tests, bootstrap intervals, a correction for many comparisons."""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats
from jaxtyping import Float, Shaped

from sea_jax.config import LARGEST_INT, METRICS
from sea_jax.errors import SeaError

LEVEL = 0.95  # of the intervals
DRAWS = 1 << 22  # of users at hand at any moment

Values = dict[str, Float[np.ndarray, "_ users"]]  # by metric, a row for each seed


class Comparison(NamedTuple):
    """One setting against another by one metric; differences are first minus second, means over users.

    second: which of the other settings, from 0. low, high: the t-interval. bootstrap_low, bootstrap_high: the percentile
    interval. t, p: the paired t-test's. p_holm: corrected for all comparisons made together. NaN where there is no test.
    """

    second: int
    metric: str
    first_mean: float
    second_mean: float
    difference: float
    low: float
    high: float
    bootstrap_low: float
    bootstrap_high: float
    users: int
    t: float
    p: float
    p_holm: float


def metrics_of(given: Sequence[str], k: int) -> list[str]:
    """Names of metrics with their cut-offs, k where none is said, each once.

    Raises: SeaError for what is no metric.

    >>> metrics_of(["recall", "ndcg@10"], 20)
    ['recall@20', 'ndcg@10']
    """
    found = []
    for one in given:
        name, at, cut = one.strip().partition("@")
        if name not in METRICS or (at and not (re.fullmatch(r"[1-9][0-9]{0,9}", cut) and int(cut) <= LARGEST_INT)):
            raise SeaError(
                f"--metric={one} is no metric; write {', '.join(METRICS)}, alone or with @ and a cut-off from 1."
            )
        found.append(f"{name}@{cut or k}")
    if not found:
        raise SeaError(f"--metric is empty; write some of {', '.join(METRICS)}.")
    return list(dict.fromkeys(found))


def paired_t(differences: Float[np.ndarray, " users"]) -> tuple[float, float, float, float]:
    """(low, high, t, p) of the mean of paired differences; NaN where all are equal, or there is one alone.

    t = mean / (s / sqrt(n)) with n - 1 degrees of freedom, two-sided. Source: Student 1908; for rankings Smucker, Allan,
    Carterette 2007 (CIKM).
    """
    n, mean = len(differences), float(differences.mean())
    error = float(differences.std(ddof=1)) / np.sqrt(n) if n > 1 and np.ptp(differences) > 0 else 0.0
    if not error > 0:
        return (np.nan,) * 4
    reach = float(scipy.stats.t.ppf((1 + LEVEL) / 2, n - 1)) * error
    return mean - reach, mean + reach, mean / error, float(2 * scipy.stats.t.sf(abs(mean / error), n - 1))


def bootstrap(differences: Float[np.ndarray, " users"], resamples: int, seed: int = 0) -> tuple[float, float]:
    """The percentile interval of the mean under resampling of users with replacement; NaN for no resamples.

    Source: Efron, Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
    """
    rng, n, at_once = np.random.default_rng(seed), len(differences), max(1, DRAWS // len(differences))
    means = [
        differences[rng.integers(n, size=(min(at_once, resamples - start), n))].mean(axis=1)
        for start in range(0, resamples, at_once)
    ]
    if not means:
        return np.nan, np.nan
    low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def holm(p: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Adjusted p, max over j <= i of min(1, (m - j + 1) p_(j)) for p_(1) <= ... <= p_(m); what is NaN stays so.

    Rejecting where it is at most alpha keeps the chance of any false rejection at alpha, however the tests depend on each
    other. A comparison without a test counts among the m. Source: Holm 1979 (Scandinavian Journal of Statistics).

    >>> holm(np.array([0.04, 0.01])).tolist()
    [0.04, 0.02]
    """
    order = np.argsort(p, kind="stable")  # NaN comes last
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(np.minimum(1, np.arange(len(p), 0, -1) * p[order]))
    return adjusted


def compare(first: Values, seconds: Sequence[Values], resamples: int = 10_000, seed: int = 0) -> list[Comparison]:
    """The first setting against each other one by each metric; a user's value is their mean over a setting's seeds.

    Args:
      first, seconds: by metric, (seeds, users) values of the same users; settings may differ in seeds.
      resamples: of the bootstrap.
      seed: of the bootstrap; each comparison draws the same users.
    """
    found = []
    for number, second in enumerate(seconds):
        for metric, values in first.items():
            a, b = values.mean(axis=0, dtype=np.float64), second[metric].mean(axis=0, dtype=np.float64)
            apart = a - b
            low, high, t, p = paired_t(apart)
            interval = bootstrap(apart, resamples, seed)
            means = float(a.mean()), float(b.mean()), float(apart.mean())
            found.append(Comparison(number, metric, *means, low, high, *interval, len(apart), t, p, np.nan))
    adjusted = holm(np.array([one.p for one in found]))
    return [one._replace(p_holm=float(p)) for one, p in zip(found, adjusted, strict=True)]


def sentence(one: Comparison) -> str:
    """A comparison for a person."""
    if np.isnan(one.p):
        return f"difference {one.difference:+.4f}, the same for all {one.users} users"
    resampled = "" if np.isnan(one.bootstrap_low) else (
        f", by bootstrap {one.bootstrap_low:+.4f} to {one.bootstrap_high:+.4f}"
    )  # fmt: skip
    return (
        f"difference {one.difference:+.4f} (95% interval {one.low:+.4f} to {one.high:+.4f}{resampled}), {one.users} users, "
        f"paired t {one.t:.2f}, p {one.p:.2g}, by Holm {one.p_holm:.2g}"
    )


def summary(values: Shaped[np.ndarray, "seeds users"]) -> str:
    """A setting's mean, and how its seeds spread."""
    by_seed = values.mean(axis=1, dtype=np.float64)
    spread = f", std {by_seed.std(ddof=1):.4f}" if len(by_seed) > 1 else ""
    return f"{by_seed.mean():.4f}, by seed {', '.join(f'{one:.4f}' for one in by_seed)}{spread}"
