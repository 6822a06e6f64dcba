"""Makes a bundle from RecBole's atomic files: `python data_prep/from_recbole.py --source=DIR --output=DIR`.

DIR holds X.inter, or X.train.inter, X.valid.inter and X.test.inter, and perhaps X.item and other files keyed by item: their
token_seq columns are texts, their float_seq columns features, each a modality of its name. Histories (an ITEM_list column
of sequential data) are training interactions, but for those that a split holds out; with times they are not read.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from sea_jax import bundle as bundles
from sea_jax import bundle_file, cli
from sea_jax.errors import SeaError
from sea_jax.raw import items as contents
from sea_jax.raw import lines, tables
from sea_jax.raw.lines import Skips, Tell, silent
from sea_jax.raw.prepare import Source, prepare
from sea_jax.raw.reader import Reader
from sea_jax.raw.recipe import Recipe

ROLES = {"user": "user_id", "item": "item_id", "time": "timestamp", "rating": "rating"}
TYPES = ("token", "token_seq", "float", "float_seq")
SPLITS = {0: ".train.inter", 1: ".valid.inter", 2: ".test.inter"}


def types(path: Path) -> dict[str, str]:
    """The type of each column by its name."""
    first = next(lines.each(path), (1, b""))[1].decode("utf-8", "replace")
    found = dict(cell.strip().rpartition(":")[::2] for cell in first.split("\t"))
    wrong = next((f"{name}:{kind}" for name, kind in found.items() if kind not in TYPES or not name), None)
    if wrong is not None:
        raise SeaError(
            f"{path}: the column {wrong} has no type; RecBole's first lines are NAME:TYPE with {', '.join(TYPES)}."
        )
    return found


def vectors(path: Path, column: str, key: str, ids: Sequence[str], skips: Skips, tell: Tell):
    """(I, d) numbers of a float_seq column and a mask of the items without."""
    number = {name: place for place, name in enumerate(ids)}
    x, absent = None, np.ones(len(ids), bool)
    table = tables.layout(path, delimiter="\t")
    for line, record in tables.records(table, skips, tell):
        place = number.get(str((record or {}).get(key, "")).strip())
        if place is None:
            continue
        try:
            row = np.array(record[column].split(), np.float64)
        except ValueError:
            row = np.zeros(0)
        if not len(row) or (x is not None and len(row) != x.shape[1]):
            skips.add(path, f"{column} is no list of {x.shape[1] if x is not None else 'some'} numbers", line)
            continue
        x = np.zeros((len(ids), len(row))) if x is None else x
        x[place], absent[place] = row, False
    if x is None:
        raise SeaError(f"{path}: {column} has no numbers for any of the {len(ids)} items.")
    return x, absent


def rows(path: Path, *columns: str) -> Iterator[list[str]]:
    """The cells of these columns, once more: what is skipped was counted when the file was read."""
    for _, record in tables.records(tables.layout(path, delimiter="\t"), Skips()):
        yield [str((record or {}).get(name) or "").strip() for name in columns]


def read_histories(
    reader: Reader, path: Path, user: str, column: str, held_out: set[tuple[str, ...]], label: int | None
) -> None:
    """The items of each line's history as interactions of its user, but for pairs that a split holds out."""
    pairs = [
        (name, item)
        for name, items in rows(path, user, column)
        for item in items.split()
        if name and (name, item) not in held_out
    ]
    if pairs:
        reader.add(path, [name for name, _ in pairs], [item for _, item in pairs], label)


