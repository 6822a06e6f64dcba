"""Makes a bundle from Amazon's reviews of 2014, 2018 or 2023: `python data_prep/from_amazon.py --reviews=FILE --meta=FILE --output=DIR`.

Reviews are JSON lines (reviews_X_5.json.gz, X_5.json.gz, X.jsonl.gz) or csv (ratings_X.csv, X.csv, the ready-made splits of
2023); metadata are Python literals (2014) or JSON lines; image_features_X.b are McAuley's vectors of 2014.
"""

import ast
import dataclasses
import html
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from sea_jax import bundle as bundles
from sea_jax import bundle_file, cli
from sea_jax.errors import SeaError
from sea_jax.raw import items as contents
from sea_jax.raw import lines, tables
from sea_jax.raw.items import Items
from sea_jax.raw.lines import Skips, Tell, silent
from sea_jax.raw.pairs import Interactions
from sea_jax.raw.prepare import Source, prepare
from sea_jax.raw.reader import Reader
from sea_jax.raw.recipe import Recipe

ASIN = re.compile(r"(B[0-9A-Z]{9}|\d{9}[\dX])$")
ITEM = ("parent_asin", "asin")  # 2023 keys its metadata by the parent
USER, RATING = ("reviewerID", "user_id"), ("overall", "rating")
TIME = ("unixReviewTime", "timestamp", "sort_timestamp", "sortTimestamp")
REVIEW_TEXT = (("summary", "title"), ("reviewText", "text"))
TEXTS = ("title", "brand", "main_category", "categories", "category", "features", "description")
VECTOR = np.dtype([("asin", "S10"), ("x", "<f4", (4096,))])  # a record of image_features_X.b
REVIEW_WORDS = 2000  # characters of reviews that make an item's text


def layout(path: str) -> tuple[tables.Layout, dict[str, str]]:
    """How a file of reviews is written, and its columns by role."""
    table = tables.layout(path, quoted=False)
    names = set(table.columns)
    if table.kind == "text" and "user_id" not in names:
        columns = ("user", "item", "rating", "time")
        with_header = False
        sample = [
            line.decode("utf-8", "replace").split(",") for _, line in zip(range(1000), _texts(path), strict=False)
        ]
        if any(len(row) != 4 for row in sample[:1]):
            raise SeaError(
                f"{path} must have the four columns user, item, rating, time; its first line has {len(sample[0])}."
            )
        share = [sum(bool(ASIN.match(row[place])) for row in sample if len(row) == 4) for place in (0, 1)]
        if share[0] > share[1]:  # as the csv files of 2018 have it
            columns = ("item", "user", "rating", "time")
        return tables.layout(path, columns=columns, header=with_header, quoted=False), {name: name for name in columns}
    roles = {}
    for role, usual in (("user", USER), ("item", ITEM), ("time", TIME), ("rating", RATING)):
        found = next((name for name in usual if name in names), None)
        if found is None:
            raise SeaError(f"{path} is no file of reviews: its first line has none of {', '.join(usual)}.")
        roles[role] = found
    return table, roles


def _texts(path) -> Iterator[bytes]:
    return (line for _, line in lines.each(path))


def metadata(path: Path, wanted: Sequence[str], skips: Skips, tell: Tell) -> Iterator[tuple[int, dict | None]]:
    """(line, record) of the metadata's lines; the literals of 2014 are evaluated for wanted items only."""
    first = next(_texts(path), b"").lstrip()
    if not re.match(rb"\{\s*'", first):
        yield from tables.records(tables.layout(path, kind="json"), skips, tell)
        return
    wanted = set(wanted)
    for number, line in lines.each(path, tell=tell):
        text = line.decode("utf-8", "replace")
        asin = re.search(r"""'asin': ['"]([^'"]*)['"]""", text)
        if asin is not None and asin[1].strip() not in wanted:
            yield number, {"asin": asin[1]}
            continue
        found = _literal(text)
        if found is None:
            skips.add(path, "no Python literal of a dictionary", number)
        yield number, found


