"""Interactions read from tables into arrays, in little memory.

Blocks of lines are read by polars; a block in which it finds fault is read line by line, so that a broken line is named
and skipped, and nothing else is lost. One interaction is one line. Ids stay what the file says, blanks around them
apart.
"""

import concurrent.futures
import datetime
import io
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from sea_jax.errors import SeaError
from sea_jax.raw import lines, tables
from sea_jax.raw.lines import Skips, Tell, silent
from sea_jax.raw.pairs import Interactions

LONGEST_ID = 512
LABELS = {
    "0": 0, "train": 0, "training": 0, "1": 1, "valid": 1, "validation": 1, "val": 1, "dev": 1, "2": 2, "test": 2,
    "testing": 2,
}  # fmt: skip
DATE_FORMATS = (None, "%m %d, %Y", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S")


class Codes:
    """Numbers for ids in the order in which they come."""

    MISSING, UNUSABLE = -1, -2

    def __init__(self):
        self.ids: list[str] = []
        self.known: dict[str | None, int] = {None: self.MISSING}

    def of(self, column) -> np.ndarray:
        """(n,) int32 numbers of a column of text, negative where there is no id."""
        pl = tables.polars()
        unique = column.unique(maintain_order=True)
        texts = unique.to_list()
        codes = [self.known.get(text) for text in texts]
        codes = [self._new(text) if code is None else code for text, code in zip(texts, codes, strict=True)]
        numbers = pl.DataFrame({"id": unique, "code": pl.Series(codes, dtype=pl.Int32)})
        named = pl.DataFrame({"id": column}).join(numbers, on="id", how="left", nulls_equal=True, maintain_order="left")
        return named["code"].to_numpy()

    def _new(self, text: str) -> int:
        stripped = text.strip()
        if not stripped:
            code = self.MISSING
        elif len(stripped) > LONGEST_ID or (not stripped.isprintable() and re.search(r"[\x00-\x1f\x7f]", stripped)):
            code = self.UNUSABLE
        else:
            code = self.known.get(stripped)
            if code is None:
                code = len(self.ids)
                self.ids.append(stripped)
                self.known[stripped] = code
        self.known[text] = code
        return code


class Times:
    """Times as numbers (of a unit found by their size) or as dates."""

    UNITS = ((1e11, 1.0), (1e14, 1e3), (1e17, 1e6), (np.inf, 1e9))  # up to such a size: so many in a second

    def __init__(self, path, format: str = ""):
        self.path, self.formats = path, (format,) if format else DATE_FORMATS
        self.as_numbers: bool | None = False if format else None

    def of(self, column) -> np.ndarray:
        """(n,) float64, NaN where there is no time."""
        pl = tables.polars()
        if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
            self.as_numbers = False
            return column.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64).to_numpy().astype(np.float64) / 1e6
        text = column.cast(pl.String).str.strip_chars()
        if self.as_numbers is not False:
            numbers = text.cast(pl.Float64, strict=False).to_numpy().astype(np.float64)
            usable = np.isfinite(numbers) & (np.abs(numbers) < 1e21)
            some = int((text.is_not_null() & (text != "")).sum())
            if self.as_numbers or not some or 2 * usable.sum() >= some:
                self.as_numbers = self.as_numbers or usable.any() or None
                return np.where(usable, numbers, np.nan)
        for format in self.formats:
            if format is None:  # polars guesses more than is wise, such as the order of day and month
                iso = text.str.contains(r"^\d{4}-\d\d")
                text, given = pl.select(pl.when(iso).then(text)).to_series(), text
            try:
                moments = text.str.to_datetime(format=format, time_zone="UTC", time_unit="us", strict=False)
            except pl.exceptions.PolarsError:
                moments = pl.Series([None], dtype=pl.Datetime)
            if moments.is_not_null().any():
                self.as_numbers = False
                self.formats = (format,)
                return moments.dt.epoch("us").cast(pl.Float64).to_numpy().astype(np.float64) / 1e6
            text = given if format is None else text
        return np.full(len(text), np.nan)

    def seconds(self, times: np.ndarray) -> np.ndarray:
        """The times in seconds since 1970."""
        if not self.as_numbers or not len(times):
            return times
        size = float(np.median(np.abs(times)))
        return times / next(unit for limit, unit in self.UNITS if size < limit)


