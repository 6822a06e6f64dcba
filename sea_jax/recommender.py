"""Recommendations from whatever scores: lists, similar items, baskets. NumPy alone."""

import dataclasses
import functools
import numbers
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from sea_jax import baskets, blending, control, recommender_file
from sea_jax.control import Control
from sea_jax.errors import SeaError
from sea_jax.recommender_file import SAVE_AGAIN, about, check, floats, listed

BLOCK_BYTES = 64 << 20  # of scores at hand at any moment
CHUNK_BYTES = 1 << 20  # of items that stay in the cache while the users of a block pass by


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Recommender:
    """Scores of items for users, as data: ids, seen items, and one of the forms that score.

    Vectors: score = user . item. Weights: score of item j = sum over the user's seen items i of W[i, j] (closed forms,
    neighbours). Item scores: the same for everyone (popularity). Members: score = sum over them of their weight times
    their score, standardised over the user's items (a blend). `from_vectors`, `from_item_weights`, `from_item_scores` and
    `from_members` make one; the constructor takes what a file holds.

    user_ids, item_ids: (U,) and (I,) int64 or str. seen_starts: (U + 1,) int64; seen_items: int32, rising within a
    user. user_vectors, item_vectors: (U, d) and (I, d) float32. item_weights: (I, I) float32; or as rows of a sparse
    matrix weight_starts (I + 1,) int64, weight_items int32, weight_values float32. item_scores: (I,) float32. members: M
    recommenders of the same users, items and seen items; member_weights: (M,) float32, above 0. titles, categories: of
    items, or None. notes: JSON (model, dataset, versions, metrics). extras: further arrays by name, kept
    as they are; "basket_items" (I, d) says what each item gives a stranger, see `recommend_for`; "member_names" (M,) str
    what members are called.
    """

    user_ids: np.ndarray
    item_ids: np.ndarray
    seen_starts: np.ndarray
    seen_items: np.ndarray
    user_vectors: np.ndarray | None = None
    item_vectors: np.ndarray | None = None
    item_weights: np.ndarray | None = None
    weight_starts: np.ndarray | None = None
    weight_items: np.ndarray | None = None
    weight_values: np.ndarray | None = None
    item_scores: np.ndarray | None = None
    member_weights: np.ndarray | None = None
    members: tuple["Recommender", ...] = ()
    titles: Any = None  # what callers and files give is checked by `check`, not by annotations
    categories: Any = None
    notes: Any = dataclasses.field(default_factory=dict)
    extras: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        check(self)

    def __repr__(self) -> str:
        return f"<Recommender: {len(self.user_ids)} users, {len(self.item_ids)} items>"

    @classmethod
    def from_vectors(cls, user_vectors: Any, item_vectors: Any, train_pairs: Any, **more: Any) -> "Recommender":
        """A recommender of a factor model, score = user . item.

        Args:
          user_vectors, item_vectors: (U, d) and (I, d), kept as float32.
          train_pairs: (n, 2) numbers of users and items: what the users have seen.
          **more: user_ids, item_ids (by default the numbers from 0), titles, categories, notes, extras.
        Raises: SeaError if the parts do not fit together.
        """
        users, items = floats("user_vectors", user_vectors, 2), floats("item_vectors", item_vectors, 2)
        return cls(user_vectors=users, item_vectors=items, **about(train_pairs, len(items), len(users), **more))

    @classmethod
    def from_item_weights(cls, item_weights: Any, train_pairs: Any, **more: Any) -> "Recommender":
        """A recommender of a closed form or of neighbours, score of j = sum over seen items i of W[i, j].

        Args:
          item_weights: (I, I), dense or a SciPy sparse matrix, kept as float32.
          train_pairs, **more: as in `from_vectors`; without user_ids the users are the numbers up to the largest.
        Raises: SeaError if the parts do not fit together.
        """
        if not hasattr(item_weights, "tocsr"):
            weights = {"item_weights": floats("item_weights", item_weights, 2)}
            return cls(**weights, **about(train_pairs, len(weights["item_weights"]), **more))
        if item_weights.shape[0] != item_weights.shape[1]:
            raise SeaError(f"item_weights must be of shape (I, I), is {item_weights.shape}.")
        rows = item_weights.tocsr().copy()
        rows.sum_duplicates()
        return cls(
            weight_starts=rows.indptr.astype(np.int64),
            weight_items=rows.indices.astype(np.int32),
            weight_values=floats("item_weights", rows.data, 1),
            **about(train_pairs, rows.shape[0], **more),
        )

    @classmethod
    def from_item_scores(cls, item_scores: Any, train_pairs: Any, **more: Any) -> "Recommender":
        """A recommender that ranks alike for everyone, by item_scores (I,); the rest as in `from_item_weights`."""
        scores = floats("item_scores", item_scores, 1)
        return cls(item_scores=scores, **about(train_pairs, len(scores), **more))

    @classmethod
    def from_members(
        cls, members: Sequence["Recommender"], weights: Any, names: Any = None, notes: Any = None
    ) -> "Recommender":
        """A blend: score = sum over members m of w_m (s_m - mean of s_m) / deviation of s_m over a user's items.

        Args:
          members: recommenders of the same users, items and seen items, none of them a blend; titles and categories are
            those of the first.
          weights: one a member, above 0.
          names: one a member, by which `explain` tells them apart; their numbers without.
          notes: JSON.
        Raises: SeaError if the parts do not fit together.
        """
        if not members:
            raise SeaError("a blend needs members.")
        shared = ("user_ids", "item_ids", *recommender_file.SEEN, *recommender_file.TEXTS)
        return cls(
            **{name: getattr(members[0], name) for name in shared},
            members=tuple(members),
            member_weights=floats("weights", weights, 1),
            notes=recommender_file.notes_of(notes),
            extras={} if names is None else {"member_names": np.array(listed(names), np.str_)},
        )

    def recommend(
        self, users: Any, k: Any, exclude_seen: bool = True, candidates: Any = None, control: Control | None = None
    ) -> tuple[Shaped[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
        """The k items of the highest scores for each user, ties by lower item number.

        A list depends on nobody else who is asked for: each user's scores are computed alone.

        Args:
          users: an id or several.
          k: length of the lists; it may exceed the catalogue.
          exclude_seen: whether a user's seen items are left out.
          candidates: ids of the items that may be listed; all by default.
          control: further wishes, see `Control`.
        Returns: (n, k) item ids and float32 scores, falling; None (the ids are then of dtype object) and -inf where no
          item is left to list.
        Raises: SeaError for an unknown id or a k below 1.
        """
        left_out = self.seen if exclude_seen else lambda user: []
        return self._lists(self._scores, left_out, self.numbers("user", users), k, candidates, control)

    def recommend_for(
        self,
        items: Any,
        k: Any,
        exclude_seen: bool = True,
        candidates: Any = None,
        control: Control | None = None,
        weights: Any = None,
    ) -> tuple[Shaped[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """One list for a stranger who has seen `items`.

        Item weights and item scores: exactly what a user with these items would be given. Vectors: of a graph model what
        propagation gives a user with these edges and no vector of their own; of others, and of a basket with an item that
        the graph has no row for (see `with_items`), a ridge regression (sea_jax/baskets.py). Members: each one's own scores
        of the basket, standardised and added.

        Args:
          items: the basket, an id or several; repetitions count once, with the last weight.
          k, exclude_seen, candidates, control: as in `recommend`.
          weights: how much each of `items` counts, above 0; 1 by default.
        Returns: (k,) item ids and float32 scores, as a row of `recommend`.
        Raises: SeaError for an unknown id, an empty basket of vectors, a weight that is not above 0, a k below 1.
        """
        basket, amounts = self.basket(items, weights)
        left_out = basket if exclude_seen else []
        scores = self.basket_scores(basket, amounts)
        found, values = self._lists(
            lambda _: scores[None].copy(), lambda _: left_out, np.zeros(1, int), k, candidates, control
        )
        return found[0], values[0]

    def basket_vector(self, items: Any, weights: Any = None) -> Float[np.ndarray, " d"]:
        """The vector of a stranger with this basket, to be compared with `user_vectors`; see `recommend_for`."""
        if self.item_vectors is None:
            raise SeaError("A basket's vector needs a recommender of vectors, and this one has none.")
        return self._basket_vector(*self.basket(items, weights))

    def _basket_vector(self, basket: np.ndarray, amounts: np.ndarray) -> Float[np.ndarray, " d"]:
        if not len(basket):
            raise SeaError("The basket is empty; name at least one item.")
        rows = self.extras.get("basket_items")
        # Of an item without edges the graph knows nothing, though its vector may.
        if rows is None or (~rows[basket].any(axis=1) & self.item_vectors[basket].any(axis=1)).any():
            return baskets.ridge_vector(self.item_vectors[basket], amounts, self._gram)
        return baskets.graph_vector(rows[basket], amounts)

    def with_items(self, ids: Any, vectors: Any, titles: Any = None, categories: Any = None) -> "Recommender":
        """The recommender with further items that nobody has seen, at the catalogue's end.

        Args:
          ids: of the new items, none of them known.
          vectors: (n, d), as `Run.embed_items` makes them.
          titles, categories: of the new items.
        Raises: SeaError for an id that is known, or a recommender without vectors.
        """
        if self.item_vectors is None:
            raise SeaError("New items need a recommender of vectors, and this one has none.")
        ids, vectors = listed(ids), floats("vectors", vectors, 2)
        known = [one for one in ids if one in self._number_of["item"]]
        if known:
            raise SeaError(f"the new item {known[0]!r} is in the catalogue already; give it an id of its own.")
        if vectors.shape != (len(ids), self.item_vectors.shape[1]):
            wanted = f"({len(ids)}, {self.item_vectors.shape[1]})"
            raise SeaError(f"vectors must be of shape {wanted}, a row for each new id; is {vectors.shape}.")
        more = dict.fromkeys(recommender_file.TEXTS)
        for name, texts in (("titles", titles), ("categories", categories)):
            if texts is not None or getattr(self, name) is not None:
                old = getattr(self, name) or [""] * len(self.item_ids)
                more[name] = old + (recommender_file.texts_of(texts) or [""] * len(ids))
        extras = dict(self.extras)
        if "basket_items" in extras:  # nobody has an edge to it: baskets with it are folded in by the vectors
            rows = extras["basket_items"]
            extras["basket_items"] = np.concatenate([rows, np.zeros((len(ids), rows.shape[1]), rows.dtype)])
        return dataclasses.replace(
            self,
            item_ids=recommender_file.ids_of("ids", [*self.item_ids.tolist(), *ids], len(self.item_ids) + len(ids)),
            item_vectors=np.concatenate([self.item_vectors, vectors]),
            extras=extras,
            **more,
        )

    def with_categories(self, categories: Any) -> "Recommender":
        """The recommender with these categories, one string an item."""
        return dataclasses.replace(self, categories=recommender_file.texts_of(categories))

    def similar_items(self, items: Any, k: Any) -> tuple[Shaped[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
        """The k nearest items of each item by cosine of vectors or of rows of weights, ties by lower item number.

        The item itself is left out. An item of zeros is similar to nothing: its list is empty, and it is in no other. A
        blend has the weighted mean of its members' cosines, those of item scores left aside.

        Args:
          items: an id or several.
          k: length of the lists.
        Returns: (n, k) item ids and float32 cosines, as in `recommend`.
        Raises: SeaError for an unknown id, a k below 1, or item scores, which know no similarity.
        """
        if not self.knows_similarity:
            raise SeaError("Similar items need vectors or item weights, and this recommender holds one score an item.")
        return self._lists(self.cosines, lambda item: item, self.numbers("item", items), k)

    @property
    def knows_similarity(self) -> bool:
        """Whether items have rows by which they are alike."""
        return self.item_scores is None and (not self.members or any(one.knows_similarity for one in self.members))

    def cosines(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n items"]:
        """Likeness of items of these numbers to all, -inf where either is all zeros; see `similar_items`."""
        if self.members:
            able = [one.knows_similarity for one in self.members]
            parts = (one.cosines(rows) for one, does in zip(self.members, able, strict=True) if does)
            return blending.mean_likeness(parts, self.member_weights[able])
        norms = np.where(self._item_norms > 0, self._item_norms, np.inf)
        found = self._item_products(rows, norms[rows]) / norms.astype(np.float32)
        found[:, norms == np.inf] = found[norms[rows] == np.inf] = -np.inf
        return found

    def scores(self, users: Any) -> Float[np.ndarray, "n items"]:
        """Scores of all items for an id of a user or several, seen items included, in the order of `item_ids`."""
        return self._scores(self.numbers("user", users))

    def save(self, path: str | os.PathLike) -> None:
        """Writes one uncompressed .npz file under exactly this name: whole, or not at all; see `load`."""
        recommender_file.write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Recommender":
        """Reads and checks a file of `save`.

        NumPy alone reads it too: arrays have the names of the fields, notes and titles are JSON in a 0-d string.

        Raises: SeaError that names file and field for anything missing, damaged or inconsistent.
        """
        fields = recommender_file.read(path)
        shared = {name: fields[name] for name in ("user_ids", "item_ids", *recommender_file.SEEN)}
        try:
            return cls(**fields | {"members": tuple(cls(**shared, **one) for one in fields["members"])})
        except SeaError as error:
            raise SeaError(f"{path}: field {str(error).removesuffix('.')}; {SAVE_AGAIN}.") from error

    def seen(self, user: int | np.integer) -> np.ndarray:
        """Numbers of the items that the user of this number has seen, rising."""
        return self.seen_items[self.seen_starts[user] : self.seen_starts[user + 1]]

    @functools.cached_property
    def _number_of(self) -> dict[str, dict]:
        ids = {"user": self.user_ids, "item": self.item_ids}
        return {kind: dict(zip(values.tolist(), range(len(values)), strict=True)) for kind, values in ids.items()}

    @functools.cached_property
    def _gram(self) -> Float[np.ndarray, "d d"]:
        rows = self.item_vectors.astype(np.float64)
        return rows.T @ rows

    @functools.cached_property
    def _counts(self) -> Int[np.ndarray, " items"]:
        return np.bincount(self.seen_items, minlength=len(self.item_ids))

    def basket(self, items: Any, weights: Any) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of a basket's items, rising, and their weights."""
        given = self.numbers("item", items)
        amounts = np.ones(len(given)) if weights is None else np.asarray(listed(weights))
        if amounts.shape != given.shape or amounts.dtype.kind not in "iuf":
            raise SeaError(f"weights must be {len(given)} numbers, one for each item of the basket.")
        if not (np.isfinite(amounts) & (amounts > 0)).all():
            raise SeaError("weights must be finite and above 0; leave an item out of the basket instead.")
        last = dict(zip(given.tolist(), amounts.tolist(), strict=True))
        return np.array(sorted(last), np.int64), np.array([last[item] for item in sorted(last)], np.float64)

    def basket_scores(self, basket: np.ndarray, amounts: np.ndarray) -> Float[np.ndarray, " items"]:
        """Scores of all items for a stranger with items of these numbers, rising, and their weights."""
        if self.members:
            return self._blended(lambda one: one.basket_scores(basket, amounts)[None])[0]
        if self.item_vectors is not None:
            vector = self._basket_vector(basket, amounts)
            return _products(vector[None], self.item_vectors)[0]
        return self._sums([basket], [amounts])[0]

    def numbers(self, kind: str, ids: Any) -> np.ndarray:
        """Numbers of "user" or "item" ids, one or several; raises SeaError for one that is unknown."""
        found = []
        for one in listed(ids):
            try:
                found.append(self._number_of[kind][one])
            except (KeyError, TypeError):
                of = "integers" if getattr(self, f"{kind}_ids").dtype.kind == "i" else "strings"
                raise SeaError(f"There is no {kind} {one!r}; the ids of {kind}s are {of}.") from None
        return np.array(found, np.int64)

    def _scores(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n items"]:
        if self.members:
            return self._blended(lambda one: one._scores(rows))
        if self.user_vectors is not None:
            return _products(self.user_vectors[rows], self.item_vectors)
        return self._sums([self.seen(user) for user in rows])

    def _blended(self, scores_of: Callable) -> Float[np.ndarray, "n items"]:
        parts = (blending.standardised(scores_of(one)) for one in self.members)
        return blending.blended(parts, self.member_weights)

    def _sums(self, of: Any, amounts: Any = None) -> Float[np.ndarray, "n items"]:
        """Sums of the weights' rows over baskets of item numbers, each row times its amount if there are such."""
        if self.item_scores is not None:
            return np.tile(self.item_scores, (len(of), 1))
        scores = np.zeros((len(of), len(self.item_ids)), np.float32)
        for row, basket in enumerate(of):
            for place, item in enumerate(basket):
                where, values = self._weights(item)
                scores[row, where] += values if amounts is None else np.float32(amounts[row][place]) * values
        return scores

    def weight(self, of: int | np.integer, to: int | np.integer) -> float:
        """W[of, to] by item numbers: what an item that was seen adds to another's score."""
        where, values = self._weights(of)
        if self.item_weights is not None:
            return float(values[to])
        place = np.searchsorted(where, to)
        return float(values[place]) if place < len(where) and where[place] == to else 0.0

    def _weights(self, item: int | np.integer):
        if self.item_weights is not None:
            return slice(None), self.item_weights[item]
        row = slice(self.weight_starts[item], self.weight_starts[item + 1])
        return self.weight_items[row], self.weight_values[row]

    @functools.cached_property
    def _item_norms(self) -> Float[np.ndarray, " items"]:
        if self.weight_values is not None:
            squares = np.square(self.weight_values, dtype=np.float64)
            return np.sqrt(np.bincount(self._weight_rows, squares, len(self.item_ids)))
        rows = self.item_weights if self.item_vectors is None else self.item_vectors
        return np.sqrt(np.einsum("id,id->i", rows, rows, dtype=np.float64))

    @functools.cached_property
    def _weight_rows(self) -> Int[np.ndarray, " weights"]:
        return np.repeat(np.arange(len(self.item_ids)), np.diff(self.weight_starts))

    def _item_products(self, items, scale) -> Float[np.ndarray, "n items"]:
        """Inner products of rows / scale with all rows, of vectors or of weights."""
        if self.weight_values is None:
            rows = self.item_weights if self.item_vectors is None else self.item_vectors
            return _products((rows[items] / scale[:, None]).astype(np.float32), rows)
        found = self._sums(items[:, None])
        for row, by in zip(found, scale, strict=True):
            row[:] = np.bincount(self._weight_rows, row[self.weight_items] / by * self.weight_values, len(row))
        return found

    def _lists(
        self, scores_of: Callable, left_out: Callable, rows: np.ndarray, k: Any, candidates: Any = None,
        wishes: Control | None = None,
    ):  # fmt: skip
        """Lists by scores_of(some rows); none has an item of left_out(row), one that is no candidate or not wished."""
        if isinstance(k, bool) or not isinstance(k, numbers.Integral) or not 1 <= k < 2**31:
            raise SeaError(f"k={k!r} must be a whole number of at least 1 and below 2^31.")
        count = len(self.item_ids)
        wishes = wishes or Control()
        barred, boosts, content = self._barred(candidates, wishes), self._boosts(wishes), None
        if wishes.diversity:
            content = self._content(wishes)
        block, places = max(1, BLOCK_BYTES // (4 * count)), min(k, count)
        items, scores = np.zeros((len(rows), k), np.int64), np.full((len(rows), k), -np.inf, np.float32)
        for at in range(0, len(rows), block):
            some = slice(at, at + block)
            found = scores_of(rows[some])
            if boosts is not None:
                found = control.boosted(found, boosts)
            found[:, barred] = -np.inf
            for own, row in zip(found, rows[some], strict=True):
                own[left_out(row)] = -np.inf
            if content is None:
                items[some, :places], scores[some, :places] = top(found, places)
                continue
            pool, values = top(found, control.pool_size(places, count))
            for at_row, (own, worth) in enumerate(zip(pool, values, strict=True), start=at):
                chosen = control.diversified(worth, content(own), places, wishes.diversity)
                items[at_row, :places], scores[at_row, :places] = own[chosen], worth[chosen]
        ids, empty = self.item_ids[items], scores == -np.inf
        if empty.any():
            ids = ids.astype(object)
            ids[empty] = None
        return ids, scores

    def _barred(self, candidates: Any, wishes: Control) -> np.ndarray:
        """(I,) bool: the items that no list may hold."""
        barred = np.full(len(self.item_ids), candidates is not None)
        if candidates is not None:
            barred[self.numbers("item", candidates)] = False
        barred[self.numbers("item", wishes.deny)] = True
        if wishes.only_new:
            barred |= self._counts > 0
        if wishes.categories:
            if self.categories is None:
                raise SeaError("This recommender knows no categories of items; give them when it is made.")
            unknown = [name for name in wishes.categories if name not in set(self.categories)]
            if unknown:
                raise SeaError(f"There is no category {unknown[0]!r}.")
            barred |= ~np.isin(self.categories, list(wishes.categories))
        return barred

    def _boosts(self, wishes: Control) -> np.ndarray | None:
        if not wishes.boosts:
            return None
        boosts = np.zeros(len(self.item_ids))
        boosts[self.numbers("item", list(wishes.boosts))] = list(wishes.boosts.values())
        return boosts

    def _content(self, wishes: Control) -> Callable[[np.ndarray], np.ndarray]:
        """A function of item numbers that gives the rows by which diversity compares them."""
        if wishes.content is not None:
            rows = floats("content", wishes.content, 2)
            if len(rows) != len(self.item_ids):
                raise SeaError(f"content must have a row for each of {len(self.item_ids)} items, has {len(rows)}.")
            if not np.isfinite(rows).all():
                raise SeaError("content has numbers that are not finite.")
            return rows.__getitem__
        for one in (self, *self.members):  # of a blend, the first that has such
            if one.weight_values is not None:
                return lambda items, one=one: one._sums(items[:, None])
            for rows in (one.item_vectors, one.item_weights):
                if rows is not None:
                    return rows.__getitem__
        raise SeaError("diversity needs content, as one score an item tells no likeness: Control(content=rows).")


def top(scores: Float[np.ndarray, "n items"], k: int) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """The k highest of each row, as the first k places of a stable argsort of -scores.

    Args:
      scores: without NaN.
      k: at most the number of items.
    Returns: (n, k) columns, and their scores, falling; ties by lower column.
    """
    least = -np.partition(-scores, k - 1, axis=1)[:, k - 1, None]  # ten times faster than from below on many zeros
    kept = scores >= least
    surplus = kept.sum(axis=1) - k
    for row in np.flatnonzero(surplus):  # of those that tie with the last, the highest columns go
        kept[row, np.flatnonzero(scores[row] == least[row])[-surplus[row] :]] = False
    items = np.nonzero(kept)[1].reshape(len(scores), k)
    values = np.take_along_axis(scores, items, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(items, order, axis=1), np.take_along_axis(values, order, axis=1)


def _products(users: Float[np.ndarray, "n d"], items: Float[np.ndarray, "items d"]) -> Float[np.ndarray, "n items"]:
    """users @ items.T as a matrix-vector product for each user: one matrix product rounds a row by its neighbours."""
    scores = np.empty((len(users), len(items)), np.float32)
    step = max(64, CHUNK_BYTES // (4 * max(1, items.shape[1])) // 64 * 64)
    for at in range(0, len(items), step):
        np.matmul(items[at : at + step], users[:, :, None], out=scores[:, at : at + step, None])
    return scores
