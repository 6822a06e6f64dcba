"""The dataset on disk: schema, atomic save, load with every check, a description. NumPy and SciPy only."""

import dataclasses
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from sea_jax import adjacency, files
from sea_jax.errors import SeaError
from sea_jax.files import sha256

SCHEMA = 2
READABLE = (1, 2)  # 2 adds missing.npz, times.npz, shown.npz and ids that are numbers; perhaps encoders.npz
SPLITS = ("train", "valid", "test")
SHOWN = ("titles", "pictures", "categories")
ENCODERS = "encoders.npz"
REMAKE = "make the bundle again with data_prep"
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
        check_named(modalities, self.features, self.name)
        chosen = modalities or self.modalities
        parts = {
            part: {name: getattr(self, part)[name] for name in chosen if name in getattr(self, part)}
            for part in ("features", "neighbours", "missing", "encoders")
        }
        return dataclasses.replace(self, **parts)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the bundle as a folder, see `save`."""
        save(self, path)


def order_modalities(names) -> tuple[str, ...]:
    """Image first, then alphabetical."""
    return tuple(sorted(names, key=lambda name: (name != "image", name)))


def check_modality(name: str) -> None:
    """Raises SeaError for a name that flags, files or records could not carry."""
    if not isinstance(name, str) or not re.fullmatch(r"[^\W\d][\w.-]{0,63}", name):
        raise SeaError(
            f"a modality cannot be called {name!r}; take letters, digits, _, - and ., with a letter first, as in image."
        )


def check_named(names: Iterable[str], known: Iterable[str], where: str | os.PathLike) -> None:
    """Raises SeaError for a modality that is not known or named twice."""
    names = list(names)
    for name in names:
        if name not in known:
            raise SeaError(f"{where} has no modality {name!r}; it has {', '.join(known)}.")
        if names.count(name) > 1:
            raise SeaError(f"--modalities names {name} twice; name each once.")


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
        "schema": SCHEMA,
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
    validate(bundle, "the new bundle", "mend what it is built from")
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
    check_modality(name)
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


def check_output(path: str | os.PathLike) -> Path:
    """The folder that a bundle may be written into; raises SeaError if `path` exists and is no bundle."""
    if not str(path):
        raise SeaError("--output is empty; name a folder to write the bundle into.")
    path = Path(os.path.realpath(path))
    if path.exists() and not (path / "manifest.json").is_file() and (not path.is_dir() or any(path.iterdir())):
        raise SeaError(f"{path} exists and is no bundle; choose another --output or remove it.")
    return path


def save(bundle: Bundle, path: str | os.PathLike) -> None:
    """Writes the bundle as a folder: aside first, then renamed, so that nothing half-written remains.

    Raises: SeaError if `path` exists and is no bundle; OSError if the disk is full or read-only.
    """
    path = check_output(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        _write(bundle, aside)
        aside.chmod(0o755)
        old = None
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            os.rename(path, old / "bundle")
        os.rename(aside, path)
        if old is not None:
            shutil.rmtree(old)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(bundle: Bundle, folder: Path) -> None:
    files.write_npz(folder / "interactions.npz", {split: getattr(bundle, split) for split in SPLITS})
    scipy.sparse.save_npz(folder / "adjacency.npz", bundle.adjacency)
    graph = bundle.manifest["item_graph"]
    item_graph = adjacency.fuse_neighbours(bundle.neighbours, graph["k"], graph["weights"])
    scipy.sparse.save_npz(folder / "item_graph.npz", item_graph)  # for others to read; training fuses its own
    files.write_npz(folder / "features.npz", bundle.features)
    nearest = {}
    for name, (indices, similarities) in bundle.neighbours.items():
        nearest |= {f"{name}_indices": indices, f"{name}_similarities": similarities}
    files.write_npz(folder / "item_neighbours.npz", nearest)
    ids = {"user_ids": bundle.user_ids, "item_ids": bundle.item_ids}
    optional = {
        "ids.npz": {name: values for name, values in ids.items() if values is not None},
        "missing.npz": bundle.missing,
        "times.npz": bundle.times,
        "shown.npz": bundle.shown,
        ENCODERS: {f"{name}.{of}": x for name, learnt in bundle.encoders.items() for of, x in learnt.items()},
    }
    for file, arrays in optional.items():
        if arrays:
            files.write_npz(folder / file, arrays)
    hashes = {file.name: sha256(file) for file in sorted(folder.glob("*.npz"))}
    files.write_json(folder / "manifest.json", files.sealed({**bundle.manifest, "hashes": hashes}))


def load(path: str | os.PathLike, modalities: tuple[str, ...] | None = None, verify_hashes: bool = False) -> Bundle:
    """Reads and checks a bundle.

    Args:
      path: the folder.
      modalities: which to read, in this order; all in the bundle's order by default.
      verify_hashes: also compare every file with the hash the manifest records.
    Raises: SeaError that names file and field for anything missing, damaged or inconsistent.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    known = tuple(manifest["modality_order"])
    wanted = tuple(modalities) if modalities else known
    check_named(wanted, known, path / "manifest.json")
    if verify_hashes:
        for file, expected in manifest["hashes"].items():
            if not (path / Path(file).name).is_file() or sha256(path / Path(file).name) != expected:
                raise SeaError(f"{path / file} is missing or not the file that was written; {REMAKE}.")

    def read(file, names=None):
        return files.read_npz(path / file, names, REMAKE) if names is not None or file in manifest["hashes"] else {}

    nearest = read("item_neighbours.npz", [f"{m}_{part}" for m in wanted for part in ("indices", "similarities")])
    ids, missing, learnt = read("ids.npz"), read("missing.npz"), read(ENCODERS)
    bundle = Bundle(
        manifest=manifest,
        **read("interactions.npz", SPLITS),
        adjacency=_read_sparse(path / "adjacency.npz"),
        neighbours={m: (nearest[f"{m}_indices"], nearest[f"{m}_similarities"]) for m in wanted},
        features=read("features.npz", wanted),
        user_ids=ids.get("user_ids"),
        item_ids=ids.get("item_ids"),
        missing={name: missing[name] for name in wanted if name in missing},
        times=read("times.npz"),
        shown=read("shown.npz"),
        encoders=_by_modality(learnt, wanted),
    )
    validate(bundle, str(path), REMAKE)
    return bundle