def _literal(text: str) -> dict | None:
    """The dictionary that a Python literal stands for; nothing is executed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of backslashes in strings
            found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return found if isinstance(found, dict) else None


def texts_of(record: dict, columns: Sequence[str]) -> tuple[str, str]:
    """Title and text of a record; a title that is a page's script, as some of 2018 are, counts as none.

    The sentence is that of the published features: title, brand, the first path of categories, description.
    """
    record = dict(record)
    if "getTime" in tables.text_of(record.get("title")):
        record["title"] = ""
    paths = record.get("categories")
    if isinstance(paths, list) and paths and isinstance(paths[0], list):
        record["categories"] = paths[0]
    title = html.unescape(tables.text_of(record.get("title")))
    return title, contents.join(record, columns)


def picture_of(record: dict) -> str:
    """The address of an item's first picture, for showing."""
    found = record.get("imUrl") or record.get("imageURLHighRes") or record.get("imageURL") or record.get("image")
    images = record.get("images")
    if not found and isinstance(images, list) and images and isinstance(images[0], dict):
        found = images[0].get("large") or images[0].get("hi_res") or images[0].get("thumb")
    if not found and isinstance(images, dict):
        found = images.get("large") or images.get("hi_res")
    return next(iter(tables.paths_of(found)), "")


def image_features(path: Path, ids: Sequence[str], tell: Tell) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(I, 4096) float32 vectors, a mask of the items without, words; of an item that comes twice the last counts."""
    size = path.stat().st_size
    if not size or size % VECTOR.itemsize:
        raise SeaError(
            f"{path} has {size} bytes, which are no whole records of {VECTOR.itemsize}; unpack it, or get it again."
        )
    number = {name.encode(): place for place, name in enumerate(ids)}
    held = np.memmap(path, VECTOR, "r")
    x, absent, repeated = np.zeros((len(ids), 4096), np.float32), np.ones(len(ids), bool), 0
    for start in range(0, len(held), 4096):
        part = held[start : start + 4096]
        for row, asin in enumerate(part["asin"].tolist()):
            place = number.get(asin)
            if place is not None:
                repeated += not absent[place]
                x[place], absent[place] = part["x"][row], False
        tell(f"reading {path.name}", start + len(part), len(held))
    if absent.all():
        raise SeaError(f"{path} has none of the {len(ids)} items, such as {ids[0]!r}.")
    return (
        x,
        absent,
        [f"{path.name}: {repeated} vectors of an item that came before; the last counts"] if repeated else [],
    )


def texts_from_reviews(path: str, training: Interactions, skips: Skips, tell: Tell) -> list[str]:
    """Each item's text made of what its training interactions say, in the order of the file, up to so many letters."""
    table, roles = layout(path)
    if table.kind != "json":
        raise SeaError(f"--text_from_reviews needs reviews with their text, JSON lines; {path} has none.")
    base = len(training.item_ids)
    codes = set((training.users.astype(np.int64) * base + training.items).tolist())
    users = {name: place for place, name in enumerate(training.user_ids)}
    items = {name: place for place, name in enumerate(training.item_ids)}
    parts: list[list[str]] = [[] for _ in range(base)]
    length = [0] * base
    quiet = Skips()  # told of when it was read the first time
    for _, record in tables.records(table, quiet, tell):
        record = record or {}
        user, item = (
            users.get(str(record.get(roles["user"])).strip()),
            items.get(str(record.get(roles["item"])).strip()),
        )
        if user is None or item is None or user * base + item not in codes or length[item] >= REVIEW_WORDS:
            continue
        for names in REVIEW_TEXT:
            text = next((tables.text_of(record[name]) for name in names if record.get(name)), "")
            if text:
                parts[item].append(text)
                length[item] += len(text) + 1
    return [" ".join(of)[:REVIEW_WORDS] for of in parts]


