"""Why an item is recommended: its score as a sum, and the user's own items that lie nearest. NumPy alone."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sea_jax import blending
from sea_jax.recommender import Recommender


class Why(NamedTuple):
    """One item's score taken apart.

    parts: name -> share; they add up to the score. nearest: (item id, likeness) of the user's own items, the nearest first:
    cosine of item vectors (of a blend, its members' mean), or the share of the score that the item brings where scores are
    sums over items; none where all have one score of an item.
    """

    item: Any
    score: float
    parts: dict[str, float]
    nearest: list[tuple[Any, float]]


def explain(made: Recommender, user: Any, items: Any, nearest: int = 3) -> list[Why]:
    """Why each of these items has its score for a user.

    Vectors: shares by the columns of a modality (or its generic and unique part, an id, a content) where the backbone's
    columns can be told apart, else one share. Weights: shares by the user's own items, those beyond `nearest` together. A
    blend: shares by member.

    Args:
      user: an id.
      items: an id or several.
      nearest: how many of the user's own items are named.
    Raises: SeaError for an unknown id.
    """
    if made.members:
        own = made.seen(int(made.numbers("user", user)[0]))
        return _of_members(made, [one.scores(user) for one in made.members], own, items, nearest)
    row = int(made.numbers("user", user)[0])
    vector = None if made.user_vectors is None else made.user_vectors[row]
    return _explain(made, vector, made.seen(row), np.ones(len(made.seen(row))), items, nearest)


def explain_for(made: Recommender, basket: Any, items: Any, nearest: int = 3, weights: Any = None) -> list[Why]:
    """As `explain`, for a stranger with a basket; see `Recommender.recommend_for`."""
    own, amounts = made.basket(basket, weights)
    if made.members:
        return _of_members(made, [one.basket_scores(own, amounts)[None] for one in made.members], own, items, nearest)
    vector = None if made.item_vectors is None else made.basket_vector(basket, weights)
    return _explain(made, vector, own, amounts, items, nearest)


def _explain(made, vector, own, amounts, items, nearest) -> list[Why]:
    numbers, found = made.numbers("item", items), []
    for item in numbers:
        if vector is not None:
            shares = vector.astype(np.float64) * made.item_vectors[item]
            near = _cosines(made.item_vectors[own], made.item_vectors[item])
            parts = {name: float(shares[columns].sum()) for name, columns in columns_of(made).items()}
        elif made.item_scores is not None:
            near, parts = np.full(len(own), -np.inf), {"popularity": float(made.item_scores[item])}
        else:
            near = np.array([made.weight(one, item) for one in own], np.float64) * amounts
            parts = {}
        named = _named(made, own, near, nearest)
        if vector is None and made.item_scores is None:
            parts = {str(one): share for one, share in named}
            parts["(others)"] = float(near.sum() - sum(parts.values()))
        found.append(Why(made.item_ids[item].item(), sum(parts.values()), parts, named))
    return found


def _of_members(made: Recommender, rows: list[Float[np.ndarray, "1 items"]], own, items, nearest) -> list[Why]:
    """A blend's explanations: its members' shares by their scores of all items."""
    names = made.extras.get("member_names", np.arange(len(made.members)).astype(np.str_)).tolist()
    shares = [weight * blending.standardised(row)[0] for row, weight in zip(rows, made.member_weights, strict=True)]
    found = []
    for item in made.numbers("item", items):
        parts = {name: float(share[item]) for name, share in zip(names, shares, strict=True)}
        near = made.cosines(np.array([item]))[0, own] if made.knows_similarity else np.full(len(own), -np.inf)
        found.append(Why(made.item_ids[item].item(), sum(parts.values()), parts, _named(made, own, near, nearest)))
    return found


def _named(made: Recommender, own: np.ndarray, near: np.ndarray, nearest: int) -> list[tuple[Any, float]]:
    """Ids and likeness of the nearest of a user's own items, those of -inf left out."""
    order = [n for n in np.argsort(-near, kind="stable")[:nearest].tolist() if near[n] > -np.inf]
    return [(made.item_ids[own[n]].item(), float(near[n])) for n in order]


def _cosines(rows: Float[np.ndarray, "n d"], one: Float[np.ndarray, " d"]) -> Float[np.ndarray, " n"]:
    """Of rows with one vector, -inf where either is all zeros; of few rows, where `Recommender.cosines` takes all items."""
    rows, one = rows.astype(np.float64), one.astype(np.float64)
    norms = np.linalg.norm(rows, axis=1) * np.linalg.norm(one)
    return np.where(norms > 0, rows @ one / np.where(norms > 0, norms, 1), -np.inf)


def columns_of(made: Recommender) -> dict[str, slice]:
    """Names of the vectors' columns; one name where they cannot be told apart."""
    if "column_names" not in made.extras:
        return {"score": slice(None)}
    ends = made.extras["column_ends"].tolist()
    return {
        name: slice(start, end)
        for name, start, end in zip(made.extras["column_names"].tolist(), [0, *ends], ends, strict=False)
    }


def with_boost(why: Why, score: float) -> Why:
    """The explanation of a score that holds a boost (see `Control`), the boost being a part of it."""
    return why._replace(score=score, parts=why.parts | {"boost": score - why.score})
