"""The dataset on disk: schema, atomic save, load with every check, a description. NumPy and SciPy only."""

import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse

from sea_jax import adjacency
from sea_jax.errors import SeaError

SCHEMA = 1
SPLITS = ("train", "valid", "test")
REMAKE = "make the bundle again with data_prep"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A dataset.

    manifest: schema version, name, counts, modalities, hashes. train, valid, test: (n, 2) int32 user, item.
    adjacency: (U + I, U + I) float32 CSR, users first. neighbours: by modality, (I, k_max) int32 nearest items and
    float32 similarities. item_graph: (I, I) float32 CSR, their default fusion. features: by modality, (I, d_m)
    float32. user_ids, item_ids: original ids as strings, or None.
    """

    manifest: dict
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    adjacency: scipy.sparse.csr_matrix
    neighbours: dict[str, adjacency.Neighbours]
    item_graph: scipy.sparse.csr_matrix
    features: dict[str, np.ndarray]
    user_ids: np.ndarray | None = None
    item_ids: np.ndarray | None = None

    @property
    def num_users(self) -> int:
        return self.manifest["num_users"]

    @property
    def num_items(self) -> int:
        return self.manifest["num_items"]

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.features)


def order_modalities(names) -> tuple[str, ...]:
    """Image first, then alphabetical."""
    return tuple(sorted(names, key=lambda name: (name != "image", name)))


def build(
    name: str,
    splits: dict[str, np.ndarray],
    num_users: int,
    num_items: int,
    features: dict[str, np.ndarray],
    *,
    knn_k_max: int = 20,
    user_ids: np.ndarray | None = None,
    item_ids: np.ndarray | None = None,
    notes: dict | None = None,
) -> Bundle:
    """A bundle from interactions and features, with its graphs.

    Args:
      name: of the dataset.
      splits: "train", "valid", "test": (n, 2) user, item.
      num_users, num_items: U, I.
      features: by modality, in the order to keep, (I, d_m).
      knn_k_max: nearest items kept per item and modality.
      user_ids, item_ids: original ids.
      notes: what else the manifest records (split, sources, what was repaired).
    Raises: SeaError if the parts do not fit together.
    """
    if knn_k_max < 1:
        raise SeaError(f"--knn_k_max={knn_k_max} must be at least 1.")
    splits = {split: np.ascontiguousarray(splits[split], np.int32).reshape(-1, 2) for split in SPLITS}
    features = {key: np.ascontiguousarray(x, np.float32) for key, x in features.items()}
    neighbours = {key: adjacency.nearest_items(x, knn_k_max) for key, x in features.items()}
    k = min(10, knn_k_max)
    manifest = {
        "schema": SCHEMA,
        "name": name,
        "num_users": int(num_users),
        "num_items": int(num_items),
        "interactions": {split: len(pairs) for split, pairs in splits.items()},
        "modalities": {key: x.shape[1] for key, x in features.items()},
        "modality_order": list(features),
        "knn_k_max": int(knn_k_max),
        "item_graph": {"k": k, "weights": adjacency.default_weights(tuple(features))},
        **(notes or {}),
    }
    bundle = Bundle(
        manifest=manifest,
        **splits,
        adjacency=adjacency.normalised_adjacency(splits["train"], num_users, num_items),
        neighbours=neighbours,
        item_graph=adjacency.fuse_neighbours(neighbours, k, manifest["item_graph"]["weights"]),
        features=features,
        user_ids=user_ids,
        item_ids=item_ids,
    )
    validate(bundle, "the new bundle")
    return bundle


def save(bundle: Bundle, path: str | os.PathLike) -> None:
    """Writes the bundle as a folder: aside first, then renamed, so that nothing half-written remains.

    Raises: SeaError if `path` exists and is no bundle; OSError if the disk is full or read-only.
    """
    path = Path(path)
    if path.exists() and not (path / "manifest.json").is_file() and (not path.is_dir() or any(path.iterdir())):
        raise SeaError(f"{path} exists and is no bundle; choose another --output or remove it.")
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
    np.savez(folder / "interactions.npz", **{split: getattr(bundle, split) for split in SPLITS})
    scipy.sparse.save_npz(folder / "adjacency.npz", bundle.adjacency)
    scipy.sparse.save_npz(folder / "item_graph.npz", bundle.item_graph)
    np.savez(folder / "features.npz", **bundle.features)
    nearest = {}
    for name, (indices, similarities) in bundle.neighbours.items():
        nearest |= {f"{name}_indices": indices, f"{name}_similarities": similarities}
    np.savez(folder / "item_neighbours.npz", **nearest)
    ids = {"user_ids": bundle.user_ids, "item_ids": bundle.item_ids}
    ids = {name: np.asarray(values, np.str_) for name, values in ids.items() if values is not None}
    if ids:
        np.savez(folder / "ids.npz", **ids)
    hashes = {file.name: sha256(file) for file in sorted(folder.glob("*.npz"))}
    text = json.dumps({**bundle.manifest, "hashes": hashes}, indent=1, ensure_ascii=False)
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
    wanted = known if modalities is None else modalities
    for name in wanted:
        if name not in known:
            raise SeaError(f"{path / 'manifest.json'} has no modality {name!r}; it has {', '.join(known)}.")
    if verify_hashes:
        for file, expected in manifest["hashes"].items():
            if not (path / file).is_file() or sha256(path / file) != expected:
                raise SeaError(f"{path / file} is missing or not the file that was written; {REMAKE}.")
    nearest = _read(
        path / "item_neighbours.npz", [f"{m}_{part}" for m in wanted for part in ("indices", "similarities")]
    )
    ids = _read(path / "ids.npz", None) if "ids.npz" in manifest["hashes"] else {}
    bundle = Bundle(
        manifest=manifest,
        **_read(path / "interactions.npz", SPLITS),
        adjacency=_read_sparse(path / "adjacency.npz"),
        neighbours={m: (nearest[f"{m}_indices"], nearest[f"{m}_similarities"]) for m in wanted},
        item_graph=_read_sparse(path / "item_graph.npz"),
        features=_read(path / "features.npz", wanted),
        user_ids=ids.get("user_ids"),
        item_ids=ids.get("item_ids"),
    )
    validate(bundle, str(path))
    return bundle


FIELDS = {
    "schema": int, "num_users": int, "num_items": int, "interactions": dict, "modalities": dict,
    "modality_order": list, "knn_k_max": int, "hashes": dict,
}  # fmt: skip


def _read_manifest(path: Path) -> dict:
    file = path / "manifest.json"
    if not file.is_file():
        raise SeaError(f"{path} is no bundle (it has no manifest.json); {REMAKE}.")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SeaError(f"{file} is damaged (no JSON); {REMAKE}.") from error
    if not isinstance(manifest, dict):
        raise SeaError(f"{file} is damaged (no JSON object); {REMAKE}.")
    for field, kind in FIELDS.items():
        if not isinstance(manifest.get(field), kind):
            raise SeaError(f"{file}: field {field} is missing or no {kind.__name__}; {REMAKE}.")
    if manifest["schema"] != SCHEMA:
        raise SeaError(f"{file}: schema is {manifest['schema']} and this version reads {SCHEMA}; {REMAKE}.")
    if set(manifest["modality_order"]) != set(manifest["modalities"]) or not manifest["modality_order"]:
        raise SeaError(f"{file}: fields modalities and modality_order do not agree; {REMAKE}.")
    return manifest


def _read(file: Path, names) -> dict[str, np.ndarray]:
    if not file.is_file():
        raise SeaError(f"{file} is missing; {REMAKE}.")
    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            names = arrays.files if names is None else names
            for name in names:
                if name not in arrays.files:
                    raise SeaError(f"{file} has no field {name}; {REMAKE}.")
            return {name: arrays[name] for name in names}
    except SeaError:
        raise
    except Exception as error:  # zipfile, zlib, numpy: many kinds for a damaged file
        raise SeaError(f"{file} is damaged and cannot be read; {REMAKE}.") from error


def _read_sparse(file: Path) -> scipy.sparse.csr_matrix:
    arrays = _read(file, ("data", "indices", "indptr", "shape"))
    try:
        matrix = scipy.sparse.csr_matrix(
            (arrays["data"], arrays["indices"], arrays["indptr"]), shape=tuple(arrays["shape"])
        )
        matrix.check_format(full_check=True)
    except (ValueError, TypeError) as error:
        raise SeaError(f"{file} holds no valid CSR matrix ({error}); {REMAKE}.") from error
    return matrix


def validate(bundle: Bundle, where: str) -> None:
    """Checks counts, ranges, dtypes and finiteness; raises SeaError naming file and field."""
    users, items = bundle.num_users, bundle.num_items

    def require(condition, file, field, wrong):
        if not condition:
            raise SeaError(f"{where}: {file}, field {field}: {wrong}; {REMAKE}.")

    for split in SPLITS:
        pairs = getattr(bundle, split)
        require(
            pairs.ndim == 2 and pairs.shape[1] == 2 and pairs.dtype == np.int32,
            "interactions.npz", split, f"must be int32 of shape (n, 2), is {pairs.dtype} {pairs.shape}",
        )  # fmt: skip
        require(len(pairs) > 0, "interactions.npz", split, "has no interactions")
        counted = bundle.manifest["interactions"].get(split)
        require(len(pairs) == counted, "interactions.npz", split, f"has {len(pairs)} rows, the manifest says {counted}")
        for column, count, kind in ((0, users, "user"), (1, items, "item")):
            low, high = pairs[:, column].min(), pairs[:, column].max()
            require(
                low >= 0 and high < count,
                "interactions.npz", split, f"{kind} {low if low < 0 else high} is outside 0 to {count - 1}",
            )  # fmt: skip
    for file, matrix, size in (
        ("adjacency.npz", bundle.adjacency, users + items),
        ("item_graph.npz", bundle.item_graph, items),
    ):
        require(matrix.shape == (size, size), file, "shape", f"is {matrix.shape} and must be {(size, size)}")
        require(np.isfinite(matrix.data).all(), file, "data", "has values that are not finite")
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
    for name, ids, count in (("user_ids", bundle.user_ids, users), ("item_ids", bundle.item_ids, items)):
        require(ids is None or len(ids) == count, "ids.npz", name, f"must have {count} entries")


def describe(bundle: Bundle) -> str:
    """A few lines for a person: sizes, density, degrees, modalities, what was repaired."""
    users, items = bundle.num_users, bundle.num_items
    total = sum(len(getattr(bundle, split)) for split in SPLITS)
    degree = np.bincount(bundle.train[:, 0], minlength=users)
    popularity = np.bincount(bundle.train[:, 1], minlength=items)
    lines = [
        f"{bundle.manifest['name']}: {users:,} users, {items:,} items, {total:,} interactions ({total / users / items:.2%})",
        "  " + ", ".join(f"{split} {len(getattr(bundle, split)):,}" for split in SPLITS),
        f"  training interactions per user: median {int(np.median(degree))}, most {degree.max()}; "
        f"without any: {(degree == 0).sum()} users, {(popularity == 0).sum()} items",
        "  modalities: " + ", ".join(f"{name} {x.shape[1]} wide" for name, x in bundle.features.items()),
    ]
    lines += [f"  {note}" for note in bundle.manifest.get("repairs", [])]
    return "\n".join(lines)
