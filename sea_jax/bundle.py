"""The dataset: what it is, what it is built from, a description. NumPy and SciPy only."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import scipy.sparse

from sea_jax import adjacency, bundle_file
from sea_jax.bundle_file import ENCODERS, SPLITS
from sea_jax.errors import SeaError

LARGEST = 2**31 - 1


@dataclasses.dataclass(frozen=True, repr=False)
class Bundle:
    """A dataset.

    manifest: schema version, name, counts, modalities, hashes. train, valid, test: (n, 2) int32 user, item; valid and
    test may be empty. adjacency: (U + I, U + I) float32 CSR, users first. neighbours: by modality, (I, k_max) int32
    nearest items and float32 similarities. features: by modality, (I, d_m) float32. user_ids, item_ids: original ids,
    strings or integers, or None. missing: by modality that some item lacks, (I,) bool. times: by split, (n,) int64
    seconds since 1970, or empty. shown: "titles", "pictures" and "categories", (I,) strings, those there are. encoders: by
    modality whose encoder learnt of the whole catalogue, what it learnt as arrays by name (see `raw.new_items`).
    """

    manifest: dict
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    adjacency: scipy.sparse.csr_matrix
    neighbours: dict[str, adjacency.Neighbours]
    features: dict[str, np.ndarray]
    user_ids: np.ndarray | None = None
    item_ids: np.ndarray | None = None
    missing: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    times: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    shown: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    encoders: dict[str, dict[str, np.ndarray]] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        modalities = ", ".join(self.features)
        return f"<Bundle {self.name}: {self.num_users} users, {self.num_items} items, {len(self.train)} pairs, {modalities}>"

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def num_users(self) -> int:
        return self.manifest["num_users"]

    @property
    def num_items(self) -> int:
        return self.manifest["num_items"]

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.features)

    @property
    def widths(self) -> tuple[tuple[str, int], ...]:
        """(modality, columns of its features) in order."""
        return tuple((name, x.shape[1]) for name, x in self.features.items())

    @property
    def data_hashes(self) -> dict[str, str]:
        """Hashes of the files that training reads, by name; empty for a bundle that was never saved."""
        return {name: code for name, code in self.manifest.get("hashes", {}).items() if name != ENCODERS}

    def select(self, modalities: tuple[str, ...]) -> "Bundle":
        """The dataset with these modalities alone, in this order; with all of them for ().

        Raises: SeaError if it has no such modality.
        """
        bundle_file.check_named(modalities, self.features, self.name)
        chosen = modalities or self.modalities
        parts = {
            part: {name: getattr(self, part)[name] for name in chosen if name in getattr(self, part)}
            for part in ("features", "neighbours", "missing", "encoders")
        }
        return dataclasses.replace(self, **parts)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the bundle as a folder: aside first, then renamed, so that nothing half-written remains.

        Raises: SeaError if `path` exists and is no bundle; OSError if the disk is full or read-only.
        """
        bundle_file.write(self, path)


def order_modalities(names) -> tuple[str, ...]:
    """Image first, then alphabetical."""
    return tuple(sorted(names, key=lambda name: (name != "image", name)))


def build(
    name: str,
    splits: Mapping[str, np.ndarray],
    num_users: Any,
    num_items: Any,
    features: Mapping[str, np.ndarray],
    *,
    knn_k_max: int = 20,
    similarity: str = "cosine",
    user_ids: np.ndarray | None = None,
    item_ids: np.ndarray | None = None,
    missing: Mapping[str, np.ndarray] | None = None,
    honour_missing: bool = False,
    times: Mapping[str, np.ndarray] | None = None,
    shown: Mapping[str, np.ndarray] | None = None,
    encoders: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    notes: dict | None = None,
) -> Bundle:
    """A bundle from numbered interactions and features, with its graphs.

    Args:
      name: of the dataset.
      splits: "train", and "valid" and "test" if there are such: (n, 2) user, item, numbered from 0.
      num_users, num_items: U, I.
      features: by modality, in the order to keep, (I, d_m), finite.
      knn_k_max: nearest items kept per item and modality.
      similarity: what nearest means, see `adjacency.comparable`; items that lack a modality are nobody's standardised neighbours.
      user_ids, item_ids: original ids.
      missing: by modality, (I,) bool, the items that lack it (their rows stand in for what is not known).
      honour_missing: whether such items stay out of that modality's neighbours and losses.
      times, shown, encoders: see Bundle.
      notes: what else the manifest records (split, sources, what was repaired).
    Raises: SeaError if the parts do not fit together.
    """
    num_users, num_items = (_count(value, what) for value, what in ((num_users, "num_users"), (num_items, "num_items")))
    if _count(knn_k_max, "knn_k_max") < 1:
        raise SeaError(f"--knn_k_max={knn_k_max} must be at least 1.")
    if similarity not in adjacency.SIMILARITIES:
        raise SeaError(f"--similarity={similarity} is not one of {', '.join(adjacency.SIMILARITIES)}.")
    unknown = set(splits) - set(SPLITS)
    if unknown or "train" not in splits:
        raise SeaError(f"splits must be train and perhaps valid and test; they are {', '.join(map(str, splits))}.")
    splits = {split: _pairs(splits.get(split, ()), split, num_users, num_items) for split in SPLITS}
    if not features:
        raise SeaError("features is empty; give at least one modality, such as {'text': array of (items, width)}.")
    features = {key: _features(key, x, num_items) for key, x in features.items()}
    missing = {key: np.asarray(mask, bool) for key, mask in (missing or {}).items() if np.any(mask)}
    neighbours = {}
    for key, x in features.items():
        known = x[~missing[key]] if key in missing else x
        absent = missing.get(key) if honour_missing or similarity != "cosine" else None
        neighbours[key] = adjacency.nearest_items(adjacency.comparable(x, known, similarity), knn_k_max, absent)
    manifest = {
        "schema": bundle_file.SCHEMA,
        "name": str(name),
        "num_users": num_users,
        "num_items": num_items,
        "interactions": {split: len(pairs) for split, pairs in splits.items()},
        "modalities": {key: x.shape[1] for key, x in features.items()},
        "modality_order": list(features),
        "knn_k_max": int(knn_k_max),
        "similarity": similarity,
        "honour_missing": bool(honour_missing),
        "item_graph": {"k": min(10, int(knn_k_max)), "weights": adjacency.default_weights(tuple(features))},
        **(notes or {}),
    }
    bundle = Bundle(
        manifest=manifest,
        **splits,
        adjacency=adjacency.normalised_adjacency(splits["train"], num_users, num_items),
        neighbours=neighbours,
        features=features,
        user_ids=_ids(user_ids),
        item_ids=_ids(item_ids),
        missing=missing,
        times={split: np.asarray(x, np.int64) for split, x in (times or {}).items()},
        shown={key: np.asarray(x, np.str_) for key, x in (shown or {}).items()},
        encoders={key: dict(learnt) for key, learnt in (encoders or {}).items() if learnt},
    )
    bundle_file.check(bundle, "the new bundle", "mend what it is built from")
    return bundle


