"""Encodes texts, pictures and sound: `python data_prep/encode.py --items=FILE --text_columns=title --output=DIR`.

FILE is a CSV, TSV, JSON lines (each also gzipped) or Parquet table with one item a row. Without it, the files in
--image_root (or --audio_root) are the items. DIR receives MODALITY_feat.npy with a row per item (zeros where an item
lacks the modality), items.txt with the ids in that order, and encoding.json: what was done, and which items lack what.

Encoders: text tfidf, minilm, minilm:FOLDER, sentence-transformers:NAME, clip:NAME; image colours (weak, needs no
weights), torchvision:MODEL, clip:NAME; audio logmel.
"""

import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from sea_jax import cli, files
from sea_jax.errors import SeaError
from sea_jax.raw import encoders, tables
from sea_jax.raw.encoders import rows
from sea_jax.raw.lines import Skips


def read_table(path: Path, skips: Skips | None = None) -> dict[str, list[Any]]:
    """The columns of an item table: strings, lists of strings, or None; never numbers, so that "007" stays.

    Raises: SeaError naming the file; lines that cannot be used are counted in `skips`, or an error without.
    """
    if not path.is_file():
        raise SeaError(f"{path} is not there.")
    name = Path(path.name.removesuffix(".gz"))
    if name.suffix.lower() not in tables.ENDINGS:
        raise SeaError(f"{path} must end in {', '.join(tables.ENDINGS)}; all but Parquet may have .gz after it.")
    table = tables.layout(path)
    records = [row for _, row in tables.records(table, skips or Skips(strict=True)) if row is not None]
    names = table.columns if table.kind != "json" else dict.fromkeys(name for row in records for name in row)
    return {name: [_cell(row.get(name)) for row in records] for name in names}


def _cell(value):
    if value is None or isinstance(value, str):
        return value or None
    return [_cell(each) for each in value] if isinstance(value, list) else str(value)


def choose(table: dict[str, list], name: str, flag: str) -> list:
    """A column of the table; raises SeaError naming the columns that there are."""
    if name not in table:
        raise SeaError(f"--{flag}={name} is no column of the items; there are {', '.join(table)}.")
    return table[name]


def item_ids(table: dict[str, list], column: str) -> list[str]:
    """The ids of the items; raises SeaError if they are missing, repeated, or hold line ends."""
    if not column:
        bare = {tables.bare(name): name for name in reversed(table)}
        column = next((bare[name] for name in (*tables.USUAL["item"], "id") if name in bare), "")
        if not column:
            raise SeaError(f"--id_column must name the column of the items' ids; there are {', '.join(table)}.")
        print(f"the items' ids are taken from the column {column}")
    ids = choose(table, column, "id_column")
    if not ids:
        raise SeaError("the table of items is empty.")
    seen: dict[str, int] = {}
    for row, id in enumerate(ids):
        if not isinstance(id, str) or not id or len(id.splitlines()) > 1:
            raise SeaError(f"row {row} of the items has the id {id!r}, which must be a text of one line.")
        if seen.setdefault(id, row) != row:
            raise SeaError(f"rows {seen[id]} and {row} of the items have the same id {id}; keep one.")
    return ids


def collect(values) -> tuple[list[str], dict[str, tuple[list, Path | None]]]:
    """The items' ids and, by modality asked for, its cells and the folder that their paths are relative to."""
    columns, roots = {}, {}
    for modality in ("image", "audio"):
        root = getattr(values, f"{modality}_root")
        roots[modality] = Path(root) if root else None
        if root and not roots[modality].is_dir():
            raise SeaError(f"--{modality}_root={root} is no folder.")
    if values.items:
        path = Path(values.items)
        skips = Skips(values.strict)
        table = read_table(path, skips)
        for sentence in skips.sentences():
            print(sentence)
        ids = item_ids(table, values.id_column)
        if values.text_columns:
            chosen = {name: choose(table, name, "text_columns") for name in values.text_columns}
            texts, empty = rows.join_columns(chosen, values.text_template)
            print("texts: " + ", ".join(f"{name} is empty in {count} of {len(ids)}" for name, count in empty.items()))
            columns["text"] = texts, None
        for modality, root in roots.items():
            column = getattr(values, f"{modality}_column")
            if column:
                cells = rows.split_paths(choose(table, column, f"{modality}_column"), values.path_separator)
                columns[modality] = cells, root or path.parent
            elif root:
                found = rows.files_by_name(root)
                columns[modality] = [found.get(id) for id in ids], root
    else:
        found = {modality: rows.files_by_name(root) for modality, root in roots.items() if root}
        ids = sorted({id for files in found.values() for id in files})
        columns = {modality: ([files.get(id) for id in ids], roots[modality]) for modality, files in found.items()}
    if not columns:
        raise SeaError(
            "there is nothing to encode; name --items and --text_columns, --image_column or --audio_column, or --image_root."
        )
    return ids, columns


