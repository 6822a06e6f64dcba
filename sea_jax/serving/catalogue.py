"""Ids as they stand in addresses and JSON, search over ids and titles, the pictures that may be shown. NumPy alone."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sea_jax import bundle_file, files
from sea_jax.errors import SeaError

PICTURES = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
}


def id_of(given: Any, ids: np.ndarray) -> Any:
    """The id that a string of an address, or a string or integer of JSON, stands for; None where it can be none.

    Args:
      given: "17" and 17 are the same id, whether the catalogue's ids are integers or strings.
      ids: the catalogue's, int64 or str.
    """
    if isinstance(given, bool) or not isinstance(given, int | str):
        return None
    if ids.dtype.kind == "U":
        return str(given)
    if isinstance(given, str):
        return int(given) if re.fullmatch(r"0|-?[1-9][0-9]{0,18}", given) else None
    return given


class Index:
    """Finds texts that contain a few letters, whatever their case, the earliest first."""

    def __init__(self, lines: Sequence[str]):
        folded = [line.casefold().replace("\n", " ") for line in lines]
        self._text = "\n".join(folded)
        self._starts = np.cumsum([0, *(len(line) + 1 for line in folded)])[:-1]

    def find(self, letters: str, limit: int) -> list[int]:
        """Numbers of at most `limit` lines that contain the letters; the first lines where there are none."""
        wanted = letters.casefold().strip().replace("\n", " ")
        if not wanted:
            return list(range(min(limit, len(self._starts))))
        found, at = [], self._text.find(wanted)
        while at >= 0 and len(found) < limit:
            line = int(np.searchsorted(self._starts, at, side="right")) - 1
            found.append(line)
            at = self._text.find(wanted, int(self._starts[line + 1])) if line + 1 < len(self._starts) else -1
        return found


def pictures(data_dir: str | os.PathLike, root: str | os.PathLike, item_ids: np.ndarray) -> dict[int, Path]:
    """The pictures of a bundle's items that may be shown, by the items' numbers; only what this table names is opened.

    Args:
      data_dir: the bundle.
      root: the folder with the pictures, to which the bundle's paths are relative, if not to the working directory; what
        lies elsewhere, links followed, is left out.
      item_ids: of the recommender, whose numbers are the keys.
    Raises: SeaError where `root` is no folder.
    """
    if not Path(root).is_dir():
        raise SeaError(f"--image_root={root} is no folder.")
    ids, shown = bundle_file.load_shown(data_dir)
    number = dict(zip(item_ids.tolist(), range(len(item_ids)), strict=True))
    found = {}
    for one, path in zip(ids.tolist(), shown.get("pictures", np.array([], np.str_)).tolist(), strict=False):
        if one not in number or Path(path).suffix.lower() not in PICTURES or "\0" in path:
            continue
        file = files.within(root, path)
        if file is not None:
            found[number[one]] = file
    return found
