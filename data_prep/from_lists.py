"""Makes a bundle from lists: `python data_prep/from_lists.py --train=FILE --test=FILE --features=image=FILE.npy --output=DIR`.

A line is a user and then the user's items, divided by blanks, as LightGCN's train.txt and test.txt. Features are .npy files
whose row n is item n, or .npz files with ids.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from sea_jax import bundle as bundles
from sea_jax import bundle_file, cli
from sea_jax.errors import SeaError
from sea_jax.raw.lines import Skips, Tell, silent
from sea_jax.raw.prepare import Source, prepare
from sea_jax.raw.reader import Reader
from sea_jax.raw.recipe import Recipe


def source(
    train: str, *, skips: Skips, held: Mapping[int, str], features: Sequence[str], tell: Tell = silent
) -> Source:
    """The lists of training, and of validation (1) and test (2) if they are given."""
    held = {label: path for label, path in held.items() if path}
    reader = Reader(skips, tell)
    for label, path in {0: train, **held}.items():
        reader.read_lists(path, label if held else None)
    if any("=" not in entry for entry in features):
        raise SeaError(f"--features={','.join(features)} must be MODALITY=FILE, divided by commas.")
    ready = dict(entry.split("=", 1) for entry in features)
    table = dataclasses.replace(reader.table(), ordered=True)
    return Source(Path(train).resolve().parent.name, table, None, [train, *held.values()], ready)


def main(argv: list[str]) -> int:
    del argv
    values, recipe = cli.FLAGS, cli.from_flags(Recipe)
    bundle_file.check_output(values.output)
    skips, progress = Skips(values.strict), cli.Progress()
    found = source(
        values.train, skips=skips, held={1: values.valid, 2: values.test}, features=values.features, tell=progress
    )
    if values.valid or values.test:
        recipe = dataclasses.replace(recipe, split="given")
    bundle = prepare(found, recipe, skips, progress)
    bundle.save(values.output)
    print(bundles.describe(bundle))
    print(f"wrote {values.output}")
    return 0


if __name__ == "__main__":
    flags = cli.flags
    flags.DEFINE_string("train", None, "lists of training items, or of all, which --split then divides", required=True)
    flags.DEFINE_string("valid", "", "lists of validation items")
    flags.DEFINE_string("test", "", "lists of test items")
    flags.DEFINE_list("features", [], "features: MODALITY=FILE each, .npy (row n is item n) or .npz with ids")
    flags.DEFINE_string("output", None, "folder to write the bundle into", required=True)
    flags.DEFINE_bool("strict", False, "a line that cannot be used is an error")
    cli.define_flags(Recipe)
    cli.run(main)
