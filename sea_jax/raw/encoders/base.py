"""What every encoder shares: the contract, the walk over an item table's rows, what could not be encoded."""

import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from sea_jax.errors import SeaError
from sea_jax.raw.encoders.cache import Cache, Store

LARGEST_FILE = 2**30  # bytes of one picture or sound

Report = Callable[[int, int], None]


class Broken(Exception):
    """A content that cannot be encoded; its text is the kind it is counted under, such as "damaged picture"."""


class Result(NamedTuple):
    """What became of one content: its row, or the reason that there is none; `cut` if only its beginning was used."""

    key: Any
    row: np.ndarray | None = None
    cut: bool = False
    problem: str = ""


class Problem(NamedTuple):
    """How many contents of a kind could not be encoded, and the first: its row and what it was."""

    count: int
    row: int
    example: str


class NothingEncoded(SeaError):
    """None of the rows can be encoded; `problems` says why, by kind."""

    def __init__(self, message: str, problems: dict[str, Problem]):
        super().__init__(message)
        self.problems = problems


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Rows of numbers.

    encoder, version: what made them. features: (n, width) float32, zeros where missing. missing: (n,) bool.
    problems: by kind. cut: contents that were too long, of which the beginning was used. contents: different texts or
    files that were asked for. reused: how many of them came from the cache.
    """

    encoder: str
    version: str
    features: np.ndarray
    missing: np.ndarray
    problems: dict[str, Problem]
    cut: int
    contents: int
    reused: int

    def record(self) -> dict:
        """What a bundle's manifest keeps, ready for JSON."""
        return {
            "encoder": self.encoder,
            "version": self.version,
            "rows": len(self.features),
            "width": self.features.shape[1],
            "missing": int(self.missing.sum()),
            "cut": self.cut,
            "problems": {kind: problem._asdict() for kind, problem in self.problems.items()},
        }

    def sentences(self, ids: Sequence[str] | None = None) -> list[str]:
        """What was done in words; `ids` name the rows, which are numbers without."""
        count = len(self.features)
        lines = [f"{self.encoder}: {count - int(self.missing.sum())} of {count} rows, {self.features.shape[1]} wide"]
        if self.reused:
            lines.append(f"found in the cache: {self.reused} of {self.contents}")
        if self.cut:
            lines.append(f"cut because too long: {self.cut}")
        for kind, problem in self.problems.items():
            name = problem.row if ids is None else ids[problem.row]
            example = f" ({problem.example})" if problem.example else ""
            lines.append(f"{kind}: {problem.count}, first in row {name}{example}")
        return lines


class Encoder:
    """The contract: a subclass names itself and maps contents to rows.

    name: as the user writes it.
    version: changes whenever the same content would give another row (a recipe's number, a hash of the weights).
    modality: "text" (contents are strings), "image" or "audio" (contents are the bytes of files).
    width: of a row; None until the first is known.
    alone: whether a content's row depends on that content only. Such rows are cached and contents that repeat are
      encoded once; otherwise (TF-IDF) `transform` sees every row's content and nothing is cached.
    fitted: where rows do not stand alone, what the last `transform` learnt, as plain arrays by name: the option `fitted`
      of another encoder of this class, which then gives new contents the rows that this one would have given them.
    """

    name: str = ""
    version: str = ""
    modality: str = "text"
    width: int | None = None
    alone: bool = True
    fitted: Mapping[str, np.ndarray] = MappingProxyType({})

    def transform(self, contents: Iterable[tuple[Any, Any]]) -> Iterator[Result]:
        """A Result for each (key, content), in any order. It may read all contents before the first result."""
        raise NotImplementedError

    def encode(
        self,
        rows: Collection[Any],
        report: Report | None = None,
        *,
        cache: Cache | None = None,
        root: str | os.PathLike | None = None,
    ) -> Encoded:
        """Encodes a column of an item table.

        Args:
          rows: for text, a string each, or None. For files a path each, several paths (their rows are averaged), or
            None.
          report: called with (done, total) contents as they are done.
          cache: where rows are kept by content and looked for first.
          root: the folder that paths are relative to and must not leave; without it they are taken as they are.
        Raises: SeaError, where no row can be encoded a NothingEncoded.
        """
        if not len(rows):
            raise SeaError(f"{self.name}: there are no rows to encode.")
        walk = _Walk(self, rows, report or (lambda done, total: None), root)
        if cache is not None and self.alone:
            with cache.store(self.name, self.version) as store:
                walk.run(store)
        else:
            walk.run(None)
        return walk.gather()


