"""Features as they come: read, aligned with items, rows that say nothing found and filled."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sea_jax import files
from sea_jax.errors import SeaError

REMEDY = "write it again with numpy.save"
NEAREST = 10  # items whose mean stands in for one that lacks a modality


def repair(features: np.ndarray, absent: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """float32 features with unusable rows filled, which rows those are, and what was done in words.

    A row that is absent, has a value that is not finite, or is all zeros, becomes the mean of the other rows: the rule
    that the published datasets follow for items without an image.

    Args:
      features: (I, d) numbers.
      absent: (I,) bool, rows that are known to say nothing.
    Returns: (I, d) float32; (I,) bool, the rows that were filled; sentences.
    Raises: SeaError if no row can be used.
    """
    with np.errstate(over="ignore"):
        features = np.array(features, np.float32)
    absent = np.zeros(len(features), bool) if absent is None else absent
    finite = np.isfinite(features).all(axis=1)
    zero = finite & ~features.any(axis=1)
    good = finite & ~zero & ~absent
    if not good.any():
        raise SeaError("no row is finite and not all zeros")
    notes = [
        f"{int(rows.sum())} rows {what}, replaced by the mean of the other rows"
        for rows, what in ((absent, "absent"), (~finite & ~absent, "not finite"), (zero & ~absent, "all zeros"))
        if rows.any()
    ]
    features[~good] = features[good].mean(axis=0, dtype=np.float64)
    return features, ~good, notes


def from_neighbours(
    features: Mapping[str, np.ndarray], missing: Mapping[str, np.ndarray], nearest: int = NEAREST, block: int = 1024
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Rows of missing items made of those of the items most like them by the modalities they have.

    The likeness of two items is the mean cosine over the modalities that both have; the `nearest` most alike of those
    that have the modality count (ties by lower number), and their mean is the row. An item without any other modality
    keeps its row.

    Args:
      features: by modality, (I, d) finite.
      missing: by modality that some item lacks, (I,) bool.
    Returns: the features; sentences.
    """
    have = {name: ~missing.get(name, np.zeros(len(x), bool)) for name, x in features.items()}
    unit = {}
    for name, x in features.items():
        x = x / np.maximum(np.abs(x).max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
        norms = np.linalg.norm(x, axis=1, keepdims=True)
        unit[name] = np.where(have[name][:, None], x / np.where(norms > 0, norms, 1), 0).astype(np.float32)
    made, notes = dict(features), []
    for name in missing:
        others = [other for other in features if other != name]
        known = np.any([have[other] for other in others], axis=0) if others else np.zeros(len(have[name]), bool)
        rows, candidates = np.flatnonzero(~have[name] & known), np.flatnonzero(have[name])
        filled = features[name].copy()
        count = 0
        for start in range(0, len(rows), block):
            part = rows[start : start + block]
            scores = np.zeros((len(part), len(candidates)), np.float32)
            shared = np.zeros(scores.shape, np.int16)
            for other in others:
                scores += unit[other][part] @ unit[other][candidates].T
                shared += np.outer(have[other][part], have[other][candidates])
            scores = np.where(shared > 0, scores / np.maximum(shared, 1), -np.inf)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :nearest]
            for row, places in zip(part, order, strict=True):
                places = places[np.isfinite(scores[row == part][0][places])]
                if len(places):
                    filled[row] = features[name][candidates[places]].mean(axis=0, dtype=np.float64)
                    count += 1
        made[name] = filled
        if count:
            notes.append(f"{name}: {count} of them replaced by the mean of the {nearest} items most like them")
    return made, notes


def read(path: str | os.PathLike) -> tuple[np.ndarray, list[str] | None]:
    """(n, d) numbers of a .npy file, or of an .npz file that has `ids` beside them; and those ids.

    Raises: SeaError if the file holds something else; OSError if it cannot be opened.
    """
    path = Path(path)
    ids = None
    if path.suffix == ".npz":
        held = files.read_npz(path, None, "write it again with numpy.savez(FILE, ids=..., features=...)")
        names = [name for name in ("ids", "item_ids") if name in held]
        rest = [name for name in held if name not in names]
        if len(names) != 1 or len(rest) != 1 or held[names[0]].dtype.kind not in "iuUS":
            raise SeaError(
                f"{path} holds {', '.join(held)}; it must hold ids (strings or whole numbers) and features, no more."
            )
        x, ids = held[rest[0]], [_text(entry) for entry in held[names[0]].ravel().tolist()]
        if len(ids) != len(x):
            raise SeaError(f"{path} has {len(ids)} ids and {len(x)} rows of features; give one id for each row.")
    else:
        x = files.read_npy(path, REMEDY)
    if x.ndim != 2 or min(x.shape) < 1:
        raise SeaError(f"{path} must be an array of shape (items, width); it is {x.shape}.")
    if not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer)):
        raise SeaError(f"{path} must hold numbers; its dtype is {x.dtype}.")
    return x, ids


def _text(entry) -> str:
    return (entry.decode("utf-8", "replace") if isinstance(entry, bytes) else str(entry)).strip()


def align(path: str | os.PathLike, ids: Sequence[str], places: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of a file of features for these items, and a mask of those it has none for.

    Args:
      path: .npz with ids, or .npy with a row for each row of the item table; without such a table, for each whole
        number that is an id.
      ids: of the items.
      places: their rows in the item table, -1 for none.
      rows: of the item table; 0 if there is none.
    Raises: SeaError if the two do not fit.
    """
    x, named = read(path)
    if named is not None:
        number = {}
        for row, name in enumerate(named):
            if number.setdefault(name, row) != row:
                raise SeaError(f"{path} names {name} twice, in rows {number[name]} and {row} (from 0); leave one out.")
        places = np.array([number.get(name, -1) for name in ids])
    elif rows:
        if len(x) != rows:
            raise SeaError(
                f"{path} has {len(x)} rows and the item table {rows}; give one for each, or an .npz with ids."
            )
    else:
        try:
            places = np.array([int(name) for name in ids])
        except ValueError:
            raise SeaError(
                f"{path} has rows without ids, and the items are no whole numbers; give --items or an .npz with ids."
            ) from None
        if places.min() < 0 or places.max() >= len(x):
            raise SeaError(f"{path} has {len(x)} rows, and an item is called {places.max()}; rows count from 0.")
    absent = places < 0
    if absent.all():
        raise SeaError(f"{path} has none of the {len(ids)} items, such as {ids[0]!r}.")
    taken = x[np.maximum(places, 0)]
    if taken.dtype.kind == "f":
        taken[absent] = 0
    return taken, absent