class Progress:
    """A bar on a terminal; in a log a line now and then."""

    def __init__(self, title: str):
        self.title, self.bar, self.told = title, None, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        if self.bar is None:
            self.bar = tqdm(total=total, desc=self.title, disable=not sys.stderr.isatty(), leave=False)
        if not self.bar.disable:
            self.bar.update(done - self.bar.n)
        elif time.monotonic() - self.told > 30:
            self.told = time.monotonic()
            print(f"{self.title}: {done} of {total}", flush=True)
        if done == total:
            self.bar.close()


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    ids, columns = collect(values)
    # Before anything is computed: a misspelt encoder or a missing package is told at once.
    chosen = {
        modality: encoders.get(modality, getattr(values, f"{modality}_encoder"), device=values.device)
        for modality in columns
    }
    output = files.folder(values.output)
    cache = encoders.Cache(values.cache) if values.cache else None
    record = {"items": len(ids), "modalities": {}}
    for modality, (cells, root) in columns.items():
        start = time.monotonic()
        encoded = chosen[modality].encode(cells, Progress(modality), cache=cache, root=root)
        for line in encoded.sentences(ids):
            print(f"{modality}: {line}")
        print(f"{modality}: {time.monotonic() - start:.1f} s")
        missing = [ids[row] for row in np.flatnonzero(encoded.missing)]
        record["modalities"][modality] = {**encoded.record(), "missing_items": missing}
        with files.whole(output / f"{modality}_feat.npy") as aside, open(aside, "wb") as file:
            np.save(file, encoded.features)
    files.write_text(output / "items.txt", "".join(f"{id}\n" for id in ids))
    files.write_json(output / "encoding.json", record)
    print(f"wrote {os.fspath(output)}")
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("items", "", "table of items: .csv, .tsv, .jsonl, .parquet")
    flags.DEFINE_string("output", None, "folder to write the features into", required=True)
    flags.DEFINE_bool("strict", False, "a line that cannot be used is an error")
    flags.DEFINE_string("id_column", "", "column of the items' ids; guessed from usual names")
    flags.DEFINE_list("text_columns", [], "columns whose texts are joined, in this order")
    flags.DEFINE_string("text_template", "", 'how, such as "{title}. {brand}"; by spaces without')
    flags.DEFINE_string("text_encoder", "tfidf", "tfidf, minilm[:FOLDER], sentence-transformers:NAME, clip:NAME")
    flags.DEFINE_string("image_column", "", "column of picture files; those named after the ids without")
    flags.DEFINE_string("image_root", "", "folder their paths are relative to; that of --items")
    flags.DEFINE_string("image_encoder", "colours", "colours, torchvision:MODEL[@FILE], clip:NAME")
    flags.DEFINE_string("audio_column", "", "column of sound files; those named after the ids without")
    flags.DEFINE_string("audio_root", "", "folder their paths are relative to; that of --items")
    flags.DEFINE_string("audio_encoder", "logmel", "logmel")
    flags.DEFINE_string("path_separator", "|", "between several files in one cell")
    flags.DEFINE_enum("device", "", ["", "cpu", "gpu", "tpu"], "cpu, gpu or tpu; the best there is without")
    flags.DEFINE_string("cache", "", "folder that keeps encoded rows by content, so that a killed run goes on")
    cli.run(main)
