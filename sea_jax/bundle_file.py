"""What a dataset holds, checked, and its folder: schema, atomic writing, reading. NumPy and SciPy only."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterable
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
FIELDS = {
    "schema": int, "name": str, "num_users": int, "num_items": int, "interactions": dict, "modalities": dict,
    "modality_order": list, "knn_k_max": int, "hashes": dict,
}  # fmt: skip


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


def check_output(path: str | os.PathLike) -> Path:
    """The folder that a bundle may be written into; raises SeaError if `path` exists and is no bundle."""
    if not str(path):
        raise SeaError("--output is empty; name a folder to write the bundle into.")
    path = Path(os.path.realpath(path))
    if path.exists() and not (path / "manifest.json").is_file() and (not path.is_dir() or any(path.iterdir())):
        raise SeaError(f"{path} exists and is no bundle; choose another --output or remove it.")
    return path


def write(made: Any, path: str | os.PathLike) -> None:
    """Writes a dataset as a folder: aside first, then renamed, so that nothing half-written remains.

    Raises: SeaError if `path` exists and is no bundle; OSError if the disk is full or read-only.
    """
    path = check_output(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        _write(made, aside)
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


def _write(made: Any, folder: Path) -> None:
    files.write_npz(folder / "interactions.npz", {split: getattr(made, split) for split in SPLITS})
    scipy.sparse.save_npz(folder / "adjacency.npz", made.adjacency)
    graph = made.manifest["item_graph"]
    item_graph = adjacency.fuse_neighbours(made.neighbours, graph["k"], graph["weights"])
    scipy.sparse.save_npz(folder / "item_graph.npz", item_graph)  # for others to read; training fuses its own
    files.write_npz(folder / "features.npz", made.features)
    nearest = {}
    for name, (indices, similarities) in made.neighbours.items():
        nearest |= {f"{name}_indices": indices, f"{name}_similarities": similarities}
    files.write_npz(folder / "item_neighbours.npz", nearest)
    ids = {"user_ids": made.user_ids, "item_ids": made.item_ids}
    optional = {
        "ids.npz": {name: values for name, values in ids.items() if values is not None},
        "missing.npz": made.missing,
        "times.npz": made.times,
        "shown.npz": made.shown,
        ENCODERS: {f"{name}.{of}": x for name, learnt in made.encoders.items() for of, x in learnt.items()},
    }
    for file, arrays in optional.items():
        if arrays:
            files.write_npz(folder / file, arrays)
    hashes = {file.name: sha256(file) for file in sorted(folder.glob("*.npz"))}
    files.write_json(folder / "manifest.json", files.sealed({**made.manifest, "hashes": hashes}))


def read(path: str | os.PathLike, modalities: tuple[str, ...], verify_hashes: bool) -> dict[str, Any]:
    """The fields of a dataset from its folder, to be checked by `check`.

    Args:
      path: the folder.
      modalities: which to read, in this order; () for all.
      verify_hashes: also compare every file with the hash the manifest records.
    Raises: SeaError that names file and field for anything missing or damaged.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    known = tuple(manifest["modality_order"])
    wanted = tuple(modalities) or known
    check_named(wanted, known, path / "manifest.json")
    if verify_hashes:
        for file, expected in manifest["hashes"].items():
            if not (path / Path(file).name).is_file() or sha256(path / Path(file).name) != expected:
                raise SeaError(f"{path / file} is missing or not the file that was written; {REMAKE}.")

    def arrays(file, names=None):
        return files.read_npz(path / file, names, REMAKE) if names is not None or file in manifest["hashes"] else {}

    nearest = arrays("item_neighbours.npz", [f"{m}_{part}" for m in wanted for part in ("indices", "similarities")])
    ids, missing = arrays("ids.npz"), arrays("missing.npz")
    return {
        "manifest": manifest,
        **arrays("interactions.npz", SPLITS),
        "adjacency": _read_sparse(path / "adjacency.npz"),
        "neighbours": {m: (nearest[f"{m}_indices"], nearest[f"{m}_similarities"]) for m in wanted},
        "features": arrays("features.npz", wanted),
        "user_ids": ids.get("user_ids"),
        "item_ids": ids.get("item_ids"),
        "missing": {name: missing[name] for name in wanted if name in missing},
        "times": arrays("times.npz"),
        "shown": arrays("shown.npz"),
        "encoders": _by_modality(arrays(ENCODERS), wanted),
    }


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

    Raises: SeaError as `read`.
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


