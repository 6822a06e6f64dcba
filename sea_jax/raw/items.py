"""An item table's rows for the ids that are wanted: titles, texts, files, ready-made features."""

import dataclasses
import html
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from sea_jax.errors import SeaError
from sea_jax.raw.lines import Skips
from sea_jax.raw.tables import paths_of, text_of

CONTENTS = ("image", "text", "audio")
SHOWN_TITLE = 200  # characters kept of a title
BLANKS = "joined by blanks"  # what the manifest says in place of a template


@dataclasses.dataclass
class Items:
    """What is known of items, a row for each id asked for.

    titles, texts: "" where there is none. files: by modality, paths. places: row in the table, -1 if it has none.
    rows: of the table. features: by modality, (features, mask of those that lack it). notes: what was found, in words.
    about: what the manifest records. pictures: for showing, where they are not the files. categories: "" for none.
    """

    ids: Sequence[str]
    titles: list[str]
    texts: list[str]
    files: dict[str, list[tuple[str, ...]]]
    places: np.ndarray
    rows: int = 0
    features: dict[str, tuple[np.ndarray, np.ndarray]] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    about: dict = dataclasses.field(default_factory=dict)
    pictures: list[str] = dataclasses.field(default_factory=list)
    categories: list[str] = dataclasses.field(default_factory=list)

    def contents(self, modality: str) -> list:
        """What an encoder takes: texts, or paths."""
        return self.texts if modality == "text" else self.files.get(modality, [()] * len(self.ids))

    def have(self, modality: str) -> np.ndarray:
        """(I,) bool, which items have it."""
        if modality in self.features:
            return ~self.features[modality][1]
        return np.array([bool(content) for content in self.contents(modality)], bool)

    def select(self, rows: Sequence[int]) -> "Items":
        """The items of these rows, in this order."""
        rows = list(rows)
        return dataclasses.replace(
            self,
            ids=[self.ids[row] for row in rows],
            titles=[self.titles[row] for row in rows],
            texts=[self.texts[row] for row in rows],
            files={name: [paths[row] for row in rows] for name, paths in self.files.items()},
            places=self.places[rows],
            pictures=[self.pictures[row] for row in rows] if self.pictures else [],
            categories=[self.categories[row] for row in rows] if self.categories else [],
            features={name: (x[rows], mask[rows]) for name, (x, mask) in self.features.items()},
        )


def none(ids: Sequence[str]) -> Items:
    """Items of which nothing is known."""
    blank = [""] * len(ids)
    return Items(ids, blank, list(blank), {}, np.full(len(ids), -1))


def collect(
    records: Iterable[tuple[int, dict | None]],
    ids: Sequence[str],
    path: Path,
    skips: Skips,
    *,
    item: str,
    title: str = "",
    category: str = "",
    texts: Sequence[str] = (),
    files: dict[str, str] | None = None,
    template: str = "",
    parts: Callable[[dict], tuple[str, str]] | None = None,
    unit: str = "line",
) -> Items:
    """The rows of an item table for these ids; of an item that comes twice the first row counts.

    Args:
      records: (line, values by column), None for a row that was skipped.
      ids: of the items wanted.
      path, skips, unit: for what is skipped.
      item: the column of ids.
      title, category, texts, files: the columns of the title, of the category, of the texts that make an item's text, of
        paths by modality.
      template: how the texts make it, such as "{title}. {brand}"; joined by blanks without.
      parts: instead of title and texts, a function of a record that gives both.
    Raises: SeaError if the table has none of the ids.
    """
    strange = [name for name in template_columns(template) if name not in texts]
    if strange:
        raise SeaError(
            f"--text_template names {strange[0]}, and the columns of texts are {', '.join(texts) or 'none'}."
        )
    number = {name: place for place, name in enumerate(ids)}
    found = none(ids)
    if parts is None:
        columns = {"item": item, "title": title, "category": category, **(files or {})}
        found.about = {"text_columns": list(texts), "template": template or BLANKS, "columns": columns}
    found.files = {name: [()] * len(ids) for name in files or {}}
    found.categories = [""] * len(ids) if category else []
    make = parts or (lambda record: (text_of(record.get(title)), join(record, texts, template)))
    for line, record in records:
        found.rows += 1
        if record is None:
            continue
        name = id_of(record.get(item))
        if not name:
            skips.add(path, f"no {item}", line, unit)
            continue
        place = number.get(name)
        if place is None:
            continue
        if found.places[place] >= 0:
            skips.add(path, "an item that an earlier line has", line, unit)
            continue
        found.places[place] = found.rows - 1
        found.titles[place], found.texts[place] = map(html.unescape, make(record))
        if category:
            found.categories[place] = text_of(record.get(category))
        for modality, column in (files or {}).items():
            found.files[modality][place] = paths_of(record.get(column))
    absent = int((found.places < 0).sum())
    if absent == len(ids):
        wrong = f" ({skips.count(path)} lines were skipped: {skips.sentences()[-1]})" if skips.count(path) else ""
        raise SeaError(
            f"{path} has none of the {len(ids)} items, such as {ids[0]!r}{wrong}; is {item} the column of the same ids?"
        )
    if absent:
        example = ids[int(np.flatnonzero(found.places < 0)[0])]
        found.notes.append(f"{Path(path).name}: {absent} of {len(ids)} items are not in it, such as {example}")
    return found


def id_of(value) -> str:
    """A cell as an item's id; empty for none."""
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None or isinstance(value, float | list | dict | bool) else str(value).strip()


def join(record: dict, columns: Sequence[str], template: str = "") -> str:
    """An item's text: its columns by the template, or joined by blanks; empty if all of them are."""
    values = {name: text_of(record.get(name)) for name in columns}
    if not any(values.values()):
        return ""
    if not template:
        return " ".join(filter(None, values.values()))
    return " ".join(re.sub(r"\{([^{}]+)\}", lambda match: values[match[1]], template).split())


def named_files(pattern: str, ids: Sequence[str], flag: str, root: str = "") -> list[tuple[str, ...]]:
    """The file of each item whose name follows from its id, such as covers/{item}.jpg; none where it is not there.

    Paths are relative to `root`, or as they are without.
    """
    if "{item}" not in pattern:
        raise SeaError(f"{flag}={pattern} must contain {{item}}, which stands for an item's id.")
    found = [file_named(pattern, name, root) for name in ids]
    if not any(found):
        raise SeaError(f"{flag}={pattern}: no such file for any item, such as {pattern.replace('{item}', ids[0])}.")
    return found


def file_named(pattern: str, name: str, root: str = "") -> tuple[str, ...]:
    """The file of one item by its name, see `named_files`."""
    path = pattern.replace("{item}", name)
    safe = "/" not in name and "\\" not in name and name not in (".", "..")
    return (path,) if safe and Path(root, path).is_file() else ()


def recorded(pattern: str) -> str:
    """A pattern of files as a manifest keeps it: without the path of one machine."""
    return Path(pattern).name if Path(pattern).is_absolute() else pattern


def template_columns(template: str) -> list[str]:
    """The columns that a template names."""
    return re.findall(r"\{([^{}]+)\}", template)