def _by_modality(learnt: dict[str, np.ndarray], wanted: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Arrays called MODALITY.NAME by modality and name."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, x in learnt.items():
        modality, _, of = name.rpartition(".")
        if modality in wanted:
            found.setdefault(modality, {})[of] = x
    return found


def load_shown(path: str | os.PathLike) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Ids of a bundle's items, numbers where it has none, and its `shown`; nothing else of it is read.

    Raises: SeaError as `load`.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    ids, shown = (
        files.read_npz(path / file, None, REMAKE) if file in manifest["hashes"] else {}
        for file in ("ids.npz", "shown.npz")
    )
    found = ids.get("item_ids", np.arange(manifest["num_items"]))
    for name, x in {"item_ids": found, **shown}.items():
        if x.shape != (manifest["num_items"],):
            raise SeaError(f"{path}: field {name} must have one entry for each item; {REMAKE}.")
    return found, shown


FIELDS = {
    "schema": int, "name": str, "num_users": int, "num_items": int, "interactions": dict, "modalities": dict,
    "modality_order": list, "knn_k_max": int, "hashes": dict,
}  # fmt: skip


def _read_manifest(path: Path) -> dict:
    file = path / "manifest.json"
    if not file.is_file():
        raise SeaError(f"{path} is no bundle (it has no manifest.json); {REMAKE}.")
    manifest = files.read_json(file, REMAKE)
    for field, kind in FIELDS.items():
        if not isinstance(manifest.get(field), kind) or isinstance(manifest[field], bool):
            raise SeaError(f"{file}: field {field} is missing or no {kind.__name__}; {REMAKE}.")
    if manifest["schema"] not in READABLE:
        raise SeaError(f"{file}: schema is {manifest['schema']} and this version reads {READABLE}; {REMAKE}.")
    names = manifest["modality_order"]
    if not names or not all(isinstance(name, str) for name in names) or set(names) != set(manifest["modalities"]):
        raise SeaError(f"{file}: fields modalities and modality_order do not agree; {REMAKE}.")
    for name in names:
        check_modality(name)
    return files.unsealed(manifest, file, REMAKE)


def _read_sparse(file: Path) -> scipy.sparse.csr_matrix:
    arrays = files.read_npz(file, ("data", "indices", "indptr", "shape"), REMAKE)
    try:
        matrix = scipy.sparse.csr_matrix(
            (arrays["data"], arrays["indices"], arrays["indptr"]), shape=tuple(arrays["shape"])
        )
        matrix.check_format(full_check=True)
    except (ValueError, TypeError) as error:
        raise SeaError(f"{file} holds no valid CSR matrix ({error}); {REMAKE}.") from error
    return matrix


def validate(bundle: Bundle, where: str, remedy: str = REMAKE) -> None:
    """Checks counts, ranges, dtypes and finiteness; raises SeaError naming file and field."""
    users, items = bundle.num_users, bundle.num_items

    def require(condition, file, field, wrong):
        if not condition:
            raise SeaError(f"{where}: {file}, field {field}: {wrong}; {remedy}.")

    for split in SPLITS:
        pairs = getattr(bundle, split)
        require(
            pairs.ndim == 2 and pairs.shape[1] == 2 and pairs.dtype == np.int32,
            "interactions.npz", split, f"must be int32 of shape (n, 2), is {pairs.dtype} {pairs.shape}",
        )  # fmt: skip
        require(len(pairs) > 0 or split != "train", "interactions.npz", split, "has no interactions")
        counted = bundle.manifest["interactions"].get(split)
        require(len(pairs) == counted, "interactions.npz", split, f"has {len(pairs)} rows, the manifest says {counted}")
        for column, count, kind in ((0, users, "user"), (1, items, "item")) if len(pairs) else ():
            low, high = pairs[:, column].min(), pairs[:, column].max()
            require(
                low >= 0 and high < count,
                "interactions.npz", split, f"{kind} {low if low < 0 else high} is outside 0 to {count - 1}",
            )  # fmt: skip
    matrix, size = bundle.adjacency, users + items
    require(matrix.shape == (size, size), "adjacency.npz", "shape", f"is {matrix.shape} and must be {(size, size)}")
    require(np.isfinite(matrix.data).all(), "adjacency.npz", "data", "has values that are not finite")
    for name, x in bundle.features.items():
        width = bundle.manifest["modalities"].get(name)
        require(
            x.dtype == np.float32 and x.shape == (items, width),
            "features.npz", name, f"must be float32 {(items, width)}, is {x.dtype} {x.shape}",
        )  # fmt: skip
        require(width > 1, "features.npz", name, "must be at least 2 wide to be split")
        require(np.isfinite(x).all(), "features.npz", name, "has values that are not finite")
    for name, (indices, similarities) in bundle.neighbours.items():
        right = indices.shape == similarities.shape and indices.ndim == 2 and len(indices) == items
        require(right, "item_neighbours.npz", name, f"has shapes {indices.shape} and {similarities.shape}")
        inside = indices.size and indices.min() >= 0 and indices.max() < items
        require(inside, "item_neighbours.npz", name, "names items outside the catalogue")
        require(np.isfinite(similarities).all(), "item_neighbours.npz", name, "has values that are not finite")
    for name, ids, count in (("user_ids", bundle.user_ids, users), ("item_ids", bundle.item_ids, items)):
        if ids is not None:
            require(ids.shape == (count,), "ids.npz", name, f"must have {count} entries")
            unique, repeats = np.unique(ids, return_counts=True)
            require(len(unique) == count, "ids.npz", name, f"names {unique[repeats.argmax()]!s} twice")
    for name, mask in bundle.missing.items():
        require(mask.dtype == bool and mask.shape == (items,), "missing.npz", name, f"must be bool ({items},)")
    for name, x in bundle.times.items():
        right = name in SPLITS and x.shape == (len(getattr(bundle, name)),)
        require(right, "times.npz", name, "must have one entry for each interaction of its split")
    for name, learnt in bundle.encoders.items():
        for of, x in learnt.items():
            require(x.dtype.kind in "iuf", ENCODERS, f"{name}.{of}", f"must hold numbers, is {x.dtype}")
            require(np.isfinite(x).all(), ENCODERS, f"{name}.{of}", "has values that are not finite")
    for name, x in bundle.shown.items():
        require(name in SHOWN and x.shape == (items,), "shown.npz", name, f"must have {items} entries")


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