class _Walk:
    """One pass over the rows. A source is a text or a path as given; a key is its content's hash."""

    def __init__(self, encoder: Encoder, rows, report: Report, root):
        self.encoder, self.report, self.root = encoder, report, None if root is None else Path(root)
        self.sources = [sources_of(row, encoder.modality) for row in rows]
        if not encoder.alone:
            self.sources = [[(place, source) for source in of] for place, of in enumerate(self.sources)]
        self.distinct = list(dict.fromkeys(source for of in self.sources for source in of))
        self.key_of, self.broken, self.rows, self.cut = {}, {}, {}, set()
        self.pending, self.done, self.reused = set(), 0, 0

    def run(self, store: Store | None) -> None:
        """Encodes what the store lacks, then reads from it what it holds."""
        known = set()
        for key, row, cut, problem in self.encoder.transform(self._fresh(store, known)):
            self._step()
            row = None if row is None else np.asarray(row, np.float32)
            if row is None or not np.isfinite(row).all():
                self.broken[key] = problem or "encoded to numbers that are not finite"
                continue
            self.rows[key] = row
            if cut:
                self.cut.add(key)
            if store is not None:
                store.put(key, row, cut)
        self.reused = len(known)
        if known:
            for key, row, cut in store.read(known):
                self.rows[key] = row
                if cut:
                    self.cut.add(key)

    def _step(self) -> None:
        self.done += 1
        self.report(self.done, len(self.distinct))

    def _fresh(self, store: Store | None, known: set) -> Iterator[tuple[Any, Any]]:
        for source in self.distinct:
            try:
                content = self._content(source)
            except Broken as error:
                self.broken[source] = str(error)
                self._step()
                continue
            key = source if not self.encoder.alone else digest(content)
            self.key_of[source] = key
            if key in self.pending or key in known or (store is not None and key in store):
                if key not in self.pending:
                    known.add(key)
                self._step()
                continue
            self.pending.add(key)
            yield key, content

    def _content(self, source):
        if self.encoder.modality == "text":
            return source if self.encoder.alone else source[1]
        return read_file(locate(source, self.root))

    def gather(self) -> Encoded:
        """The rows put together, and what is missing, counted in the rows' order."""
        problems: dict[str, Problem] = {}
        found = []
        for place, of in enumerate(self.sources):
            good = []
            for source in of:
                key = self.key_of.get(source)
                if key in self.rows:
                    good.append(self.rows[key])
                    continue
                kind = self.broken.get(source) or self.broken.get(key) or "not encoded"
                text = source if isinstance(source, str) else source[1]
                _count(problems, kind, place, _short(text))
            if not of:
                _count(problems, "no text" if self.encoder.modality == "text" else "no file named", place, "")
            found.append(good)
        width = next((len(row) for good in found for row in good), None)
        if width is None:
            kind, problem = next(iter(problems.items()))
            raise NothingEncoded(
                f"{self.encoder.name}: none of the {len(found)} rows can be encoded "
                f"({kind}: {problem.count}, first in row {problem.row}{': ' * bool(problem.example)}{problem.example}).",
                problems,
            )
        self.encoder.width = width
        features = np.zeros((len(found), width), np.float32)
        for place, good in enumerate(found):
            if len(good) == 1:
                features[place] = good[0]
            elif good:
                features[place] = np.mean(good, axis=0, dtype=np.float64)
        missing = np.array([not good for good in found])
        return Encoded(
            encoder=self.encoder.name,
            version=self.encoder.version,
            features=features,
            missing=missing,
            problems=problems,
            cut=len(self.cut),
            contents=len(self.distinct),
            reused=self.reused,
        )


def _count(problems: dict[str, Problem], kind: str, row: int, example: str) -> None:
    before = problems.get(kind)
    problems[kind] = Problem(1, row, example) if before is None else before._replace(count=before.count + 1)


def _short(text: str, most: int = 100) -> str:
    return text if len(text) <= most else f"{text[:most]}..."


def sources_of(row, modality: str) -> list[str]:
    """The texts or paths of a row; None, NaN and blanks are none."""
    if modality == "text":
        return [] if blank(row) else [str(row)]
    several = row if isinstance(row, list | tuple | np.ndarray) else [row]
    return [os.fspath(path) if isinstance(path, os.PathLike) else str(path) for path in several if not blank(path)]


def blank(value) -> bool:
    return value is None or (isinstance(value, float) and value != value) or not str(value).strip()


def digest(content: str | bytes) -> bytes:
    """The key of a content: its SHA-256."""
    return hashlib.sha256(content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content).digest()


def locate(path: str, root: Path | None) -> Path:
    """The file that a path names; raises Broken if it leaves the root or is no file."""
    if "://" in path:
        raise Broken("an address of the web, not a file; download the files first")
    try:
        # A name may be written in composed characters and stored in decomposed ones, or the other way round.
        forms = dict.fromkeys([path, *(unicodedata.normalize(form, path) for form in ("NFC", "NFD"))])
        candidates = [Path(form) if root is None else root / form for form in forms]
        found = next((each for each in candidates if each.is_file()), candidates[0])
        if root is not None and not found.resolve().is_relative_to(root.resolve()):
            raise Broken("a path that leaves the root folder")
        if not found.is_file():
            raise Broken("a file that is not there")
    except (OSError, ValueError, RuntimeError) as error:  # no permission; a NUL; links in a circle
        raise Broken("a file that is not there") from error
    return found


def read_file(path: Path) -> bytes:
    """The file's bytes; raises Broken if it is empty, too large or unreadable."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise Broken("a file larger than 1 GiB")
        content = path.read_bytes()
    except OSError as error:
        raise Broken("a file that cannot be read") from error
    if not content:
        raise Broken("an empty file")
    return content


def batched(contents: Iterable[tuple[Any, Any]], size: int) -> Iterator[list[tuple[Any, Any]]]:
    """The contents in lists of `size`, the last perhaps shorter."""
    batch = []
    for pair in contents:
        batch.append(pair)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their norms; rows of zeros stay."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / np.where(norms > 0, norms, 1)