def moment(text: str, flag: str) -> float | None:
    """Seconds since 1970 of a date (ISO) or number that a user wrote; None for nothing."""
    if not text:
        return None
    try:
        return _seconds(float(text)) if re.fullmatch(r"\d{5,}(\.\d+)?", text) else _date(text)
    except ValueError as error:
        raise SeaError(f"{flag}={text} is no date such as 2020-12-31 and no time in seconds since 1970.") from error


def _seconds(number: float) -> float:
    return number / next(unit for limit, unit in Times.UNITS if number < limit)


def _date(text: str) -> float:
    when = datetime.datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp()


class Reader:
    """Interactions of one or several files, put together by `table()`.

    Args:
      skips: counts what is skipped.
      tell: is told how far it is.
      time_format: of times that are no numbers and no ISO dates, as strptime has it.
    """

    def __init__(self, skips: Skips, tell: Tell = silent, time_format: str = ""):
        self.skips, self.tell, self.time_format = skips, tell, time_format
        self.users, self.items = Codes(), Codes()
        self.parts: list[dict[str, np.ndarray]] = []
        self.roles: set[str] | None = None

    def read(self, table: tables.Layout, roles: Mapping[str, str | None], label: int | None = None) -> None:
        """Reads a file.

        Args:
          table: how it is written.
          roles: the columns of user and item, and perhaps of time, rating and split.
          label: of all its rows: 0 training, 1 validation, 2 test.
        """
        roles = {role: column for role, column in roles.items() if column}
        if len(set(roles.values())) < len(roles):
            raise SeaError(f"{table.path}: one column cannot be two things: {', '.join(map('='.join, roles.items()))}.")
        if self.roles not in (None, set(roles)):
            raise SeaError(f"{table.path} has not the same columns as the file before it.")
        self.roles = set(roles)
        times, first = Times(table.path, self.time_format), len(self.parts)
        unit = "row" if table.kind == "parquet" else "line"
        for frame, numbers, text, broken in _ahead(_frames(table, roles, self.tell)):
            bad = [*broken]
            part = {"users": self.users.of(frame["user"]), "items": self.items.of(frame["item"])}
            wrong = [
                (part[f"{kind}s"] == code, words.format(column=roles[kind]))
                for kind in ("user", "item")
                for code, words in (
                    (Codes.MISSING, "no {column}"),
                    (Codes.UNUSABLE, f"a {{column}} of over {LONGEST_ID} or with unprintable characters"),
                )
            ]
            if "time" in roles:
                part["times"] = times.of(frame["time"])
                wrong.append((np.isnan(part["times"]), f"no time in {roles['time']}"))
            if "rating" in roles:
                part["ratings"] = _numbers(frame["rating"])
                wrong.append((np.isnan(part["ratings"]), f"no number in {roles['rating']}"))
            if "split" in roles:
                part["labels"] = _labels(frame["split"])
                wrong.append((part["labels"] < 0, f"no split in {roles['split']}"))
            elif label is not None:
                part["labels"] = np.full(len(frame), label, np.int8)
            good = np.ones(len(frame), bool)
            for mask, kind in wrong:
                rows = np.flatnonzero(mask & good)
                good[rows] = False
                bad += [(int(numbers[row]), kind) for row in rows.tolist() if text is None or text(row).strip()]
            for place, kind in sorted(bad):
                self.skips.add(table.path, kind, place, unit)
            self.parts.append({name: x[good] for name, x in part.items()})
        new = self.parts[first:]
        if not any(len(part["users"]) for part in new):
            raise SeaError(
                f"{table.path} has no usable row; {'; '.join(self.skips.sentences()) or 'it holds no data'}. Its columns "
                f"were taken as {', '.join(f'{role}: {column}' for role, column in roles.items())}; times of other kinds "
                "need --time_format, or --time_column=none."
            )
        if "time" in roles:
            seconds = times.seconds(np.concatenate([part["times"] for part in new]))
            for part in new:
                part["times"], seconds = seconds[: len(part["times"])], seconds[len(part["times"]) :]

    def read_lists(self, path: str | os.PathLike, label: int | None = None, encoding: str = "") -> None:
        """Reads lines of a user and then items, divided by blanks or tabs, as LightGCN's and MicroLens's."""
        path = Path(path)
        users, items = [], []
        for number, line in lines.each(path, encoding=encoding, tell=self.tell):
            try:
                names = line.decode("utf-8").split()
            except UnicodeDecodeError as error:
                self.skips.add(path, tables.not_utf8(error), number)
                continue
            if len(names) < 2:
                self.skips.add(path, "a user without items", number)
                continue
            users += [names[0]] * (len(names) - 1)
            items += names[1:]
        if not users:
            raise SeaError(f"{path} has no line of a user and items.")
        self.add(path, users, items, label)

    def add(self, path: str | os.PathLike, users: list[str], items: list[str], label: int | None = None) -> None:
        """Interactions of these users with these items, read from `path`, where each has the same label or none has one."""
        pl = tables.polars()
        part = {
            "users": self.users.of(pl.Series(users, dtype=pl.String)),
            "items": self.items.of(pl.Series(items, dtype=pl.String)),
        }
        good = (part["users"] >= 0) & (part["items"] >= 0)
        if not good.all():
            raise SeaError(f"{path} names ids of over {LONGEST_ID} or unprintable characters; it is no table of lists.")
        if label is not None:
            part["labels"] = np.full(len(users), label, np.int8)
        self.parts.append(part)

    def table(self) -> Interactions:
        """All that was read."""
        names = {name for part in self.parts for name in part}
        whole = {}
        for name in sorted(names):
            if all(name in part for part in self.parts):
                whole[name] = np.concatenate([part.pop(name) for part in self.parts])
        return Interactions(**whole, user_ids=self.users.ids, item_ids=self.items.ids)


