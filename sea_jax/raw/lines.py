"""Text files as they come: unpacked and decoded in blocks of whole lines, a line's cells, what had to be skipped."""

import codecs
import gzip
import os
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from sea_jax.errors import SeaError

BLOCK, LONGEST = 2**25, 2**28  # bytes read at a time; bytes of a line
PACKED = {
    b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf": "7-zip",
}  # fmt: skip
Tell = Callable[[str, int, int], None]  # what is done, how far, of how much


def silent(what: str, done: int, total: int) -> None:
    """Tells nobody."""


class Skips:
    """What was skipped, counted by file and kind, with the first line of each.

    strict: whether the first is an error instead.
    """

    def __init__(self, strict: bool = False):
        self.strict = strict
        self.found: dict[tuple[str, str], list] = {}

    def add(self, file: str | os.PathLike, kind: str, place: int, unit: str = "line") -> None:
        """Counts one; raises SeaError if strict."""
        if self.strict:
            raise SeaError(f"{file}, {unit} {place}: {kind}; mend it, or leave out --strict to skip such lines.")
        self.found.setdefault((Path(file).name, kind), [0, f"{unit} {place}"])[0] += 1

    def count(self, file: str | os.PathLike) -> int:
        """How many were skipped of a file."""
        return sum(count for (name, _), (count, _) in self.found.items() if name == Path(file).name)

    def sentences(self) -> list[str]:
        """One for each file and kind."""
        return [
            f"{name}: {count} skipped, {kind} (first: {where})" for (name, kind), (count, where) in self.found.items()
        ]


def blocks(
    path: str | os.PathLike, *, encoding: str = "", tell: Tell = silent, size: int = 0
) -> Iterator[tuple[int, bytes]]:
    """(number of its first line, whole lines in UTF-8) of a text file, plain or gzipped.

    Args:
      path: the file. A byte order mark is left out; with that of UTF-16 it is read as such.
      encoding: of the file, as Python names it. Empty: UTF-8, which is not checked here.
      tell: is told how many bytes of the file are read.
      size: bytes of a block, unpacked; BLOCK without.
    Raises: SeaError if the file is packed in another way, cut off, damaged, of another encoding, or no text of lines.
    """
    path, number, rest = Path(path), 1, b""
    if path.is_dir():
        raise SeaError(f"{path} is a folder; name a file.")
    total = max(os.path.getsize(path), 1)
    try:
        codecs.lookup(encoding or "utf-8")
    except LookupError as error:
        raise SeaError(f"--encoding={encoding} is unknown; name one such as latin-1 or cp1252.") from error
    with open(path, "rb") as raw:
        head = raw.read(8)
        raw.seek(0)
        for signature, name in PACKED.items():
            if head.startswith(signature):
                raise SeaError(f"{path} is packed by {name}; unpack it, or pack it by gzip.")
        opened = gzip.GzipFile(fileobj=raw) if head.startswith(b"\x1f\x8b") else raw
        decoder = None
        while True:
            try:
                chunk = opened.read(size or BLOCK)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise SeaError(
                    f"{path} is damaged or cut off after about {number + rest.count(10)} lines; get it again."
                ) from error
            if decoder is None:
                chunk, decoder = _start(chunk, encoding)
            try:
                decoded = decoder(chunk, not chunk) if decoder else chunk
            except UnicodeError as error:
                raise SeaError(
                    f"{path} is not in the encoding {encoding or 'UTF-16'} ({error}); name another."
                ) from error
            tell(f"reading {path.name}", min(raw.tell(), total), total)
            data = rest + decoded
            end = data.rfind(b"\n") + 1
            if not chunk:
                if data:
                    yield number, data
                return
            if len(data) - end > LONGEST:
                raise SeaError(
                    f"{path}, line {number + data.count(10)} is longer than {LONGEST} bytes; it is no table."
                )
            rest = data[end:]
            if end:
                yield number, data[:end]
                number += data.count(b"\n", 0, end)


def _start(chunk: bytes, encoding: str):
    """The first chunk without a mark, and a function that turns chunks into UTF-8; False for none."""
    if not encoding and chunk.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    if encoding and codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
        decode = codecs.getincrementaldecoder(encoding)().decode
        return chunk, lambda data, final: decode(data, final).encode("utf-8", "replace")
    return chunk.removeprefix(codecs.BOM_UTF8), False


def each(path: str | os.PathLike, *, encoding: str = "", tell: Tell = silent) -> Iterator[tuple[int, bytes]]:
    """(number, bytes) of each line that is not blank, without its end."""
    for first, block in blocks(path, encoding=encoding, tell=tell):
        for number, line in enumerate(block.split(b"\n"), start=first):
            if line.strip():
                yield number, line.removesuffix(b"\r")


QUOTED = re.compile(r'"((?:[^"]|"")*)"')


def cells(line: str, delimiter: str, quoted: bool) -> list[str] | None:
    """The cells of a line; None where a quote that opens a cell is not closed at the cell's end."""
    if not quoted or '"' not in line:
        return line.split(delimiter)
    found, place = [], 0
    while True:
        if line.startswith('"', place):
            match = QUOTED.match(line, place)
            if match is None or not (match.end() == len(line) or line.startswith(delimiter, match.end())):
                return None
            found.append(match[1].replace('""', '"'))
            end = match.end()
        else:
            end = line.find(delimiter, place)
            end = len(line) if end < 0 else end
            found.append(line[place:end])
        if end == len(line):
            return found
        place = end + len(delimiter)
