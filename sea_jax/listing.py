"""Lists to and from files: who is asked for, wishes about items, baskets, new items; lists written as they are made."""

import csv
import io
import json
import math
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sea_jax import files
from sea_jax.bundle import Bundle
from sea_jax.control import Control
from sea_jax.errors import SeaError, require
from sea_jax.explaining import Why, explain, explain_for, with_boost
from sea_jax.raw import features, new_items
from sea_jax.raw.new_items import NewItems
from sea_jax.recommender import Recommender

BLOCK = 1024  # users at a time
PART = 200_000  # rows of a Parquet file's row group
COLUMNS = ("user", "rank", "item", "score")
ENDINGS = (".csv", ".jsonl", ".parquet")


def wanted(path: str, made: Recommender) -> list:
    """The users that the file lists, one original id a line; all users without a file."""
    if not path:
        return made.user_ids.tolist()
    return ids_of(path, made.user_ids, "user", "lists nobody; write one original user id a line")


def ids_of(path: str, known: np.ndarray, kind: str, empty: str = "is empty; write one id a line") -> list:
    """The ids that a file lists, one a line; raises SeaError naming one that is not known."""
    by_text = {str(one): one for one in known.tolist()}
    lines = [line.strip() for line in files.read_lines(path)]
    if not any(lines):
        raise SeaError(f"{path} {empty}.")
    for number, line in enumerate(lines, start=1):
        if line and line not in by_text:
            whom = "whom" if kind == "user" else "which"
            raise SeaError(
                f"{path} names {kind} {line!r} in line {number}, {whom} the dataset does not know; list original {kind} ids."
            )
    return [by_text[line] for line in lines if line]


def table(path: str, columns: Sequence[str], optional: str = "") -> Iterator[tuple[int, list[str]]]:
    """(line, entries of these columns) of a csv file with a head of any case; an optional last column is "" if absent.

    Raises: SeaError for a column or an entry that is missing.
    """
    reader = csv.reader(io.StringIO(files.read_text(path), newline=""))
    head = [name.strip() for name in next(reader, [])]
    lower = [name.lower() for name in head]
    places = []
    for name in columns:
        if name not in lower:
            raise SeaError(f"{path} has the columns {', '.join(head) or 'none'}; it must have {', '.join(columns)}.")
        places.append(lower.index(name))
    places += [lower.index(optional)] if optional in lower else []
    for row in reader:
        line = reader.line_num
        if not any(entry.strip() for entry in row):
            continue
        if len(row) < len(head):
            raise SeaError(f"{path}, line {line}: {len(row)} entries where the head has {len(head)}.")
        entries = [row[place].strip() for place in places]
        yield line, entries + [""] * (len(columns) + bool(optional) - len(entries))