def _numbers(column) -> np.ndarray:
    pl = tables.polars()
    numbers = column.cast(pl.String).str.strip_chars().cast(pl.Float64, strict=False).to_numpy().astype(np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _labels(column) -> np.ndarray:
    pl = tables.polars()
    unique = column.unique().to_list()
    known = {text: LABELS.get(str(text).strip().lower().removesuffix(".0"), -1) for text in unique}
    return column.replace_strict(list(known), list(known.values()), return_dtype=pl.Int8).to_numpy()


def _ahead(parts: Iterator) -> Iterator:
    """The same, the next one made while one is worked on."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        coming = pool.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = pool.submit(next, parts, None)
            yield part


def _frames(table: tables.Layout, roles: dict[str, str], tell: Tell) -> Iterator[tuple]:
    """(frame of text by role, number of each row's line, the line of a row or None, [(line, what is wrong)])."""
    if table.kind == "parquet":
        yield from _parquet_frames(table, roles, tell)
        return
    header = table.kind == "text" and table.header
    quick, slow = (_quick_json, _slow_json) if table.kind == "json" else (_quick_text, _slow_text)
    for first, block in lines.blocks(table.path, encoding=table.encoding, tell=tell):
        if header:
            skipped = re.match(rb"\s*[^\n]*\n?", block)[0]
            first, block, header = first + skipped.count(b"\n"), block[len(skipped) :], False
            if not block:
                continue
        found = quick(block, table, roles)
        if found is None:
            yield slow(first, block, table, roles)
            continue
        held: list[list[bytes]] = []

        def text(row, held=held, block=block):
            if not held:
                held.append(block.split(b"\n"))
            return held[0][row]

        if table.kind == "text":
            yield found, range(first, first + len(found)), text, []
        else:
            numbers = range(first, first + len(found))
            if len(found) < block.count(b"\n") + (not block.endswith(b"\n")):  # blank lines between
                full = [n for n, line in enumerate(block.split(b"\n"), start=first) if line.strip()]
                numbers = np.array(full, np.int64)
            yield found, numbers, None, []


def _quick_text(block: bytes, table: tables.Layout, roles):
    """A frame whose row n is the block's line n, or None if some line needs a closer look."""
    pl = tables.polars()
    if len(table.delimiter) > 1 or len(table.columns) < 2:
        return None
    if table.quoted and b'"' in block and not well_quoted(block, table.delimiter):
        return None  # what polars makes of a stray quote is its own affair
    # All columns are read: where only some are asked for, polars does not notice a line of too many cells.
    names = [f"column_{n}" for n in range(1, len(table.columns) + 1)]  # as polars calls them without a header
    wanted = {role: names[table.columns.index(column)] for role, column in roles.items()}
    try:
        frame = pl.read_csv(
            io.BytesIO(block), has_header=False, schema=dict.fromkeys(names, pl.String),
            separator=table.delimiter, quote_char='"' if table.quoted else None, infer_schema=False,
        )  # fmt: skip
    except (pl.exceptions.PolarsError, pl.exceptions.SchemaError):
        return None
    if len(frame) != block.count(b"\n") + (not block.endswith(b"\n")):
        return None
    return frame.select(**{role: pl.col(name) for role, name in wanted.items()})


def well_quoted(block: bytes, delimiter: str) -> bool:
    """Whether every cell with a quote in it is quoted as a whole, in each line of a block."""
    mark = re.escape(delimiter.encode())
    cell = rb'(?:"(?:[^"\n]|"")*+"|[^"\n' + mark + rb"]*+)"
    line = cell + rb"(?:" + mark + cell + rb")*+"
    return re.fullmatch(rb"(?:" + line + rb"\r?\n)*+" + line + rb"\r?", block) is not None  # nothing is tried twice


def _slow_text(first: int, block: bytes, table: tables.Layout, roles):
    places = {role: table.columns.index(column) for role, column in roles.items()}

    def parse(line: str):
        row = lines.cells(line, table.delimiter, table.quoted)
        if row is None:
            return "a quote that is not closed"
        if len(row) > len(table.columns):
            return f"more than the {len(table.columns)} cells of its first line"
        return {role: row[place] if place < len(row) else None for role, place in places.items()}

    return _slow(first, block, roles, lambda line: parse(line.decode("utf-8")))


def _quick_json(block: bytes, table: tables.Layout, roles):
    """A frame of the block's lines that are not blank, or None if some line needs a closer look."""
    pl = tables.polars()
    schema = dict.fromkeys(roles.values(), pl.String)
    try:
        frame = pl.read_ndjson(io.BytesIO(block), schema=schema)
    except pl.exceptions.PolarsError:
        return None
    if len(frame) != sum(1 for line in io.BytesIO(block) if line.strip()):
        return None
    frame = frame.select(**{role: pl.col(column) for role, column in roles.items()})
    for role in ("user", "item"):  # a list or an object is no id
        if frame[role].str.contains(r"^[\[{]").any():
            return None
    return frame


def _slow_json(first: int, block: bytes, table: tables.Layout, roles):
    def parse(line: bytes):
        found = tables.object_of(line)
        if isinstance(found, str):
            return found
        return {role: _as_id(found.get(column)) for role, column in roles.items()}

    return _slow(first, block, roles, parse)


def _slow(first: int, block: bytes, roles, parse):
    pl = tables.polars()
    rows, numbers, broken = [], [], []
    for number, line in enumerate(block.split(b"\n"), start=first):
        line = line.removesuffix(b"\r")
        if not line.strip():
            continue
        try:
            found = parse(line)
        except UnicodeDecodeError as error:
            found = tables.not_utf8(error)
        if isinstance(found, str):
            broken.append((number, found))
        else:
            rows.append(found)
            numbers.append(number)
    frame = pl.DataFrame({role: pl.Series([row[role] for row in rows], dtype=pl.String) for role in roles})
    return frame, np.array(numbers, np.int64), None, broken


def _as_id(value) -> str | None:
    """A value of JSON as text, in the way polars writes it."""
    if value is None or isinstance(value, list | dict):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    text = str(value)
    return (
        text if text.isascii() or text.encode("utf-8", "replace").decode() == text else "\0"
    )  # half a character: no id


def _parquet_frames(table: tables.Layout, roles, tell: Tell) -> Iterator[tuple]:
    pl = tables.polars()
    for start, frame in tables.parquet_slices(table, list(dict.fromkeys(roles.values())), tell):
        columns = {}
        for role, column in roles.items():
            series = frame[column]
            if role != "time":
                series = (
                    as_text(series, f"{table.path}, column {column}") if role != "rating" else series.cast(pl.String)
                )
            columns[role] = series
        yield pl.DataFrame(columns), range(start + 1, start + 1 + len(frame)), None, []


def as_text(series, where: str):
    """A column of ids as text; whole floating numbers, which missing values make of integers, as integers.

    Raises: SeaError for numbers that are not whole, and for what is no id.
    """
    pl = tables.polars()
    if series.dtype.is_float():
        whole = series.cast(pl.Int64, strict=False)
        if not ((series.is_null() | series.is_nan()) | (whole.cast(series.dtype) == series)).all():
            raise SeaError(f"{where}: ids are fractions; give whole numbers or strings.")
        return whole.cast(pl.String)
    if series.dtype.is_nested() or series.dtype == pl.Binary:
        raise SeaError(f"{where}: ids are {series.dtype}; give whole numbers or strings.")
    return series.cast(pl.String)
