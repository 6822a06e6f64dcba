"""A bundle from arrays of original ids: the front door for whoever has data in memory."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sea_jax import bundle as bundles
from sea_jax import bundle_file
from sea_jax.bundle import Bundle
from sea_jax.errors import SeaError
from sea_jax.raw.features import repair


def build(
    name: str,
    train: Any,
    features: Mapping[str, Any],
    valid: Any = None,
    test: Any = None,
    user_ids: Any = None,
    item_ids: Any = None,
    *,
    titles: Any = None,
    categories: Any = None,
    knn_k_max: int = 20,
    similarity: str = "cosine",
) -> Bundle:
    """A bundle from pairs of original ids and features.

    Args:
      name: of the dataset.
      train, valid, test: pairs of user and item, strings or integers: an array (n, 2), two arrays or lists, or a pandas
        or polars frame with columns user and item, or whose first two columns they are. Without `valid` the last epoch counts.
      features: by modality, (I, d): row n belongs to item_ids[n].
      user_ids: all users; by default those that `train`, `valid` and `test` name, sorted.
      item_ids: the items in the order of the features' rows; 0 to I - 1 by default.
      titles, categories: of the items, for showing and for lists of some categories; "" for none.
      knn_k_max: nearest items kept per item and modality.
      similarity: what nearest means: "cosine" of features, or of "standardised" columns.
    Raises: SeaError for anything that does not fit together.

    What was repaired (pairs listed twice, rows that are not finite) stands in `bundle.manifest["repairs"]`.
    """
    if not isinstance(features, Mapping) or not features:
        raise SeaError("features must be a dictionary with at least one modality, such as {'text': array}.")
    repairs: list[str] = []
    arrays = {key: _rows(key, x) for key, x in features.items()}
    sizes = {key: len(x) for key, x in arrays.items()}
    if len(set(sizes.values())) > 1:
        raise SeaError(f"the features differ in their number of rows: {sizes}.")
    count = next(iter(sizes.values()))
    items = np.arange(count) if item_ids is None else _ids(item_ids, "item_ids")
    if len(items) != count:
        raise SeaError(f"item_ids has {len(items)} entries and the features {count} rows; give one id for each row.")
    columns = {split: _columns(pairs, split) for split, pairs in zip(bundles.SPLITS, (train, valid, test), strict=True)}
    if not len(columns["train"][0]):
        raise SeaError("train has no pairs.")
    if user_ids is None:
        users = np.unique(np.concatenate([_like(columns["train"][0], of[0], "user") for of in columns.values()]))
    else:
        users = _ids(user_ids, "user_ids")
    numbered, known = {}, np.zeros(0, np.int64)
    for split, (of_users, of_items) in columns.items():
        pairs = np.stack(
            [
                _numbers(of_users, users, "user", split, "user_ids"),
                _numbers(of_items, items, "item", split, "item_ids"),
            ],
            axis=1,
        )
        codes = pairs[:, 0] * count + pairs[:, 1]
        first = np.unique(codes, return_index=True)[1]
        kept = np.sort(first[~np.isin(codes[first], known)])
        if len(kept) < len(pairs):
            repairs.append(f"{split}: {len(pairs) - len(kept)} pairs listed twice or in an earlier split, dropped")
        numbered[split], known = pairs[kept], np.append(known, codes[kept])
    missing = {}
    for key, x in arrays.items():
        try:
            arrays[key], missing[key], notes = repair(x)
        except SeaError as error:
            raise SeaError(f"features[{key!r}]: {error}.") from error
        repairs += [f"{key}: {note}" for note in notes]
    return bundles.build(
        name,
        numbered,
        len(users),
        count,
        arrays,
        knn_k_max=knn_k_max,
        similarity=similarity,
        user_ids=users,
        item_ids=items,
        missing=missing,
        shown={
            key: np.asarray(x, np.str_) for key, x in (("titles", titles), ("categories", categories)) if x is not None
        },
        notes={"split": {"kind": "given"}, "sources": {}, "repairs": repairs},
    )


def _rows(name, x) -> np.ndarray:
    bundle_file.check_modality(name)
    x = np.asarray(x)
    if x.ndim != 2 or min(x.shape) < 1 or x.dtype.kind not in "fiu":
        raise SeaError(f"features[{name!r}] must be numbers of shape (items, width); it is {x.dtype} {x.shape}.")
    return x


def _ids(ids, what) -> np.ndarray:
    ids = np.asarray(ids)
    if ids.ndim != 1:
        raise SeaError(f"{what} must be a list of ids; its shape is {ids.shape}.")
    if ids.dtype.kind == "O":
        kinds = {isinstance(entry, int | np.integer) and not isinstance(entry, bool) for entry in ids.tolist()}
        if kinds == {True}:
            ids = ids.astype(np.int64)
        elif all(isinstance(entry, str) for entry in ids.tolist()):
            ids = ids.astype(np.str_)
    if ids.dtype.kind == "u" and ids.size and ids.max() > np.iinfo(np.int64).max:
        raise SeaError(f"{what} has numbers beyond 63 bits; give such ids as strings.")
    if ids.dtype.kind not in "iuU":
        raise SeaError(f"{what} must be strings or integers, all of one kind; they are {ids.dtype}.")
    unique, repeats = np.unique(ids, return_counts=True)
    if len(unique) < len(ids):
        raise SeaError(f"{what} names {unique[repeats.argmax()]!s} twice.")
    return ids


def _columns(pairs, split) -> tuple[np.ndarray, np.ndarray]:
    """The users and the items of pairs given in any of the forms that `build` takes."""
    if pairs is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if hasattr(pairs, "columns"):  # a frame of pandas or polars
        two = [np.asarray(pairs[name]) for name in _user_and_item(list(pairs.columns), split)]
    elif isinstance(pairs, tuple) and len(pairs) == 2 and np.ndim(pairs[0]) == 1 and np.ndim(pairs[1]) == 1:
        two = [np.asarray(column) for column in pairs]
    else:
        if isinstance(pairs, str | dict) or not hasattr(pairs, "__iter__"):
            raise SeaError(f"{split} must be pairs of user and item; it is of type {type(pairs).__name__}.")
        pairs = pairs if isinstance(pairs, np.ndarray) else _table(list(pairs), split)
        if pairs.size == 0:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise SeaError(f"{split} must be pairs of user and item, shape (n, 2); its shape is {pairs.shape}.")
        two = [pairs[:, 0], pairs[:, 1]]
    if len(two[0]) != len(two[1]):
        raise SeaError(f"{split} has {len(two[0])} users and {len(two[1])} items; they must be of one length.")
    return tuple(_plain(column, split, kind) for column, kind in zip(two, ("user", "item"), strict=True))


def _user_and_item(names, split) -> list:
    """The columns of a frame that hold users and items: by their names if these say so, else the first two."""
    plain = [str(name).lower().replace("_", "").removesuffix("id") for name in names]
    if plain.count("user") == plain.count("item") == 1:
        return [names[plain.index("user")], names[plain.index("item")]]
    if len(names) < 2:
        raise SeaError(f"{split} has {len(names)} columns; it needs user and item.")
    return names[:2]


def _table(pairs, split) -> np.ndarray:
    """A list of pairs as objects, so that a number beside a word stays a number."""
    if any(not isinstance(pair, list | tuple | np.ndarray) or len(pair) != 2 for pair in pairs):
        raise SeaError(f"{split} must be pairs of user and item, each of two entries.")
    table = np.empty((len(pairs), 2), object)
    table[:] = [list(pair) for pair in pairs] or table
    return table


def _plain(column, split, kind) -> np.ndarray:
    column = np.asarray(column)
    if column.dtype.kind == "O":
        entries = column.tolist()
        if all(isinstance(entry, str) for entry in entries):
            column = column.astype(np.str_)
        elif all(isinstance(entry, int | np.integer) and not isinstance(entry, bool) for entry in entries):
            column = column.astype(np.int64)
    if column.dtype.kind not in "iuUT":
        raise SeaError(f"the {kind}s of {split} must be strings or integers, all of one kind; they are {column.dtype}.")
    return column.astype(np.str_) if column.dtype.kind == "T" else column


def _like(first, ids, kind) -> np.ndarray:
    if len(ids) and (first.dtype.kind == "U") != (ids.dtype.kind == "U"):
        raise SeaError(f"the {kind} ids are strings in one split and integers in another; give one kind.")
    return ids.astype(first.dtype) if not len(ids) else ids


def _numbers(ids, known, kind, split, argument) -> np.ndarray:
    """The place of each id among the known ones."""
    if not len(ids):
        return np.zeros(0, np.int64)
    if (ids.dtype.kind == "U") != (known.dtype.kind == "U"):
        raise SeaError(
            f"the {kind} ids of {split} are {'strings' if ids.dtype.kind == 'U' else 'integers'} and those of "
            f"{argument} are not; give one kind."
        )
    order = np.argsort(known, kind="stable")
    place = order[np.minimum(np.searchsorted(known, ids, sorter=order), len(known) - 1)]
    strange = known[place] != ids
    if strange.any():
        raise SeaError(f"{split} names {kind} {ids[strange][0]!s}, which {argument} does not have.")
    return place
