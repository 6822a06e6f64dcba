"""Encoded rows on disk by content, so that a killed run goes on and one changed title encodes one item.

A cache is a folder with one folder per encoder and version; that holds `about.json` and files of rows, each written
aside and then renamed, never changed. A file is a plain .npy array of records (key: the content's SHA-256, cut: 0 or 1,
row: float32), readable without this package. Several processes may write to one cache.
"""

import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from sea_jax import files
from sea_jax.errors import SeaError


class Cache:
    """A folder of encoded rows.

    Args:
      folder: made if it is not there.
      rows, seconds: a file is written after so many new rows, or when so much time has gone by: what a kill can lose.
    """

    def __init__(self, folder: str | os.PathLike, *, rows: int = 1024, seconds: float = 10.0):
        self.folder, self.flush_rows, self.flush_seconds = Path(folder), rows, seconds

    def store(self, name: str, version: str) -> "Store":
        """The rows of one encoder and version."""
        return Store(self, name, version)


class Store:
    """The rows of one encoder. A context manager: what is new is on disk when it ends, also by an exception."""

    def __init__(self, cache: Cache, name: str, version: str):
        self.cache = cache
        code = hashlib.sha256(json.dumps([name, version]).encode()).hexdigest()[:16]
        self.folder = cache.folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', name)[-60:]}-{code}"
        self.damaged: list[Path] = []
        self._place: dict[bytes, tuple[Path, int]] = {}
        self._new: dict[bytes, tuple[np.ndarray, bool]] = {}
        self._since = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise SeaError(f"{cache.folder} is no folder to keep encoded rows in; name another.") from error
        about = self.folder / "about.json"
        if not about.exists():
            files.write_json(about, {"encoder": name, "version": version})
        for path in sorted(self.folder.glob("rows-*.npy")):
            self._index(path)

    def _index(self, path: Path) -> None:
        try:
            records = _open(path)
        except (ValueError, EOFError, OSError):
            self.damaged.append(path)  # its rows are encoded again
            return
        for place, key in enumerate(np.array(records["key"])):
            self._place[key.tobytes()] = path, place

    def __contains__(self, key: bytes) -> bool:
        return key in self._place or key in self._new

    def __len__(self) -> int:
        return len(self._place) + len(self._new)

    def put(self, key: bytes, row: np.ndarray, cut: bool = False) -> None:
        """Keeps a row; on disk at the latest when the store closes."""
        if not self._new:
            self._since = time.monotonic()
        self._new[key] = row, cut
        if len(self._new) >= self.cache.flush_rows or time.monotonic() - self._since > self.cache.flush_seconds:
            self.flush()

    def flush(self) -> None:
        """Writes the new rows as one file."""
        if not self._new:
            return
        width = len(next(iter(self._new.values()))[0])
        records = np.empty(len(self._new), [("key", "u1", 32), ("cut", "u1"), ("row", "<f4", width)])
        for place, (key, (row, cut)) in enumerate(self._new.items()):
            records[place] = np.frombuffer(key, np.uint8), cut, row
        path = self.folder / f"rows-{uuid.uuid4().hex}.npy"
        with files.whole(path) as aside, open(aside, "wb") as opened:
            np.lib.format.write_array(opened, records, allow_pickle=False)
            opened.flush()
            os.fsync(opened.fileno())
        self._place.update((key, (path, place)) for place, key in enumerate(self._new))
        self._new = {}

    def read(self, keys: Iterable[bytes]) -> Iterator[tuple[bytes, np.ndarray, bool]]:
        """(key, row, cut) of each key, file by file.

        Raises: SeaError if a file has gone since the store was opened.
        """
        by_file: dict[Path, list[tuple[int, bytes]]] = {}
        for key in keys:
            if key in self._new:
                row, cut = self._new[key]
                yield key, row, cut
            else:
                path, place = self._place[key]
                by_file.setdefault(path, []).append((place, key))
        for path, places in by_file.items():
            try:
                records = _open(path)
            except (ValueError, EOFError, OSError) as error:
                raise SeaError(f"{path} has gone or changed while it was read; start again.") from error
            for place, key in sorted(places):
                yield key, np.array(records["row"][place]), bool(records["cut"][place])

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_) -> None:
        self.flush()


def _open(path: Path) -> np.ndarray:
    records = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(records, np.ndarray) or records.dtype.names != ("key", "cut", "row"):
        raise ValueError("no records")
    return records