def _number(text: str, path: str, line: int, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise SeaError(f"{path}, line {line}: the {what} is {text!r} and must be a finite number.")
    return value


class Basket(NamedTuple):
    """A stranger's items and how much each counts."""

    items: list
    weights: list[float]


def read_baskets(path: str, made: Recommender) -> tuple[dict[str, Basket], list[str]]:
    """Baskets by stranger from a csv file with the columns user, item and perhaps weight; and what was left out.

    Items that the catalogue lacks are left out and counted, and so are strangers of whose items none is known.

    Raises: SeaError if nothing is left, or a weight is not above 0.
    """
    known = {str(one): one for one in made.item_ids.tolist()}
    found: dict[str, Basket] = {}
    strange, first = 0, ""
    for line, (user, item, weight) in table(path, ("user", "item"), "weight"):
        basket = found.setdefault(user, Basket([], []))
        if item not in known:
            strange, first = strange + 1, first or f"{item!r} in line {line}"
            continue
        amount = _number(weight, path, line, "weight") if weight else 1.0
        if not amount > 0:
            raise SeaError(f"{path}, line {line}: the weight is {weight} and must be above 0.")
        basket.items.append(known[item])
        basket.weights.append(amount)
    empty = [user for user, basket in found.items() if not basket.items]
    if len(empty) == len(found):
        raise SeaError(f"{path} names no item that the dataset knows" + (f" (first {first})." if first else "."))
    notes = [f"{path}: {strange} rows name items that the dataset does not know, first {first}"] if strange else []
    if empty:
        notes.append(f"{path}: {len(empty)} users have no known item and get no list, first {empty[0]!r}")
    return {user: basket for user, basket in found.items() if basket.items}, notes


def read_boosts(path: str, made: Recommender) -> dict[Any, float]:
    """Boosts by item from a csv file with the columns item and boost."""
    known, found = {str(one): one for one in made.item_ids.tolist()}, {}
    for line, (item, boost) in table(path, ("item", "boost")):
        if item not in known:
            raise SeaError(f"{path}, line {line}: the dataset does not know item {item!r}.")
        found[known[item]] = _number(boost, path, line, "boost")
    return found


def read_categories(path: str, made: Recommender) -> list[str]:
    """A category for each item, "" without, from a csv file with the columns item and category."""
    place = {str(one): number for number, one in enumerate(made.item_ids.tolist())}
    found = [""] * len(place)
    for line, (item, category) in table(path, ("item", "category")):
        if item not in place:
            raise SeaError(f"{path}, line {line}: the dataset does not know item {item!r}.")
        found[place[item]] = category
    return found


def new_items_of(path: str, made: Recommender, bundle: Bundle, **encoding: Any) -> NewItems:
    """New items: vectors in a folder with items.txt, or rows of a table, encoded as the dataset's own were.

    Args:
      path: a folder, see `read_new_items`, or what `raw.new_items.read` takes.
      made, bundle: of the run.
      encoding: the options of `raw.new_items.read`.
    Raises: SeaError for whatever is missing or does not fit.
    """
    if Path(path).is_dir() and ((Path(path) / "items.txt").is_file() or new_items.table_in(path) is None):
        return read_new_items(path, made, bundle.modalities)
    new = new_items.read(bundle, path, **encoding)
    return new._replace(ids=_as_ids(new.ids, made, path))


def _as_ids(ids: list[str], made: Recommender, path: str | Path) -> list:
    """Ids of the dataset's kind: numbers where its items have such."""
    if made.item_ids.dtype.kind != "i":
        return ids
    try:
        return [int(one) for one in ids]
    except ValueError:
        raise SeaError(f"{path} must hold whole numbers, as the dataset's item ids are.") from None


def read_new_items(folder: str, made: Recommender, modalities: Sequence[str]) -> NewItems:
    """New items from a folder: items.txt (an id a line), MODALITY_feat.npy (a row each), perhaps titles.txt.

    Those without a row that is finite and not all zeros are left out and told.

    Raises: SeaError for a file that is missing or does not fit, or if no item is left.
    """
    place = Path(folder)
    if not (place / "items.txt").is_file():
        raise SeaError(
            f"{place} must hold items.txt, one id of a new item a line, and MODALITY_feat.npy; or a table of new items, "
            "items.csv, .tsv, .jsonl or .parquet."
        )
    ids: list = [line.strip() for line in files.read_lines(place / "items.txt")]
    if not all(ids) or len(set(ids)) < len(ids):
        raise SeaError(f"{place / 'items.txt'} has an empty line or an id twice; write each new item's id once.")
    ids, found = _as_ids(ids, made, place / "items.txt"), {}
    for name in modalities:
        path = place / f"{name}_feat.npy"
        if path.is_file():
            found[name] = features.read(path)[0]
            if len(found[name]) != len(ids):
                raise SeaError(f"{path} has {len(found[name])} rows and items.txt {len(ids)}; give one for each item.")
    if not found:
        wanted = " or ".join(f"{name}_feat.npy" for name in modalities)
        raise SeaError(f"{place} holds no features; it needs {wanted}.")
    titles = None
    if (place / "titles.txt").is_file():
        titles = files.read_lines(place / "titles.txt")
        if len(titles) != len(ids):
            raise SeaError(f"{place / 'titles.txt'} has {len(titles)} lines and items.txt {len(ids)}; give one each.")
    return new_items.usable(NewItems(ids, found, titles), modalities, place)


class Wish(NamedTuple):
    """How lists are asked for: their length, whether seen items are left out, candidates, control, explanations."""

    k: int
    exclude_seen: bool = True
    candidates: list | None = None
    control: Control | None = None
    explained: bool = False


def of_users(made: Recommender, users: Sequence, wish: Wish) -> Iterator[tuple]:
    """A row (user, rank, item, score, and Why if asked for) for each place of each user's list that is filled."""
    for start in range(0, len(users), BLOCK):
        some = users[start : start + BLOCK]
        found = made.recommend(some, wish.k, wish.exclude_seen, wish.candidates, wish.control)
        for user, items, scores in zip(some, *found, strict=True):
            yield from _rows(user, items, scores, wish, lambda items, user=user: explain(made, user, items))


def of_baskets(made: Recommender, baskets: dict[str, Basket], wish: Wish) -> Iterator[tuple]:
    """As `of_users`, for strangers with baskets."""
    for user, (own, weights) in baskets.items():
        found = made.recommend_for(own, wish.k, wish.exclude_seen, wish.candidates, wish.control, weights)
        yield from _rows(
            user, *found, wish, lambda items, own=own, weights=weights: explain_for(made, own, items, weights=weights)
        )


def _rows(user, items, scores, wish: Wish, why: Callable) -> Iterator[tuple]:
    listed = [(item, float(score)) for item, score in zip(items.tolist(), scores, strict=True) if item is not None]
    reasons: Iterable = why([item for item, _ in listed]) if wish.explained and listed else [None] * len(listed)
    for rank, ((item, score), reason) in enumerate(zip(listed, reasons, strict=True), start=1):
        if reason is not None and wish.control is not None and item in wish.control.boosts:
            reason = with_boost(reason, score)
        yield (user, rank, item, score, reason) if wish.explained else (user, rank, item, score)


def in_words(why: Why) -> str:
    """An explanation in one line."""
    parts = " + ".join(f"{name} {share:.3g}" for name, share in why.parts.items())
    near = ", ".join(f"{item} ({likeness:.2f})" for item, likeness in why.nearest)
    return f"{why.score:.3g} = {parts}" + (f"; near {near}" if near else "")


def check_output(path: str) -> None:
    """Raises SeaError if lists cannot be written to this path, before they are made."""
    target = files.writable(path)
    if not files.special(target) and Path(path).suffix not in ENDINGS:
        raise SeaError(f"--output={path} must end in .csv, .jsonl or .parquet, which says how lists are written.")
    if Path(path).suffix == ".parquet":
        require("polars", "data", f"writing {path}")


def write(path: str, rows: Iterable[tuple], explained: bool) -> None:
    """Writes lists as they are made, in bounded memory: JSON lines (.jsonl), Parquet (.parquet, needs polars), else csv."""
    columns = (*COLUMNS, "why") if explained else COLUMNS
    ending = Path(path).suffix
    if ending == ".parquet":
        _write_parquet(path, columns, rows)
    elif ending == ".jsonl":
        with files.whole(path) as aside, open(aside, "w", encoding="utf-8") as file:
            for row in rows:
                entry = dict(zip(columns, row, strict=True))
                if explained:
                    why = entry.pop("why")
                    entry |= {"parts": why.parts, "nearest": why.nearest}
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
    else:
        files.write_table(path, columns, map(_as_text, rows))


def _as_text(row: tuple) -> tuple:
    return (*row[:3], f"{row[3]:.6g}", *map(in_words, row[4:]))


def _write_parquet(path: str, columns: Sequence[str], rows: Iterable[tuple]) -> None:
    polars = require("polars", "data", f"writing {path}")
    with files.whole(path) as aside:
        parts = Path(tempfile.mkdtemp(prefix="lists.", dir=Path(aside).parent))
        try:
            number, part = 0, []

            def flush():
                frame = polars.DataFrame(
                    [(*row[:4], *map(in_words, row[4:])) for row in part], schema=list(columns), orient="row"
                )
                frame.with_columns(polars.col("score").cast(polars.Float32)).write_parquet(
                    parts / f"{number:06d}.parquet"
                )

            for row in rows:
                part.append(row)
                if len(part) == PART:
                    flush()
                    number, part = number + 1, []
            if part or not number:
                flush()
            polars.scan_parquet(parts / "*.parquet").sink_parquet(aside, row_group_size=PART)
        finally:
            shutil.rmtree(parts, ignore_errors=True)