def _count(value, what) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not 0 < value <= LARGEST:
        raise SeaError(f"{what}={value!r} must be a whole number from 1 to {LARGEST}.")
    return int(value)


def _pairs(pairs, split, num_users, num_items) -> np.ndarray:
    pairs = np.asarray(pairs)
    if pairs.size == 0:
        return np.zeros((0, 2), np.int32)
    if pairs.ndim != 2 or pairs.shape[1] != 2 or not np.issubdtype(pairs.dtype, np.integer):
        raise SeaError(
            f"{split} must be whole numbers of shape (n, 2), user and item; it is {pairs.dtype} {pairs.shape}."
        )
    for column, count, kind in ((0, num_users, "user"), (1, num_items, "item")):
        low, high = int(pairs[:, column].min()), int(pairs[:, column].max())
        if low < 0 or high >= count:
            raise SeaError(f"{split} names {kind} {low if low < 0 else high}, which is outside 0 to {count - 1}.")
    return np.ascontiguousarray(pairs, np.int32)


def _features(name, x, num_items) -> np.ndarray:
    bundle_file.check_modality(name)
    x = np.asarray(x)
    if (
        x.ndim != 2
        or len(x) != num_items
        or not (np.issubdtype(x.dtype, np.floating) or np.issubdtype(x.dtype, np.integer))
    ):
        raise SeaError(
            f"features[{name!r}] must be numbers of shape ({num_items}, width), a row for each item; "
            f"it is {x.dtype} {x.shape}."
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(x, np.float32)


def _ids(ids) -> np.ndarray | None:
    """Original ids as an array of integers or of strings."""
    if ids is None:
        return None
    ids = np.asarray(ids)
    return ids.astype(np.int64) if np.issubdtype(ids.dtype, np.integer) else ids.astype(np.str_)


def load(path: str | os.PathLike, modalities: tuple[str, ...] | None = None, verify_hashes: bool = False) -> Bundle:
    """Reads and checks a bundle.

    Args:
      path: the folder.
      modalities: which to read, in this order; all in the bundle's order by default.
      verify_hashes: also compare every file with the hash the manifest records.
    Raises: SeaError that names file and field for anything missing, damaged or inconsistent.
    """
    bundle = Bundle(**bundle_file.read(path, modalities or (), verify_hashes))
    bundle_file.check(bundle, str(path))
    return bundle


def describe(bundle: Bundle) -> str:
    """A few lines for a person: sizes, density, degrees, modalities, what was repaired."""
    users, items = bundle.num_users, bundle.num_items
    total = sum(len(getattr(bundle, split)) for split in SPLITS)
    degree = np.bincount(bundle.train[:, 0], minlength=users)
    popularity = np.bincount(bundle.train[:, 1], minlength=items)
    lines = [
        f"{bundle.name}: {users:,} users, {items:,} items, {total:,} interactions ({total / users / items:.2%})",
        "  " + ", ".join(f"{split} {len(getattr(bundle, split)):,}" for split in SPLITS),
        f"  training interactions per user: median {int(np.median(degree))}, most {degree.max()}; "
        f"without any: {(degree == 0).sum()} users, {(popularity == 0).sum()} items",
        "  modalities: " + ", ".join(f"{name} {x.shape[1]} wide" for name, x in bundle.features.items()),
    ]
    named = np.bincount(np.concatenate([getattr(bundle, split)[:, 1] for split in SPLITS]), minlength=items)
    if not named.all():
        lines.append(f"  {(named == 0).sum()} items that no interaction names")
    if (similarity := bundle.manifest.get("similarity", "cosine")) != "cosine":
        lines.append(f"  nearest items by {similarity} columns")
    lines += [f"  {name}: {mask.sum()} items lack it" for name, mask in bundle.missing.items()]
    for step in bundle.manifest.get("steps", []):
        changed = [f"{name} {step[name][0]:,} -> {step[name][1]:,}" for name in ("interactions", "users", "items")]
        lines.append(f"  {step['step']}: {', '.join(changed)}")
    notes = bundle.manifest["split"] if isinstance(bundle.manifest.get("split"), dict) else {}
    lines += [f"  {note}" for note in (*bundle.manifest.get("skipped", []), *bundle.manifest.get("repairs", []))]
    lines += [f"  {note}" for note in notes.get("report", [])]
    return "\n".join(lines)