def source(
    folder: str,
    *,
    skips: Skips,
    item_column: str = "",
    user_column: str = "",
    text_columns: Sequence[str] = (),
    template: str = "",
    ratings: bool = False,
    tell: Tell = silent,
    say: Callable[[str], None] = lambda words: None,
) -> tuple[Source, bool]:
    """The tables, and whether the files give the split."""
    root = Path(folder)
    if not root.is_dir():
        raise SeaError(f"--source={folder} is no folder; name one with RecBole's atomic files.")
    inter = sorted(root.glob("*.inter"))
    parts = {label: [path for path in inter if path.name.endswith(ending)] for label, ending in SPLITS.items()}
    given = bool(parts[0])
    chosen = {label: paths for label, paths in parts.items() if paths} if given else {0: inter}
    if any(len(paths) != 1 for paths in chosen.values()):
        raise SeaError(f"--source={folder} must hold one .inter file, or one of each split; it holds {len(inter)}.")
    reader = Reader(skips, tell)
    histories = []
    usual = ROLES | {role: name for role, name in (("user", user_column), ("item", item_column)) if name}
    for label, (path,) in chosen.items():
        known = types(path)
        roles = {role: name for role, name in usual.items() if name in known and (ratings or role != "rating")}
        lacking = [usual[role] for role in ("user", "item") if role not in roles]
        if lacking:
            raise SeaError(
                f"{path} has no column {lacking[0]}; it has {', '.join(known)}: --user_column, --item_column."
            )
        lists = [name for name, kind in known.items() if kind == "token_seq"]
        history = f"{roles['item']}_list"
        if history in lists and "time" not in roles:
            lists.remove(history)
            histories.append((path, roles["user"], history))
        note = f" (not read: {', '.join(lists)})" if lists else ""
        say(f"{path}: {', '.join(f'{role} is {column}' for role, column in roles.items())}{note}")
        reader.read(tables.layout(path, delimiter="\t"), roles, label if given else None)
    held_out = {
        tuple(pair)
        for label, (path,) in chosen.items()
        if label and histories
        for pair in rows(path, usual["user"], usual["item"])
    }
    for path, user, history in histories:
        say(f"{path}: {history} is read as earlier interactions")
        read_histories(reader, path, user, history, held_out, 0 if given else None)
    stem = chosen[0][0].name.removesuffix(".inter").removesuffix(".train")
    others = [
        path
        for path in sorted(root.glob(f"{stem}.*"))
        if path not in inter and path.suffix not in (".user", ".kg", ".link", ".net")
    ]
    key = usual["item"]
    keyed = {path: known for path in others if path.is_file() and key in (known := types(path))}

    def read(ids, training):
        found = contents.none(ids)
        for path, known in keyed.items():
            texts = [name for name, kind in known.items() if kind == "token_seq"] if not text_columns else [
                name for name in text_columns if name in known
            ]  # fmt: skip
            if texts and not any(found.texts):
                title = next((name for name in texts if tables.bare(name) in tables.USUAL["title"]), texts[0])
                rows = tables.records(tables.layout(path, delimiter="\t"), skips, tell)
                had = found.features
                found = contents.collect(rows, ids, path, skips, item=key, title=title, texts=texts, template=template)
                found.features = had
            for column in (name for name, kind in known.items() if kind == "float_seq"):
                modality = column.removesuffix("_emb").removesuffix("_feat")
                bundle_file.check_modality(modality)
                found.features[modality] = vectors(path, column, key, ids, skips, tell)
        return found

    used = [path for paths in chosen.values() for path in paths]
    return Source(stem, reader.table(), read, [*used, *keyed]), given


def main(argv: list[str]) -> int:
    del argv
    values, recipe = cli.FLAGS, cli.from_flags(Recipe)
    bundle_file.check_output(values.output)
    skips, progress = Skips(values.strict), cli.Progress()
    found, given = source(
        values.source, skips=skips, item_column=values.item_column, user_column=values.user_column,
        text_columns=values.text_columns, template=recipe.text_template, ratings=recipe.min_rating is not None, tell=progress, say=print,
    )  # fmt: skip
    bundle = prepare(found, dataclasses.replace(recipe, split="given") if given else recipe, skips, progress)
    bundle.save(values.output)
    print(bundles.describe(bundle))
    print(f"wrote {values.output}")
    return 0


if __name__ == "__main__":
    flags = cli.flags
    flags.DEFINE_string("source", None, "folder of atomic files", required=True)
    flags.DEFINE_string("output", None, "folder to write the bundle into", required=True)
    flags.DEFINE_string("user_column", "", "column of users, where it is not user_id")
    flags.DEFINE_string("item_column", "", "column of items, where it is not item_id")
    flags.DEFINE_list("text_columns", [], "columns that make an item's text; without: the token_seq columns of X.item")
    flags.DEFINE_bool("strict", False, "a line that cannot be used is an error")
    cli.define_flags(Recipe)
    cli.run(main)
