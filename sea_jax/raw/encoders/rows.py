"""From an item table's cells to what encoders take: one text per item, the files of each item."""

import html
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sea_jax.errors import SeaError
from sea_jax.raw.encoders.base import blank


def join_columns(columns: Mapping[str, Collection[Any]], template: str = "") -> tuple[list[str | None], dict[str, int]]:
    """One text per item from several columns.

    A cell may be a string, a list of strings (joined by a space), or missing. HTML entities are resolved and white
    space, line ends too, becomes single spaces.

    Args:
      columns: name -> cells, in the order to join.
      template: such as "{title}. {brand}"; a missing cell is empty in it. Without one, the cells that are not empty
        are joined by a space.
    Returns: texts, None where every cell is missing; by column, how many cells are.
    Raises: SeaError if the template names another column, or the columns differ in length.
    """
    if len({len(cells) for cells in columns.values()}) != 1:
        raise SeaError(f"the text columns {', '.join(columns)} must be of one length.")
    if template:
        try:
            template.format(**dict.fromkeys(columns, ""))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise SeaError(
                f"the template {template!r} may name the columns {', '.join(columns)} in braces, and {error} is wrong."
            ) from error
    cleaned = {name: [_clean(cell) for cell in cells] for name, cells in columns.items()}
    texts: list[str | None] = []
    for cells in zip(*cleaned.values(), strict=True):
        named = dict(zip(columns, cells, strict=True))
        text = template.format(**named) if template else " ".join(filter(None, cells))
        texts.append(" ".join(text.split()) if any(cells) else None)
    return texts, {name: sum(not cell for cell in cells) for name, cells in cleaned.items()}


def _clean(cell) -> str:
    if isinstance(cell, list | tuple | np.ndarray):
        return " ".join(filter(None, map(_clean, cell)))
    return "" if blank(cell) else " ".join(html.unescape(str(cell)).split())


def split_paths(cells: Collection[Any], separator: str = "|") -> list[Any]:
    """The paths of each item: a list cell as it is, a string cell cut at the separator, None where there is none."""
    return [
        [path.strip() for path in cell.split(separator)] if isinstance(cell, str) and separator else cell
        for cell in cells
    ]


def files_by_name(root: str | os.PathLike) -> dict[str, list[str]]:
    """The files of a folder by name without ending, paths relative to it, in order of name.

    A file in a subfolder is named after both, `shoes/7`; hidden files are left out.

    Raises: SeaError if there is no such folder, or nothing in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise SeaError(f"{root} is no folder.")
    found: dict[str, list[str]] = {}
    for path in sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file()):
        if not any(part.startswith(".") for part in path.parts):
            found.setdefault(path.with_suffix("").as_posix(), []).append(path.as_posix())
    if not found:
        raise SeaError(f"{root} has no files.")
    return found
