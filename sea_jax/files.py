"""Files: written whole or not at all, read with every surprise told in one sentence. No JAX."""

import contextlib
import csv
import hashlib
import io
import json
import math
import os
import stat
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from sea_jax.errors import SeaError

SIGNATURES = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[Path]:
    """A path to write to, which becomes `path` at the end: the file is whole or not there at all.

    A link is written through. What exists and is no plain file (a device, a pipe) cannot be replaced and is written to
    directly.

    Raises: SeaError if `path` is empty or a folder, or its folder does not exist.
    """
    target = writable(path)
    if special(target):
        yield target
        return
    aside = target.with_name(f"tmp.{os.getpid()}.{target.name}")
    try:
        yield aside
        os.replace(aside, target)
    except BaseException as error:
        with contextlib.suppress(OSError):  # on a disk that has become read-only
            aside.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(aside), aside):
            raise OSError(error.errno, os.strerror(error.errno), str(target)) from error
        raise


def writable(path: str | os.PathLike) -> Path:
    """The file that a path to write to means, links followed; raises SeaError as `whole` does."""
    if not os.fspath(path) or Path(path).is_dir():
        raise SeaError(f"{os.fspath(path)!r} is no file to write to; name a file.")
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise SeaError(f"the folder of {os.fspath(path)} does not exist; make it first, or name another file.")
    return target


def special(path: str | os.PathLike) -> bool:
    """Whether a path is there and no plain file: a device, a pipe."""
    return os.path.exists(path) and not stat.S_ISREG(os.stat(path).st_mode)


def folder(path: str | os.PathLike, flag: str = "--output") -> Path:
    """A folder to write into, made if there is none.

    Raises: SeaError if `path` is empty; OSError if there can be none.
    """
    if not os.fspath(path):
        raise SeaError(f"{flag} is empty; name a folder.")
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    return path


def within(root: str | os.PathLike, path: str | os.PathLike) -> Path | None:
    """The file that a path relative to `root`, or to the working directory, means, if it lies in `root`; links are followed."""
    inside = Path(os.path.realpath(root))
    for file in (os.path.realpath(inside / path), os.path.realpath(path)):
        if Path(file).is_relative_to(inside) and Path(file).is_file():
            return Path(file)
    return None


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file in UTF-8."""
    with whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value) -> None:
    """Writes a JSON file; numbers that are not finite become null, which every reader of JSON understands."""
    write_text(path, json.dumps(finite(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def finite(value):
    """A value for JSON, its infinities and NaNs replaced by None."""
    if isinstance(value, dict):
        return {name: finite(of) for name, of in value.items()}
    if isinstance(value, list | tuple):
        return [finite(of) for of in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_table(path: str | os.PathLike, columns: Iterable[str], rows: Iterable[Iterable]) -> None:
    """Writes a csv file in UTF-8."""
    with whole(path) as aside, open(aside, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def write_npz(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays as an uncompressed npz file, whatever their names are and the path's ending is."""
    with whole(path) as aside, open(aside, "wb") as opened:
        write_arrays(opened, arrays)