def check(made: Any, where: str, remedy: str = REMAKE) -> None:
    """Checks counts, ranges, dtypes and finiteness; raises SeaError naming file and field."""
    users, items = made.num_users, made.num_items

    def require(condition, file, field, wrong):
        if not condition:
            raise SeaError(f"{where}: {file}, field {field}: {wrong}; {remedy}.")

    for split in SPLITS:
        pairs = getattr(made, split)
        require(
            pairs.ndim == 2 and pairs.shape[1] == 2 and pairs.dtype == np.int32,
            "interactions.npz", split, f"must be int32 of shape (n, 2), is {pairs.dtype} {pairs.shape}",
        )  # fmt: skip
        require(len(pairs) > 0 or split != "train", "interactions.npz", split, "has no interactions")
        counted = made.manifest["interactions"].get(split)
        require(len(pairs) == counted, "interactions.npz", split, f"has {len(pairs)} rows, the manifest says {counted}")
        for column, count, kind in ((0, users, "user"), (1, items, "item")) if len(pairs) else ():
            low, high = pairs[:, column].min(), pairs[:, column].max()
            require(
                low >= 0 and high < count,
                "interactions.npz", split, f"{kind} {low if low < 0 else high} is outside 0 to {count - 1}",
            )  # fmt: skip
    matrix, size = made.adjacency, users + items
    require(matrix.shape == (size, size), "adjacency.npz", "shape", f"is {matrix.shape} and must be {(size, size)}")
    require(np.isfinite(matrix.data).all(), "adjacency.npz", "data", "has values that are not finite")
    for name, x in made.features.items():
        width = made.manifest["modalities"].get(name)
        require(
            x.dtype == np.float32 and x.shape == (items, width),
            "features.npz", name, f"must be float32 {(items, width)}, is {x.dtype} {x.shape}",
        )  # fmt: skip
        require(width > 1, "features.npz", name, "must be at least 2 wide to be split")
        require(np.isfinite(x).all(), "features.npz", name, "has values that are not finite")
    for name, (indices, similarities) in made.neighbours.items():
        right = indices.shape == similarities.shape and indices.ndim == 2 and len(indices) == items
        require(right, "item_neighbours.npz", name, f"has shapes {indices.shape} and {similarities.shape}")
        inside = indices.size and indices.min() >= 0 and indices.max() < items
        require(inside, "item_neighbours.npz", name, "names items outside the catalogue")
        require(np.isfinite(similarities).all(), "item_neighbours.npz", name, "has values that are not finite")
    for name, ids, count in (("user_ids", made.user_ids, users), ("item_ids", made.item_ids, items)):
        if ids is not None:
            require(ids.shape == (count,), "ids.npz", name, f"must have {count} entries")
            unique, repeats = np.unique(ids, return_counts=True)
            require(len(unique) == count, "ids.npz", name, f"names {unique[repeats.argmax()]!s} twice")
    for name, mask in made.missing.items():
        require(mask.dtype == bool and mask.shape == (items,), "missing.npz", name, f"must be bool ({items},)")
    for name, x in made.times.items():
        right = name in SPLITS and x.shape == (len(getattr(made, name)),)
        require(right, "times.npz", name, "must have one entry for each interaction of its split")
    for name, learnt in made.encoders.items():
        for of, x in learnt.items():
            require(x.dtype.kind in "iuf", ENCODERS, f"{name}.{of}", f"must hold numbers, is {x.dtype}")
            require(np.isfinite(x).all(), ENCODERS, f"{name}.{of}", "has values that are not finite")
    for name, x in made.shown.items():
        require(name in SHOWN and x.shape == (items,), "shown.npz", name, f"must have {items} entries")
