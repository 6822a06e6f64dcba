"""Makes a bundle from your own tables: `python data_prep/from_tables.py --interactions=FILE --items=FILE --output=DIR`.

Tables are CSV, TSV, JSON lines or Parquet, also gzipped. Columns with usual names (user_id, userId, reviewerID, ...) are
found; flags name others. Items bring texts, paths of pictures or sounds, or ready-made features. docs/your_data.md tells more.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sea_jax import bundle as bundles
from sea_jax import bundle_file, cli
from sea_jax.errors import SeaError
from sea_jax.raw import items as contents
from sea_jax.raw import tables
from sea_jax.raw.lines import Skips, Tell, silent
from sea_jax.raw.prepare import Source, prepare
from sea_jax.raw.reader import Reader
from sea_jax.raw.recipe import Recipe

ROLES = ("user", "item", "time", "rating", "split")


def source(
    interactions: str,
    items: str = "",
    *,
    skips: Skips,
    named: Mapping[str, str] | None = None,
    held: Mapping[int, str] | None = None,
    also: Sequence[str] = ("time",),
    text_columns: Sequence[str] = (),
    features: Sequence[str] = (),
    image_files: str = "",
    audio_files: str = "",
    template: str = "",
    roots: Mapping[str, str] | None = None,
    time_format: str = "",
    tell: Tell = silent,
    say: Callable[[str], None] = lambda words: None,
    **layout,
) -> Source:
    """The tables.

    Args:
      interactions, items: files.
      named: columns by role (user, item, time, rating, split; item_id, title, image, audio of the items), where names
        are not usual ones; "none" for a usual one that is not meant.
      also: roles beyond user and item that are looked for without being named.
      held: files of validation (1) and test (2) interactions, if the split is given so.
      text_columns: of the items; those of usual names without.
      features: MODALITY=FILE each.
      image_files, audio_files: files named by item, such as covers/{item}.jpg.
      roots: by modality, the folder that paths are relative to; that of `items` without.
      say: is told which columns were taken.
      layout: see tables.layout.
    """
    named = {role: column for role, column in (named or {}).items() if column}
    files = {0: interactions, **{label: path for label, path in (held or {}).items() if path}}
    reader = Reader(skips, tell, time_format)
    for label, path in files.items():
        table = tables.layout(path, **layout)
        roles = {
            role: tables.find(table, role, named.get(role, ""), needed=role in ROLES[:2])
            for role in ROLES
            if named.get(role) != "none" and (role in named or role in (*ROLES[:2], *also))
        }
        if len(files) > 1:
            roles.pop("split", None)
        say(f"{path}: {', '.join(f'{role} is {column}' for role, column in roles.items() if column)}")
        reader.read(table, roles, label if len(files) > 1 else None)
    ready = {}
    for entry in features:
        modality, equals, path = entry.partition("=")
        if not equals or modality in ready:
            raise SeaError(f"--features={entry} must be MODALITY=FILE, each modality once.")
        ready[modality] = path
    how = None
    if items:
        table = tables.layout(items, **layout)

        def find(role: str, needed: bool = False, usual: str = "") -> str | None:
            if named.get(role) == "none":
                return None
            return tables.find(table, usual or role, named.get(role, ""), needed=needed, flag=f"--{role}_column")

        key, title = find("item_id", True, "item"), find("title")
        texts = [tables.find(table, "text", name, flag="--text_columns") for name in text_columns]
        if not text_columns:
            named_by = contents.template_columns(template)
            texts = [tables.find(table, "text", name, flag="--text_template") for name in named_by] or _usual_texts(
                table
            )
        how = {"item": key, "title": title or "", "category": find("category") or "", "texts": texts}
        how["files"] = {modality: column for modality in ("image", "audio") if (column := find(modality))}
        say(
            f"{items}: item is {key}, text is {'+'.join(texts) or 'none'}"
            + "".join(f", {m} is {c}" for m, c in how["files"].items())
        )

    def read(ids, training):
        if how is None:
            found = contents.none(ids)
        else:
            unit = "row" if table.kind == "parquet" else "line"
            rows = tables.records(table, skips, tell)
            found = contents.collect(rows, ids, Path(items), skips, template=template, unit=unit, **how)
            for modality, paths in found.files.items():
                if not (roots or {}).get(modality):
                    found.files[modality] = [tuple(str(Path(items).parent / path) for path in of) for of in paths]
            said = {name: value for name, value in layout.items() if value not in ("", True, None)}
            found.about |= {"layout": said} if said else {}
        for modality, pattern in (("image", image_files), ("audio", audio_files)):
            if pattern:
                found.files[modality] = contents.named_files(
                    pattern, ids, f"--{modality}_files", (roots or {}).get(modality, "")
                )
                found.about.setdefault("named_files", {})[modality] = contents.recorded(pattern)
        return found

    name = Path(interactions).name.split(".")[0]
    return Source(name, reader.table(), read, [*files.values(), *([items] if items else [])], ready)


def _usual_texts(table: tables.Layout) -> list[str]:
    bare = {tables.bare(column): column for column in reversed(table.columns)}
    return list(dict.fromkeys(bare[name] for name in tables.USUAL["text"] if name in bare))


def main(argv: list[str]) -> int:
    del argv
    values, recipe = cli.FLAGS, cli.from_flags(Recipe)
    bundle_file.check_output(values.output)
    skips, progress = Skips(values.strict), cli.Progress()
    named = {
        role: values[f"{role}_column"].value for role in (*ROLES, "item_id", "title", "category", "image", "audio")
    }
    also = ["time", *["rating"] * (recipe.min_rating is not None), *["split"] * (recipe.split == "given")]
    found = source(
        values.interactions, values.items, skips=skips, named=named, held={1: values.valid, 2: values.test}, also=also,
        text_columns=values.text_columns, features=values.features, image_files=values.image_files,
        audio_files=values.audio_files, template=recipe.text_template,
        roots={"image": recipe.image_root, "audio": recipe.audio_root}, time_format=values.time_format, tell=progress,
        say=print, delimiter=values.delimiter.replace("\\t", "\t"), header=values.header, encoding=values.encoding,
    )  # fmt: skip
    if values.valid or values.test:
        recipe = dataclasses.replace(recipe, split="given")
    bundle = prepare(found, recipe, skips, progress)
    bundle.save(values.output)
    print(bundles.describe(bundle))
    print(f"wrote {values.output}")
    return 0


if __name__ == "__main__":
    flags = cli.flags
    flags.DEFINE_string(
        "interactions", None, "table of interactions: user, item, and perhaps time, rating", required=True
    )
    flags.DEFINE_string("valid", "", "table of validation interactions, where the split is given by files")
    flags.DEFINE_string("test", "", "table of test interactions")
    flags.DEFINE_string("items", "", "table of items: item, and texts, paths of pictures or sounds")
    flags.DEFINE_string("output", None, "folder to write the bundle into", required=True)
    for role in ROLES:
        flags.DEFINE_string(
            f"{role}_column", "", f"column of the {role} among the interactions; none: there is no such"
        )
    flags.DEFINE_string("item_id_column", "", "column of the item in the table of items")
    flags.DEFINE_string("title_column", "", "column of titles, for showing")
    flags.DEFINE_string("category_column", "", "column of categories, for lists of some of them")
    flags.DEFINE_list("text_columns", [], "columns that make an item's text, in this order")
    flags.DEFINE_string("image_column", "", "column of paths of pictures, several divided by |")
    flags.DEFINE_string("audio_column", "", "column of paths of sounds")
    flags.DEFINE_string("image_files", "", "pictures named by item, such as covers/{item}.jpg")
    flags.DEFINE_string("audio_files", "", "sounds named by item")
    flags.DEFINE_list("features", [], "ready-made features: image=FILE.npy (a row per row of --items) or .npz with ids")
    flags.DEFINE_string("delimiter", "", "between cells; found by itself for , ; | :: and tab")
    flags.DEFINE_bool("header", True, "whether the first line names the columns; without they are called 1, 2, ...")
    flags.DEFINE_string("encoding", "", "of text, such as latin-1; UTF-8 without")
    flags.DEFINE_string("time_format", "", "of times that are no numbers and no ISO dates, such as %d.%m.%Y")
    flags.DEFINE_bool("strict", False, "a line that cannot be used is an error")
    cli.define_flags(Recipe)
    cli.run(main)
