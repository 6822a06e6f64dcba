"""Tables as they come (CSV, TSV, JSON lines, Parquet; gzipped too): their layout, their columns, their rows one by one."""

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from sea_jax.errors import SeaError
from sea_jax.raw import lines
from sea_jax.raw.lines import Skips, Tell, silent

ENDINGS = {
    ".csv": "text", ".tsv": "text", ".txt": "text", ".dat": "text", ".inter": "text", ".item": "text", ".user": "text",
    ".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip
DELIMITERS = ("\t", "::", ",", ";", "|", " ")
SLICE = 1_000_000  # rows of a Parquet file read at a time
TYPES = re.compile(r":(token|float|token_seq|float_seq)$")  # after the names of RecBole's columns

# Usual names of columns by what they hold, without case and signs; the earlier ones win.
USUAL = {
    "user": (
        "userid", "user", "uid", "reviewerid", "customerid", "memberid", "visitorid", "accountid", "sessionid", "userno",
    ),
    "item": (
        "itemid", "item", "iid", "parentasin", "asin", "movieid", "productid", "articleid", "videoid", "trackid", "songid",
        "artistid", "bookid", "isbn", "businessid", "newsid", "sku", "gmapid", "goodsid", "recipeid",
    ),
    "time": (
        "timestamp", "time", "unixreviewtime", "datetime", "date", "tdat", "ts", "eventtime", "createdat", "sorttimestamp",
    ),
    "rating": ("rating", "ratings", "overall", "stars", "score"),
    "split": ("split", "xlabel", "set", "fold"),
    "title": ("title", "name", "movietitle", "itemname", "productname", "prodname", "titles"),
    "category": ("category", "maincategory", "itemcategory", "productcategory", "genre", "producttype"),
    "text": (
        "title", "name", "movietitle", "itemname", "productname", "prodname", "titles", "brand", "store", "category",
        "categories", "genres", "features", "description", "detaildesc", "text", "tags",
    ),
    "image": ("image", "imagepath", "images", "img", "picture", "pictures", "cover", "imagefile", "photo"),
    "audio": ("audio", "audiopath", "sound", "audiofile", "preview"),
}  # fmt: skip


def polars():
    """The package polars; raises SeaError if it is missing."""
    try:
        import polars
    except ImportError as error:
        raise SeaError('reading tables needs polars; pip install "sea_jax[data]", or "polars>=2,<3".') from error
    return polars


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a table is written.

    kind: text, json (an object a line) or parquet. columns: their names (of JSON lines: those of the first). delimiter,
    quoted: of text; whether double quotes hold a cell together. header: whether text begins with the names.
    """

    path: Path
    kind: str
    columns: tuple[str, ...]
    delimiter: str = ","
    quoted: bool = True
    header: bool = True
    encoding: str = ""


def layout(
    path: str | os.PathLike,
    *,
    kind: str = "",
    delimiter: str = "",
    columns: Sequence[str] = (),
    header: bool = True,
    quoted: bool | None = None,
    encoding: str = "",
) -> Layout:
    """How a table is written, from its name and its first line; arguments say what is known otherwise.

    Columns of a text without a header are called 1, 2, ... unless `columns` names them.

    Raises: SeaError if it is none; OSError if it cannot be opened.
    """
    path = Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    if not kind:
        kind = ENDINGS.get(suffixes[-1] if suffixes else "", "")
        with open(path, "rb") as file:
            kind = "parquet" if file.read(4) == b"PAR1" else kind
    if kind == "parquet":
        return Layout(path, kind, tuple(parquet(path).collect_schema().names()))
    first = next(lines.each(path, encoding=encoding), None)
    if first is None:
        raise SeaError(f"{path} is empty.")
    text = first[1].decode("utf-8", "replace").strip("\r")
    if kind == "json" or (not kind and text.lstrip().startswith("{")):
        if text.lstrip().startswith("["):
            raise SeaError(f"{path} is one JSON array; write it as JSON lines, one object a line.")
        found = object_of(text.encode())
        return Layout(path, "json", tuple(columns or (found if isinstance(found, dict) else ())), encoding=encoding)
    if not delimiter:
        tabbed = suffixes[-1:] in ([".tsv"], [".inter"], [".item"], [".user"])
        delimiter = "\t" if tabbed else next((mark for mark in DELIMITERS if mark in text), ",")
    if quoted is None:
        quoted = delimiter in (",", ";")
    given = lines.cells(text, delimiter, quoted) or []
    if not columns:
        columns = [TYPES.sub("", name.strip()) for name in given] if header else [str(n + 1) for n in range(len(given))]
    repeated = next((name for name in columns if name and list(columns).count(name) > 1), None)
    if repeated is not None:
        raise SeaError(f"{path} has two columns called {repeated}; rename one.")
    return Layout(path, "text", tuple(columns), delimiter, quoted, header, encoding)


def bare(name: str) -> str:
    """A column's name without case and signs."""
    return re.sub(r"[\W_]+", "", TYPES.sub("", name.strip()).lower())


def find(table: Layout, role: str, named: str = "", *, flag: str = "", needed: bool = True) -> str | None:
    """The column that plays a role: the one named, or the one of a usual name.

    Raises: SeaError if there is no such column, or none though it is needed.
    """
    flag = flag or f"--{role}_column"
    if named:
        for column in table.columns:
            if named in (column, TYPES.sub("", column)):
                return column
        if table.kind == "json":
            return named  # later lines may have it
        raise SeaError(f"{table.path} has no column {named}; it has {', '.join(table.columns)}: {flag}=one of them.")
    names = {bare(column): column for column in reversed(table.columns)}
    for usual in USUAL[role]:
        if usual in names:
            return names[usual]
    if needed:
        without = "" if table.header or table.kind != "text" else " (numbers, as it is read without a header)"
        raise SeaError(
            f"no column of {table.path} has a usual name for the {role}; it has {', '.join(table.columns)}{without}: "
            f"say which by {flag}."
        )
    return None


def not_utf8(error: UnicodeDecodeError) -> str:
    return f"no UTF-8 (byte 0x{error.object[error.start]:02x}); perhaps --encoding=latin-1"


def object_of(line: bytes) -> dict | str:
    """The object of a line of JSON, or what is wrong."""
    try:
        found = json.loads(line.decode("utf-8"), parse_int=_whole)
    except UnicodeDecodeError:
        raise
    except (ValueError, RecursionError):
        return "no JSON"
    return found if isinstance(found, dict) else "no JSON object"


def _whole(digits: str):
    return int(digits) if len(digits) < 4000 else math.inf


def parquet(path: Path):
    pl = polars()
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"PAR1":
                raise SeaError(f"{path} is no Parquet file.")
        frame = pl.scan_parquet(path)
        frame.collect_schema()
    except pl.exceptions.PolarsError as error:
        raise SeaError(f"{path} is damaged or no Parquet file; write it again.") from error
    return frame


def parquet_slices(table: Layout, columns: list[str], tell: Tell) -> Iterator[tuple[int, object]]:
    pl = polars()
    whole = parquet(table.path).select(columns)
    try:
        total = whole.select(pl.len()).collect().item()
        for start in range(0, total, SLICE):
            yield start, whole.slice(start, SLICE).collect()
            tell(f"reading {table.path.name}", min(start + SLICE, total), total)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise SeaError(f"{table.path} is damaged; write it again.") from error


def records(table: Layout, skips: Skips, tell: Tell = silent) -> Iterator[tuple[int, dict | None]]:
    """(line or row, values by column) of each row, in order; None for a row that was skipped.

    In a quoted text a cell may go over several lines; where a quote is never closed its first line alone is skipped.
    """
    if table.kind == "parquet":
        for start, frame in parquet_slices(table, list(table.columns), tell):
            yield from enumerate(frame.iter_rows(named=True), start=start + 1)
        return
    raw = lines.each(table.path, encoding=table.encoding, tell=tell)
    if table.kind == "json":
        for number, line in raw:
            try:
                found = object_of(line)
            except UnicodeDecodeError as error:
                found = not_utf8(error)
            if isinstance(found, str):
                skips.add(table.path, found, number)
            yield number, None if isinstance(found, str) else found
        return
    if table.header:
        next(raw, None)
    yield from _text_records(table, raw, skips)


def _text_records(table: Layout, raw: Iterator[tuple[int, bytes]], skips: Skips) -> Iterator[tuple[int, dict | None]]:
    waiting: list[tuple[int, bytes]] = []  # lines read ahead and given back
    most = len(table.columns)

    def following():
        return waiting.pop(0) if waiting else next(raw, None)

    while (entry := following()) is not None:
        number, line = entry
        taken, row, wrong = [], None, ""
        try:
            text = line.decode("utf-8")
            row = lines.cells(text, table.delimiter, table.quoted)
            size = len(text)
            while row is None and len(taken) < 1000 and size < 10**6 and (more := following()) is not None:
                taken.append(more)
                text += "\n" + more[1].decode("utf-8")
                size = len(text)
                if b'"' in more[1]:
                    row = lines.cells(text, table.delimiter, table.quoted)
        except UnicodeDecodeError as error:
            wrong = not_utf8(error)
            row = None
        if row is None:
            waiting[:0] = taken
            wrong = wrong or "a quote that is not closed"
        elif len(row) > most:
            row, wrong = None, f"more than the {most} cells of its first line"
            waiting[:0] = taken
        if row is None:
            skips.add(table.path, wrong, number)
            yield number, None
        else:
            yield number, dict(zip(table.columns, row + [""] * (most - len(row)), strict=True))


def text_of(value) -> str:
    """A cell as text: lists joined by blanks, objects by their values, nothing for what is missing."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        return " ".join(value.split()).encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple | np.ndarray) or hasattr(value, "to_list"):
        return " ".join(filter(None, map(text_of, value)))
    return str(value)


def paths_of(value) -> tuple[str, ...]:
    """A cell as paths of files: one, or a list, or several separated by `|`."""
    if value is None or isinstance(value, float):
        return ()
    if isinstance(value, str):
        return tuple(filter(None, (path.strip() for path in value.split("|"))))
    if isinstance(value, list | tuple) or hasattr(value, "to_list"):
        return tuple(path for entry in value for path in paths_of(entry))
    return ()