def source(
    reviews: str,
    meta: str = "",
    *,
    skips: Skips,
    held: Mapping[int, str] | None = None,
    vectors: str = "",
    text_columns: Sequence[str] = (),
    text_from_reviews: bool = False,
    features: Sequence[str] = (),
    image_files: str = "",
    image_root: str = "",
    tell: Tell = silent,
    say: Callable[[str], None] = lambda words: None,
) -> Source:
    """The tables; see the flags for what the arguments mean."""
    files = {0: reviews, **{label: path for label, path in (held or {}).items() if path}}
    reader = Reader(skips, tell)
    for label, path in files.items():
        table, roles = layout(path)
        say(f"{path}: {', '.join(f'{role} is {column}' for role, column in roles.items())}")
        reader.read(table, roles, label if len(files) > 1 else None)
    if text_from_reviews and (meta or len(files) > 1):
        raise SeaError("--text_from_reviews takes the place of --meta, and needs one file of reviews.")

    def read(ids: Sequence[str], training: Interactions | None) -> Items:
        found = contents.none(ids)
        if meta:
            first = next((record for _, record in metadata(Path(meta), (), Skips(), silent) if record), {})
            key = "parent_asin" if "parent_asin" in first else "asin"
            pictures = {}

            def parts(record):
                pictures[tables.text_of(record[key])] = picture_of(record)
                return texts_of(record, text_columns or TEXTS)

            found = contents.collect(
                metadata(Path(meta), ids, skips, tell),
                ids,
                Path(meta),
                skips,
                item=key,
                category="main_category",
                parts=parts,
            )
            found.pictures = [pictures.get(name, "") for name in ids]
            found.about = {"text_columns": list(text_columns or TEXTS), "template": contents.BLANKS}
        elif text_from_reviews:
            if training is None:
                raise SeaError("--require=text cannot go with --text_from_reviews, which needs the split first.")
            found.texts = texts_from_reviews(reviews, training, skips, tell)
            found.about = {"texts": f"training reviews, up to {REVIEW_WORDS} characters"}
        if image_files:
            found.files["image"] = contents.named_files(image_files, ids, "--image_files", image_root)
        if vectors:
            x, absent, notes = image_features(Path(vectors), ids, tell)
            found.features["image"] = x, absent
            found.notes += notes
        return found

    ready = dict(entry.split("=", 1) if "=" in entry else ("", entry) for entry in features)
    name = re.sub(r"^(reviews|ratings)_|(_5)?\.(json|jsonl|csv|train|gz).*$", "", Path(reviews).name)
    read_files = [*files.values(), *filter(None, (meta, vectors))]
    return Source(name, reader.table(), read, read_files, ready)


def main(argv: list[str]) -> int:
    del argv
    values, recipe = cli.FLAGS, cli.from_flags(Recipe)
    bundle_file.check_output(values.output)
    skips, progress = Skips(values.strict), cli.Progress()
    found = source(
        values.reviews, values.meta, skips=skips, held={1: values.valid, 2: values.test}, vectors=values.image_features,
        text_columns=values.text_columns, text_from_reviews=values.text_from_reviews, features=values.features,
        image_files=values.image_files, image_root=recipe.image_root, tell=progress, say=print,
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
    flags.DEFINE_string("reviews", None, "reviews: JSON lines or csv, gzipped or not", required=True)
    flags.DEFINE_string("valid", "", "validation reviews, where the split is given by files, as 2023's X.valid.csv")
    flags.DEFINE_string("test", "", "test reviews")
    flags.DEFINE_string("meta", "", "metadata: meta_X.json.gz or meta_X.jsonl.gz")
    flags.DEFINE_string("image_features", "", "McAuley's image_features_X.b of 2014")
    flags.DEFINE_string("output", None, "folder to write the bundle into", required=True)
    flags.DEFINE_list("text_columns", [], f"fields that make an item's text; without: {', '.join(TEXTS)}")
    flags.DEFINE_bool(
        "text_from_reviews", False, "an item's text is that of its training reviews, where there is no --meta"
    )
    flags.DEFINE_string("image_files", "", "pictures named by item, such as pictures/{item}.jpg")
    flags.DEFINE_list("features", [], "ready-made features: image=FILE.npz with ids")
    flags.DEFINE_bool("strict", False, "a line that cannot be used is an error")
    cli.define_flags(Recipe, k_core=(5,))
    cli.run(main)
