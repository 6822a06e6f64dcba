"""Top-k lists in the original ids: `python experiments/recommend.py --workdir=DIR --k=20 --output=FILE.csv`.

For all users or those of --users, or for strangers with --baskets (a csv file: user,item[,weight]). A user's training items
are left out unless --noexclude_seen. Items held out for validation and test are not: lists for a shop want a model that was
trained on everything, from a bundle made with --split=random --ratios=1,0,0. --new_items adds items that came after training:
rows of a table like the dataset's own, or a folder of vectors; --save=FILE keeps the recommender that knows them.
"""

import sys
from pathlib import Path

from absl import flags
from tqdm import tqdm

from sea_jax import cli, files, listing
from sea_jax.adjacency import joined_units
from sea_jax.config import LARGEST_INT
from sea_jax.control import Control
from sea_jax.errors import SeaError
from sea_jax.recommender import Recommender
from sea_jax.training import newcomers, runs

MODALITIES = ("text", "image", "audio")
OF_NEW_ITEMS = ("save", "exclude", "image_root", "audio_root", *(f"{name}_encoder" for name in MODALITIES))


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    if not 1 <= values.k <= LARGEST_INT:
        raise SeaError(f"--k={values.k} must be from 1 to {LARGEST_INT}.")
    if values.users and values.baskets:
        raise SeaError("--users and --baskets name two kinds of people; make two files of lists.")
    theirs = [name for name in OF_NEW_ITEMS if values[name].value]
    if theirs and not values.new_items:
        raise SeaError(f"--{theirs[0]} says how new items are read or kept; name them by --new_items.")
    check_outputs(values.output, values.save, values.workdir)
    run = runs.open_run(values.workdir, values.data_dir)
    if values.new_items:
        newcomers.check(run.config)
    made = run.recommender(values.checkpoint)
    if values.categories:
        made = made.with_categories(listing.read_categories(values.categories, made))
    content = joined_units(run.bundle().features) if values.diversity else None
    if values.new_items:
        made, content = with_new_items(run, made, content)
    wish = wishes(made, content)
    if values.baskets:
        baskets, notes = listing.read_baskets(values.baskets, made)
        for note in notes:
            print(note, file=sys.stderr)
        count, rows = len(baskets), listing.of_baskets(made, baskets, wish)
    else:
        users = listing.wanted(values.users, made)
        count, rows = len(users), listing.of_users(made, users, wish)
    if values.save:
        made.save(values.save)
        print(f"wrote a recommender of {len(made.item_ids)} items to {values.save}")
    if values.output is None:
        return 0
    bar = tqdm(rows, total=count * wish.k, unit="place", disable=not sys.stderr.isatty())
    listing.write(values.output, bar, wish.explained)
    print(f"wrote {count} lists to {values.output}")
    return 0


def check_outputs(output: str | None, save: str, workdir: str) -> None:
    """Raises SeaError for files that cannot be written, before anything is computed."""
    if output is None and not save:
        raise SeaError("--output is missing; --help says what it is.")
    if output is not None:
        listing.check_output(output)
    if not save:
        return
    if output is not None and files.writable(save) == files.writable(output):
        raise SeaError(f"--save={save} and --output name one file; name two.")
    if files.writable(save).parent == Path(workdir).resolve():
        raise SeaError(f"--save={save} lies in the run's folder, which stays as it is; name a file elsewhere.")


def with_new_items(run: runs.Run, made: Recommender, content):
    """The recommender with the items of --new_items, and the rows by which items are alike."""
    values, bundle = cli.FLAGS, run.bundle()
    exclude = listing.ids_of(values.exclude, made.item_ids, "item") if values.exclude else ()
    new = listing.new_items_of(
        values.new_items, made, bundle, roots={name: values[f"{name}_root"].value for name in ("image", "audio")},
        specs={name: values[f"{name}_encoder"].value for name in MODALITIES}, tell=cli.Progress(),
    )  # fmt: skip
    for note in new.notes:
        print(note, file=sys.stderr)
    vectors = run.embed_items(new.features, exclude, values.checkpoint)
    if content is not None:
        content = joined_units(bundle.features, new.features)
    return made.with_items(new.ids, vectors, new.titles, new.categories), content


def wishes(made: Recommender, content) -> listing.Wish:
    """How lists are asked for."""
    values, ids = cli.FLAGS, made.item_ids
    control = Control(
        deny=listing.ids_of(values.deny, ids, "item") if values.deny else (),
        categories=tuple(values.only_categories),
        only_new=values.only_new,
        boosts=listing.read_boosts(values.boosts, made) if values.boosts else {},
        diversity=values.diversity,
        content=content,
    )
    allow = listing.ids_of(values.allow, ids, "item") if values.allow else None
    return listing.Wish(min(values.k, len(ids)), values.exclude_seen, allow, control, values.explain)


if __name__ == "__main__":
    cli.define_run_flags()
    flags.DEFINE_string("users", "", "file of original user ids, one a line; all users without it")
    flags.DEFINE_string("baskets", "", "csv file of strangers and their items: user,item[,weight]")
    flags.DEFINE_string(
        "new_items",
        "",
        "items that came after training: a table like the dataset's, or a folder: items.txt, MODALITY_feat.npy",
    )
    for name in ("image", "audio"):
        flags.DEFINE_string(
            f"{name}_root", "", f"folder that {name} paths of --new_items are relative to; the table's own"
        )
    for name in MODALITIES:
        flags.DEFINE_string(f"{name}_encoder", "", f"where the dataset's {name} encoder is now: minilm:FOLDER, ...")
    flags.DEFINE_integer("k", 20, "items per list")
    flags.DEFINE_bool("exclude_seen", True, "leave out what the user has seen")
    flags.DEFINE_string("allow", "", "file of the items that lists may hold, one a line; all without it")
    flags.DEFINE_string("deny", "", "file of items that no list holds, one a line")
    flags.DEFINE_string("categories", "", "csv file item,category, in place of what the dataset says")
    flags.DEFINE_list("only_categories", [], "lists hold items of these categories alone")
    flags.DEFINE_bool("only_new", False, "lists hold items alone that nobody has seen in training")
    flags.DEFINE_string("boosts", "", "csv file item,boost: standard deviations of the user's scores that are added")
    flags.DEFINE_float("diversity", 0.0, "lambda of maximal marginal relevance by the dataset's features, 0 to 1")
    flags.DEFINE_bool("explain", False, "add why each item is listed")
    flags.DEFINE_string("output", None, "file of lists to write: .csv, .jsonl or .parquet; needed without --save")
    flags.DEFINE_string("save", "", "file to write: the recommender with the new items, for serve.py --recommender")
    flags.DEFINE_string("exclude", "", "file of items, one a line, that are no new item's neighbours")
    cli.run(main)
