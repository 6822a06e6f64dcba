"""Recommendations from whatever scores: lists, similar items, baskets; one checked file. NumPy alone."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import numbers
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from sea_jax import files
from sea_jax.errors import SeaError

SCHEMA = 1
BLOCK_BYTES = 64 << 20  # of scores at hand at any moment
CHUNK_BYTES = 1 << 20  # of items that stay in the cache while the users of a block pass by
LARGEST = 1e15  # no sum of products of such numbers overflows float32
SAVE_AGAIN = "save the recommender again"

# Dtype and axes of each array; axes of one name have one length.
ARRAYS = {
    "seen_starts": (np.int64, ("users + 1",)),
    "seen_items": (np.int32, ("seen",)),
    "user_vectors": (np.float32, ("users", "d")),
    "item_vectors": (np.float32, ("items", "d")),
    "item_weights": (np.float32, ("items", "items")),
    "weight_starts": (np.int64, ("items + 1",)),
    "weight_items": (np.int32, ("weights",)),
    "weight_values": (np.float32, ("weights",)),
    "item_scores": (np.float32, ("items",)),
}
# What scores: a recommender has all arrays of one line and none of the others.
FORMS = (
    ("user_vectors", "item_vectors"),
    ("item_weights",),
    ("weight_starts", "weight_items", "weight_values"),
    ("item_scores",),
)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Recommender:
    """Scores of items for users, as data: ids, seen items, and one of the forms that score.

    Vectors: score = user . item. Weights: score of item j = sum over the user's seen items i of W[i, j] (closed forms,
    neighbours). Item scores: the same for everyone (popularity). `from_vectors`, `from_item_weights` and
    `from_item_scores` make one; the constructor takes what a file holds.

    user_ids, item_ids: (U,) and (I,) int64 or str. seen_starts: (U + 1,) int64; seen_items: int32, rising within a
    user. user_vectors, item_vectors: (U, d) and (I, d) float32. item_weights: (I, I) float32; or as rows of a sparse
    matrix weight_starts (I + 1,) int64, weight_items int32, weight_values float32. item_scores: (I,) float32. titles:
    of items, or None. notes: JSON (model, dataset, versions, metrics). extras: further arrays by name, kept as they are.
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
    titles: Any = None  # what callers and files give is checked by `_check`, not by annotations
    notes: Any = dataclasses.field(default_factory=dict)
    extras: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        _check(self)

    def __repr__(self) -> str:
        return f"<Recommender: {len(self.user_ids)} users, {len(self.item_ids)} items>"

    @classmethod
    def from_vectors(cls, user_vectors: Any, item_vectors: Any, train_pairs: Any, **about: Any) -> "Recommender":
        """A recommender of a factor model, score = user . item.

        Args:
          user_vectors, item_vectors: (U, d) and (I, d), kept as float32.
          train_pairs: (n, 2) numbers of users and items: what the users have seen.
          **about: user_ids, item_ids (by default the numbers from 0), titles, notes, extras.
        Raises: SeaError if the parts do not fit together.
        """
        users, items = _floats("user_vectors", user_vectors, 2), _floats("item_vectors", item_vectors, 2)
        return cls(user_vectors=users, item_vectors=items, **_about(train_pairs, len(items), len(users), **about))

    @classmethod
    def from_item_weights(cls, item_weights: Any, train_pairs: Any, **about: Any) -> "Recommender":
        """A recommender of a closed form or of neighbours, score of j = sum over seen items i of W[i, j].

        Args:
          item_weights: (I, I), dense or a SciPy sparse matrix, kept as float32.
          train_pairs, **about: as in `from_vectors`; without user_ids the users are the numbers up to the largest.
        Raises: SeaError if the parts do not fit together.
        """
        if not hasattr(item_weights, "tocsr"):
            weights = {"item_weights": _floats("item_weights", item_weights, 2)}
            return cls(**weights, **_about(train_pairs, len(weights["item_weights"]), **about))
        if item_weights.shape[0] != item_weights.shape[1]:
            raise SeaError(f"item_weights must be of shape (I, I), is {item_weights.shape}.")
        rows = item_weights.tocsr().copy()
        rows.sum_duplicates()
        return cls(
            weight_starts=rows.indptr.astype(np.int64),
            weight_items=rows.indices.astype(np.int32),
            weight_values=_floats("item_weights", rows.data, 1),
            **_about(train_pairs, rows.shape[0], **about),
        )

    @classmethod
    def from_item_scores(cls, item_scores: Any, train_pairs: Any, **about: Any) -> "Recommender":
        """A recommender that ranks alike for everyone, by item_scores (I,); the rest as in `from_item_weights`."""
        scores = _floats("item_scores", item_scores, 1)
        return cls(item_scores=scores, **_about(train_pairs, len(scores), **about))

    def recommend(
        self, users: Any, k: Any, exclude_seen: bool = True, candidates: Any = None
    ) -> tuple[Shaped[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
        """The k items of the highest scores for each user, ties by lower item number.

        A list depends on nobody else who is asked for: each user's scores are computed alone.

        Args:
          users: an id or several.
          k: length of the lists; it may exceed the catalogue.
          exclude_seen: whether a user's seen items are left out.
          candidates: ids of the items that may be listed; all by default.
        Returns: (n, k) item ids and float32 scores, falling; None (the ids are then of dtype object) and -inf where no
          item is left to list.
        Raises: SeaError for an unknown id or a k below 1.
        """
        left_out = self._seen if exclude_seen else lambda user: []
        return self._lists(self._scores, left_out, self._numbers("user", users), k, candidates)

    def recommend_for(
        self, items: Any, k: Any, exclude_seen: bool = True, candidates: Any = None
    ) -> tuple[Shaped[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """One list for a stranger who has seen `items`, exactly what a user with these items would be given.

        Args:
          items: the basket, an id or several; repetitions count once.
          k, exclude_seen, candidates: as in `recommend`.
        Returns: (k,) item ids and float32 scores, as a row of `recommend`.
        Raises: SeaError for an unknown id, a k below 1, or vectors, which do not say how a basket becomes a user.
        """
        if self.user_vectors is not None:
            raise SeaError("A basket needs item weights or item scores, and this recommender holds vectors of users.")
        basket = np.unique(self._numbers("item", items))
        left_out = basket if exclude_seen else []
        listed, scores = self._lists(
            lambda _: self._sums([basket]), lambda _: left_out, np.zeros(1, int), k, candidates
        )
        return listed[0], scores[0]

    def similar_items(self, items: Any, k: Any) -> tuple[Shaped[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
        """The k nearest items of each item by cosine of vectors or of rows of weights, ties by lower item number.

        The item itself is left out. An item of zeros is similar to nothing: its list is empty, and it is in no other.

        Args:
          items: an id or several.
          k: length of the lists.
        Returns: (n, k) item ids and float32 cosines, as in `recommend`.
        Raises: SeaError for an unknown id, a k below 1, or item scores, which know no similarity.
        """
        if self.item_scores is not None:
            raise SeaError("Similar items need vectors or item weights, and this recommender holds one score an item.")
        norms = np.where(self._item_norms > 0, self._item_norms, np.inf)

        def cosines(rows):
            found = self._item_products(rows, norms[rows]) / norms.astype(np.float32)
            found[:, norms == np.inf] = found[norms[rows] == np.inf] = -np.inf
            return found

        return self._lists(cosines, lambda item: item, self._numbers("item", items), k)

    def scores(self, users: Any) -> Float[np.ndarray, "n items"]:
        """Scores of all items for an id of a user or several, seen items included, in the order of `item_ids`."""
        return self._scores(self._numbers("user", users))

    def save(self, path: str | os.PathLike) -> None:
        """Writes one uncompressed .npz file under exactly this name: whole, or not at all; see `load`."""
        fields = {name: getattr(self, name) for name in ("user_ids", "item_ids", *ARRAYS)}
        arrays = {name: array for name, array in fields.items() if array is not None}
        arrays |= {f"extra_{name}": np.asarray(array, order="C") for name, array in self.extras.items()}
        arrays |= {"schema": np.array(SCHEMA), "notes": _as_json(self.notes)}
        if self.titles is not None:
            arrays["titles"] = _as_json(self.titles)
        files.write_npz(path, arrays | {"sha256": np.array(_sha256(arrays))})

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Recommender":
        """Reads and checks a file of `save`.

        NumPy alone reads it too: arrays have the names of the fields, notes and titles are JSON in a 0-d string.

        Raises: SeaError that names file and field for anything missing, damaged or inconsistent.
        """
        arrays = files.read_npz(path, None, SAVE_AGAIN)
        if "schema" not in arrays:
            raise SeaError(f"{path} is no recommender (it has no field schema).")
        if not np.array_equal(arrays["schema"], SCHEMA):
            raise SeaError(f"{path}: field schema is not {SCHEMA}, the one that this version reads; {SAVE_AGAIN}.")
        for name in ("sha256", "user_ids", "item_ids", "seen_starts", "seen_items", "notes"):
            if name not in arrays:
                raise SeaError(f"{path} has no field {name}; {SAVE_AGAIN}.")
        if str(arrays.pop("sha256")) != _sha256(arrays):
            raise SeaError(f"{path}: field sha256 says that this is not what was written; {SAVE_AGAIN}.")
        fields = {"extras": {}}
        for name, array in arrays.items():
            if name in ("notes", "titles"):
                try:
                    fields[name] = json.loads(str(array))
                except (ValueError, RecursionError) as error:
                    raise SeaError(f"{path}: field {name} is no JSON; {SAVE_AGAIN}.") from error
            elif name.startswith("extra_"):
                fields["extras"][name.removeprefix("extra_")] = array
            elif name in ("user_ids", "item_ids", *ARRAYS):
                fields[name] = array
            elif name != "schema":
                raise SeaError(f"{path}: field {name} is none of a recommender; {SAVE_AGAIN}.")
        try:
            return cls(**fields)
        except SeaError as error:
            raise SeaError(f"{path}: field {str(error).removesuffix('.')}; {SAVE_AGAIN}.") from error

    def _seen(self, user: int | np.integer) -> np.ndarray:
        return self.seen_items[self.seen_starts[user] : self.seen_starts[user + 1]]

    @functools.cached_property
    def _number_of(self) -> dict[str, dict]:
        ids = {"user": self.user_ids, "item": self.item_ids}
        return {kind: dict(zip(values.tolist(), range(len(values)), strict=True)) for kind, values in ids.items()}

    def _numbers(self, kind: str, ids: Any) -> np.ndarray:
        found = []
        for one in _listed(ids):
            try:
                found.append(self._number_of[kind][one])
            except (KeyError, TypeError):
                of = "integers" if getattr(self, f"{kind}_ids").dtype.kind == "i" else "strings"
                raise SeaError(f"There is no {kind} {one!r}; the ids of {kind}s are {of}.") from None
        return np.array(found, np.int64)

    def _scores(self, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n items"]:
        if self.user_vectors is not None:
            return _products(self.user_vectors[rows], self.item_vectors)
        return self._sums([self._seen(user) for user in rows])

    def _sums(self, baskets: list[np.ndarray] | Int[np.ndarray, "n basket"]) -> Float[np.ndarray, "n items"]:
        if self.item_scores is not None:
            return np.tile(self.item_scores, (len(baskets), 1))
        scores = np.zeros((len(baskets), len(self.item_ids)), np.float32)
        for row, basket in enumerate(baskets):
            for item in basket:
                where, values = self._weights(item)
                scores[row, where] += values
        return scores

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

    def _lists(self, scores_of: Callable, left_out: Callable, rows: np.ndarray, k: Any, candidates: Any = None):
        """Lists by scores_of(some rows); none has an item of left_out(row) or one that is no candidate."""
        if isinstance(k, bool) or not isinstance(k, numbers.Integral) or not 1 <= k < 2**31:
            raise SeaError(f"k={k!r} must be a whole number of at least 1 and below 2^31.")
        count = len(self.item_ids)
        barred = np.full(count, candidates is not None)
        if candidates is not None:
            barred[self._numbers("item", candidates)] = False
        block, places = max(1, BLOCK_BYTES // (4 * count)), min(k, count)
        items, scores = np.zeros((len(rows), k), np.int64), np.full((len(rows), k), -np.inf, np.float32)
        for at in range(0, len(rows), block):
            some = slice(at, at + block)
            found = scores_of(rows[some])
            found[:, barred] = -np.inf
            for own, row in zip(found, rows[some], strict=True):
                own[left_out(row)] = -np.inf
            items[some, :places], scores[some, :places] = top(found, places)
        listed, empty = self.item_ids[items], scores == -np.inf
        if empty.any():
            listed = listed.astype(object)
            listed[empty] = None
        return listed, scores


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


def _listed(ids: Any) -> list:
    ids = ids.tolist() if hasattr(ids, "tolist") else ids
    return list(ids) if isinstance(ids, Iterable) and not isinstance(ids, str | bytes) else [ids]


def _ids(field: str, ids: Any, count: int) -> np.ndarray:
    listed = list(range(count)) if ids is None else _listed(ids)
    if len(listed) != count:
        raise SeaError(f"{field} must have {count} entries, has {len(listed)}.")
    found = None
    with contextlib.suppress(OverflowError):
        if all(isinstance(one, numbers.Integral) and not isinstance(one, bool) for one in listed):
            found = np.array(listed, np.int64)
        elif all(isinstance(one, str) for one in listed):
            found = np.array(listed, np.str_)
    if found is None or found.tolist() != listed:  # NumPy drops NUL at the end of a string
        raise SeaError(f"{field} must be integers of at most 64 bits, or strings that do not end in NUL.")
    return found


def _floats(field: str, values: Any, ndim: int) -> np.ndarray:
    found = _array(field, values)
    if found.ndim != ndim or found.dtype.kind not in "biuf":
        raise SeaError(f"{field} must be numbers in {ndim} axes, is {found.dtype} {found.shape}.")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(found, np.float32)


def _array(field: str, values: Any) -> np.ndarray:
    try:
        return np.asarray(values)
    except (TypeError, ValueError) as error:
        raise SeaError(f"{field} must be an array, and cannot be made one ({error}).") from error


def _about(pairs, num_items, num_users=None, user_ids=None, item_ids=None, titles=None, notes=None, extras=None):
    """The fields that all forms share; the number of users is known from vectors only."""
    pairs = _array("train_pairs", pairs)
    pairs = pairs if pairs.size else np.zeros((0, 2), np.int64)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise SeaError(f"train_pairs must be integers of shape (n, 2), is {pairs.dtype} {pairs.shape}.")
    pairs = pairs.astype(np.int64)
    user_ids = None if user_ids is None else _listed(user_ids)
    if num_users is None:
        num_users = int(pairs[:, 0].max(initial=-1)) + 1 if user_ids is None else len(user_ids)
    for column, count, kind in ((0, num_users, "user"), (1, num_items, "item")):
        wrong = pairs[(pairs[:, column] < 0) | (pairs[:, column] >= count), column]
        if len(wrong):
            raise SeaError(f"train_pairs names {kind} {wrong[0]}, outside 0 to {count - 1}.")
    seen = np.unique(pairs @ [num_items, 1])
    try:
        notes = json.loads(json.dumps(notes or {}))
    except (TypeError, ValueError) as error:
        raise SeaError(f"notes cannot be written as JSON ({error}).") from error
    return {
        "user_ids": _ids("user_ids", user_ids, num_users),
        "item_ids": _ids("item_ids", item_ids, num_items),
        "seen_starts": np.searchsorted(seen, np.arange(num_users + 1) * num_items),
        "seen_items": (seen % max(num_items, 1)).astype(np.int32),
        "titles": None if titles is None else ["" if title is None else title for title in _listed(titles)],
        "notes": notes,
        "extras": dict(extras or {}),
    }


def _check(made: Recommender) -> None:
    """Checks dtypes, shapes, values, ids and seen items; raises SeaError naming the field."""

    def require(condition, field, wrong):
        if not condition:
            raise SeaError(f"{field} {wrong}.")

    sizes = {}
    for field, axis in (("user_ids", "users"), ("item_ids", "items")):
        ids = getattr(made, field)
        require(ids.ndim == 1 and (ids.dtype == np.int64 or ids.dtype.kind == "U"), field, "must be int64 or str (n,)")
        sizes |= {axis: len(ids), f"{axis} + 1": len(ids) + 1}
    for kind, last in made._number_of.items():
        twice = [one for n, one in enumerate(getattr(made, f"{kind}_ids").tolist()) if last[one] != n]
        require(not twice, f"{kind}_ids", f"has {twice[:1]} twice")
    require(sizes["items"] > 0, "item_ids", "is empty")
    given = tuple(name for name in ARRAYS if not name.startswith("seen") and getattr(made, name) is not None)
    require(given in FORMS, " and ".join(given) or "user_vectors", "is not one complete form that scores")
    for field, (dtype, axes) in ARRAYS.items():
        array = getattr(made, field)
        if array is None:
            continue
        wanted = tuple(sizes.setdefault(axis, size) for axis, size in zip(axes, array.shape, strict=False))
        require(
            array.dtype == dtype and array.ndim == len(axes) and array.shape == wanted,
            field, f"must be {np.dtype(dtype)} ({', '.join(axes)}), is {array.dtype} {array.shape}, "
            f"for {sizes['users']} users and {sizes['items']} items",
        )  # fmt: skip
        if array.dtype == np.float32 and array.size:
            fine = array.min() >= -LARGEST and array.max() <= LARGEST
            require(fine, field, f"has values that are not finite or beyond {LARGEST:g}")
    for prefix in ("seen", "weight"):
        starts, items = getattr(made, f"{prefix}_starts"), getattr(made, f"{prefix}_items")
        if starts is not None:
            whole = starts[0] == 0 and starts[-1] == len(items) and (starts[1:] >= starts[:-1]).all()
            require(whole, f"{prefix}_starts", f"does not divide {prefix}_items into rows")
            inside = not len(items) or (items.min() >= 0 and items.max() < sizes["items"])
            require(inside, f"{prefix}_items", "names items outside the catalogue")
            rises = items[1:] > items[:-1]
            rises[starts[(starts > 0) & (starts < len(items))] - 1] = True  # from one row to the next
            require(rises.all(), f"{prefix}_items", "must rise within a row")
    titles = made.titles
    right = titles is None or (isinstance(titles, list) and all(isinstance(title, str) for title in titles))
    require(right and (titles is None or len(titles) == sizes["items"]), "titles", "must be one string an item")
    require(isinstance(made.notes, dict), "notes", "must be a dictionary")
    for name, array in made.extras.items():
        plain = isinstance(array, np.ndarray) and array.dtype.kind in "biufU"
        require(plain, f"extras[{name!r}]", "must be an array of numbers or strings")


def _as_json(value) -> np.ndarray:
    return np.array(json.dumps(value, ensure_ascii=False))


def _sha256(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()