def write_arrays(opened, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays as npz into an open file; `numpy.savez` cannot take names such as `file` or `allow_pickle`."""
    # A fixed date, so that the same arrays make the same bytes.
    with zipfile.ZipFile(opened, "w", allowZip64=True) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def save_figure(figure, path: str | os.PathLike) -> None:
    """Writes a matplotlib figure and closes it."""
    from matplotlib import pyplot  # slow to import, and few programs draw

    with whole(path) as aside:
        figure.savefig(aside, dpi=75, format=Path(path).suffix.removeprefix(".") or "png")
    pyplot.close(figure)


def read_text(path: str | os.PathLike) -> str:
    """A text file in UTF-8, with or without a byte order mark, whatever the locale.

    Raises: SeaError naming file, line and what to do where it is none; OSError if it cannot be opened.
    """
    data = Path(path).read_bytes()
    for signature, name in SIGNATURES.items():
        if data.startswith(signature):
            raise SeaError(f"{path} is no plain text in UTF-8 but {name}; unpack or convert it to UTF-8 first.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SeaError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is no UTF-8; convert the file to UTF-8 first."
        ) from error


def read_lines(path: str | os.PathLike) -> list[str]:
    """The lines of a text file, without their ends."""
    return [line.removesuffix("\r") for line in read_text(path).removesuffix("\n").split("\n")]


def read_json(path: str | os.PathLike, remedy: str) -> dict:
    """A JSON file that holds one object; `remedy` says what to do where it does not.

    Raises: SeaError if it is damaged; OSError if it cannot be opened.
    """
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise SeaError(f"{path} is damaged (no JSON); {remedy}.") from error
    if not isinstance(value, dict):
        raise SeaError(f"{path} is damaged (no JSON object); {remedy}.")
    return value


def sealed(value: dict) -> dict:
    """The object with a hash of its content, by which `unsealed` notices that it is no longer what was written."""
    value = json.loads(json.dumps(finite(value)))
    return {**value, "sha256": _content(value)}


def unsealed(value: dict, path: str | os.PathLike, remedy: str) -> dict:
    """The object without its hash, which older versions did not write.

    Raises: SeaError if it is not what was written.
    """
    value = dict(value)
    if "sha256" in value and value.pop("sha256") != _content(value):
        raise SeaError(f"{path} is not as it was written (its field sha256 says so); {remedy}.")
    return value


def _content(value: dict) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def read_npz(path: str | os.PathLike, names: Iterable[str] | None, remedy: str) -> dict[str, np.ndarray]:
    """The named arrays of an npz file, all of them for None; nothing pickled, and no more than the file holds.

    Raises: SeaError naming file and field for what is missing or damaged, with `remedy` saying what to do.
    """
    if not Path(path).is_file():
        raise SeaError(f"{path} is missing; {remedy}.")
    try:
        with zipfile.ZipFile(path) as archive:
            held = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            wanted = list(held) if names is None else list(names)
            for name in wanted:
                if name not in held:
                    raise SeaError(f"{path} has no field {name}; {remedy}.")
            return {name: _read_member(archive, held[name], path, name, remedy) for name in wanted}
    except (SeaError, OSError):
        raise
    except Exception as error:  # zipfile, zlib, numpy: many kinds for a damaged file
        raise SeaError(f"{path} is damaged and cannot be read; {remedy}.") from error


def _read_member(archive, entry, path, name, remedy) -> np.ndarray:
    size = os.path.getsize(path)
    if entry.compress_type != zipfile.ZIP_STORED and entry.file_size > 1100 * max(entry.compress_size, 1):
        raise SeaError(f"{path}, field {name}: claims more than deflate can hold; {remedy}.")
    if entry.compress_size > size:
        raise SeaError(f"{path}, field {name}: claims {entry.compress_size} bytes of a file of {size}; {remedy}.")
    with archive.open(entry) as member:
        shape, dtype = _header(member, f"{path}, field {name},", remedy)
        claimed = math.prod(shape) * dtype.itemsize
        if claimed > entry.file_size:
            raise SeaError(f"{path}, field {name}: claims {claimed} bytes and holds {entry.file_size}; {remedy}.")
    with archive.open(entry) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _header(opened, where, remedy):
    version = np.lib.format.read_magic(opened)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise SeaError(f"{where} is in version {version} of the npy format; {remedy}.")
    shape, _, dtype = read(opened)
    if dtype.hasobject:
        raise SeaError(f"{where} holds Python objects, which are never loaded; {remedy}.")
    return shape, dtype


def read_npy(path: str | os.PathLike, remedy: str) -> np.ndarray:
    """The array of a .npy file; nothing pickled, and no more than the file holds.

    Raises: SeaError if it is no such file, or its header claims more than follows; OSError if it cannot be opened.
    """
    size = os.path.getsize(path)
    try:
        with open(path, "rb") as opened:
            shape, dtype = _header(opened, path, remedy)
            claimed, held = math.prod(shape) * dtype.itemsize, size - opened.tell()
            if claimed > held:
                raise SeaError(f"{path}: its header claims {claimed} bytes and {held} follow; {remedy}.")
            opened.seek(0)
            return np.lib.format.read_array(opened, allow_pickle=False)
    except (SeaError, OSError):
        raise
    except Exception as error:
        raise SeaError(f"{path} is damaged or no plain .npy array; {remedy}.") from error


def sha256(path: str | os.PathLike) -> str:
    """The file's SHA-256 in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def csv_rows(path: str | os.PathLike, delimiter: str = "\t") -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of each line that is not empty; quotes mean nothing, fields may have any length.

    Raises: SeaError as `read_text`.
    """
    for number, line in enumerate(io.StringIO(read_text(path), newline="\n"), start=1):
        line = line.rstrip("\r\n")
        if line:
            yield number, line.split(delimiter)
