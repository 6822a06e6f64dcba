"""What a list may hold and how it is ordered besides the scores: denials, categories, boosts, diversity. NumPy alone."""

import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from sea_jax.errors import SeaError

POOL = 5  # diversity chooses among so many times k items, at least LEAST_POOL
LEAST_POOL = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Control:
    """Wishes for lists beyond the scores; the defaults wish nothing.

    deny: ids of items that no list has. categories: names; lists hold items of these alone. only_new: lists hold items
    alone that nobody has seen in training. boosts: item id -> how many standard deviations of a user's scores are added
    to the item's (below 0: taken away), so that a boost means the same under every model. diversity: lambda of maximal
    marginal relevance, from 0 (by score) to 1 (as different as can be), see `diversified`. content: (I, d) rows by which
    items are alike in the order of the recommender's item_ids; without it its own item vectors or weights.
    """

    deny: Any = ()
    categories: Any = ()
    only_new: Any = False
    boosts: Any = dataclasses.field(default_factory=dict)
    diversity: Any = 0.0
    content: Any = None

    def __post_init__(self):
        if isinstance(self.categories, str) or not all(isinstance(name, str) for name in self.categories):
            raise SeaError(f"categories={self.categories!r} must be a list of names.")
        if not isinstance(self.only_new, bool):
            raise SeaError(f"only_new={self.only_new!r} must be true or false.")
        if not isinstance(self.boosts, Mapping):
            raise SeaError("boosts must map ids of items to numbers.")
        for item, boost in self.boosts.items():
            if isinstance(boost, bool) or not isinstance(boost, numbers.Real) or not math.isfinite(boost):
                raise SeaError(f"the boost of item {item!r} is {boost!r} and must be a finite number.")
        given = self.diversity
        if isinstance(given, bool) or not isinstance(given, numbers.Real) or not 0 <= given <= 1:
            raise SeaError(f"diversity={given!r} must be a number from 0 to 1.")


def boosted(scores: Float[np.ndarray, "n items"], boosts: Float[np.ndarray, " items"]) -> Float[np.ndarray, "n items"]:
    """Scores plus each item's boost in standard deviations of the row."""
    return scores + (scores.std(axis=1, keepdims=True) * boosts).astype(np.float32)


def pool_size(k: int, items: int) -> int:
    """How many items diversity chooses among."""
    return min(items, max(LEAST_POOL, POOL * k))


def diversified(
    scores: Float[np.ndarray, " pool"], content: Float[np.ndarray, "pool d"], k: int, trade: float | int
) -> Int[np.ndarray, " k"]:
    """Places of k items of a pool, chosen one after the other by maximal marginal relevance.

    argmax over those left of (1 - lambda) r_i - lambda max over those chosen of cos(c_i, c_j), r being the scores
    brought to 0 .. 1 over the pool. The first is the one of the highest score; ties go to the earlier place.

    Args:
      scores: falling; -inf (an item that may not be listed) comes last and is never chosen before others.
      content: rows by which items are alike; their lengths do not matter.
      k: at most the pool's size.
      trade: lambda, from 0 to 1.

    Source: Carbonell & Goldstein 1998 (SIGIR), section 2.
    """
    real = np.isfinite(scores)
    spread = float(np.ptp(scores[real])) if real.any() else 0.0
    relevance = np.where(real, scores, 0.0) / (spread or 1.0)  # a common shift changes no choice
    lengths = np.linalg.norm(content, axis=1, keepdims=True)
    unit = content / np.where(lengths > 0, lengths, 1)
    nearest, left, chosen = np.zeros(len(scores)), np.ones(len(scores), bool), []
    for place in range(k):
        worth = (1 - trade) * relevance - trade * nearest if place else relevance
        worth = np.where(real, worth, -np.inf)
        best = int(np.argmax(np.where(left, worth, -np.inf)))
        best = best if left[best] else int(np.argmax(left))
        left[best] = False
        likeness = unit @ unit[best]
        nearest = likeness if place == 0 else np.maximum(nearest, likeness)
        chosen.append(best)
    return np.array(chosen, np.int64)
