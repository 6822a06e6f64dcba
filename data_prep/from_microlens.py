"""Makes a bundle from MicroLens: `python data_prep/from_microlens.py --pairs=FILE --titles=FILE --covers=DIR --output=DIR`.

Pairs are MicroLens-*_pairs.csv (user, item, milliseconds) or *_pairs.tsv (a user and the items, oldest first). Titles are lines
`item,title`, whose titles may hold commas. Covers are DIR/ITEM.jpg. Extracted features are .npy files whose row r is item r + 1.
Likes, views and comments are not read: they come from users and would tell of held-out interactions.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from sea_jax import bundle as bundles
from sea_jax import bundle_file, cli
from sea_jax.errors import SeaError
from sea_jax.raw import features as rows
from sea_jax.raw import items as contents
from sea_jax.raw import lines, tables
from sea_jax.raw.lines import Skips, Tell, silent
from sea_jax.raw.prepare import Source, prepare
from sea_jax.raw.reader import Reader
from sea_jax.raw.recipe import Recipe

HEADER = ("item", "id", "itemid", "videoid")  # of a file of titles that has one


def titles(path: str, skips: Skips, tell: Tell) -> Iterator[tuple[int, dict | None]]:
    """(line, item and title) of a file of titles, divided at the first comma."""
    for number, line in lines.each(path, tell=tell):
        try:
            item, comma, title = line.decode("utf-8").partition(",")
        except UnicodeDecodeError:
            item, comma, title = "", "", ""
        if number == 1 and tables.bare(item) in HEADER:
            continue
        if not comma or not item.strip():
            skips.add(path, "no item,title", number)
            yield number, None
        else:
            yield number, {"item": item, "title": title.strip()}


def source(
    pairs: str,
    *,
    skips: Skips,
    title_file: str = "",
    covers: str = "",
    features: Sequence[str] = (),
    tell: Tell = silent,
) -> Source:
    """The tables; see the flags."""
    reader = Reader(skips, tell)
    if Path(pairs).name.removesuffix(".gz").endswith(".tsv"):
        reader.read_lists(pairs)
    else:
        table = tables.layout(pairs)
        if len(table.columns) != 3:
            raise SeaError(f"{pairs} must have three columns, user, item and time; it has {', '.join(table.columns)}.")
        reader.read(table, dict(zip(("user", "item", "time"), table.columns, strict=True)))
    ready = dict(entry.partition("=")[::2] for entry in features)

    def read(ids, training):
        found = contents.none(ids)
        if title_file:
            found = contents.collect(
                titles(title_file, skips, tell),
                ids,
                Path(title_file),
                skips,
                item="item",
                title="title",
                texts=("title",),
            )
        if covers:
            found.files["image"] = contents.named_files(f"{covers}/{{item}}.jpg", ids, "--covers")
            found.about["named_files"] = {"image": contents.recorded(f"{covers}/{{item}}.jpg")}
        for modality, path in ready.items():
            x, _ = rows.read(path)
            if not all(name.isascii() and name.isdigit() and 0 < int(name) <= len(x) for name in ids):
                raise SeaError(f"{path} has rows of items 1 to {len(x)}, and the pairs name others.")
            found.features[modality] = x[np.array([int(name) - 1 for name in ids])], np.zeros(len(ids), bool)
        return found

    for modality in ready:
        bundle_file.check_modality(modality)
    table = dataclasses.replace(reader.table(), ordered=True)
    used = [pairs, *filter(None, (title_file,)), *ready.values()]
    return Source(Path(pairs).name.split("_")[0], table, read, used)


def main(argv: list[str]) -> int:
    del argv
    values, recipe = cli.FLAGS, cli.from_flags(Recipe)
    bundle_file.check_output(values.output)
    skips, progress = Skips(values.strict), cli.Progress()
    found = source(
        values.pairs,
        skips=skips,
        title_file=values.titles,
        covers=values.covers,
        features=values.features,
        tell=progress,
    )
    bundle = prepare(found, recipe, skips, progress)
    bundle.save(values.output)
    print(bundles.describe(bundle))
    print(f"wrote {values.output}")
    return 0


if __name__ == "__main__":
    flags = cli.flags
    flags.DEFINE_string("pairs", None, "MicroLens-*_pairs.csv or *_pairs.tsv", required=True)
    flags.DEFINE_string("titles", "", "lines of item,title")
    flags.DEFINE_string("covers", "", "folder of ITEM.jpg")
    flags.DEFINE_list("features", [], "extracted features: MODALITY=FILE.npy each, row r being item r + 1")
    flags.DEFINE_string("output", None, "folder to write the bundle into", required=True)
    flags.DEFINE_bool("strict", False, "a line that cannot be used is an error")
    cli.define_flags(Recipe)
    cli.run(main)
