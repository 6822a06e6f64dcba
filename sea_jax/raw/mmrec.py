"""MMRec's folders: interactions numbered from 0 with the split's label, features row by row, id maps."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sea_jax import bundle as bundles
from sea_jax import bundle_file, files
from sea_jax.bundle import Bundle
from sea_jax.errors import SeaError
from sea_jax.raw import features as rows
from sea_jax.raw import splits
from sea_jax.raw.pairs import Interactions

COLUMNS = ("userID", "itemID", "x_label")
MAPS = {"user": ("u_id_mapping.csv", "user_id", "userID"), "item": ("i_id_mapping.csv", "asin", "itemID")}


def convert(
    source: Path,
    modalities: Sequence[str] = (),
    knn_k_max: int = 20,
    name: str = "",
    missing: str = "",
    similarity: str = "cosine",
) -> Bundle:
    """The bundle of an MMRec folder.

    Args:
      source: folder with one NAME.inter, MODALITY_feat.npy files and perhaps id maps.
      modalities: which, in this order; all, image first, by default.
      knn_k_max: nearest items kept.
      name: of the dataset; that of the .inter file by default.
      missing: "" records rows that say nothing as missing and weighs them like others, as the published numbers do;
        "mean" or "neighbours" fills them so and keeps them out of that modality's neighbours and losses.
      similarity: what nearest means, see `adjacency.comparable`.
    Raises: SeaError for anything that does not fit.
    """
    if not source.is_dir():
        raise SeaError(f"--source={source} is no folder; name one with a .inter file and *_feat.npy files.")
    if missing not in ("", "mean", "neighbours"):
        raise SeaError(f"--missing={missing} must be mean or neighbours, or left out.")
    inter = sorted(source.glob("*.inter"))
    if len(inter) != 1:
        raise SeaError(f"--source={source} must hold exactly one .inter file; it holds {len(inter)}.")
    found = {path.name.removesuffix("_feat.npy"): path for path in source.glob("*_feat.npy")}
    if not found:
        raise SeaError(f"--source={source} holds no MODALITY_feat.npy, such as image_feat.npy.")
    unknown = [modality for modality in modalities if modality not in found]
    if unknown:
        raise SeaError(f"--modalities names {unknown[0]}, but {source} has features of {', '.join(sorted(found))}.")
    bundle_file.check_named(modalities, found, source)
    chosen = tuple(modalities) or bundles.order_modalities(found)
    for modality in chosen:
        bundle_file.check_modality(modality)
    features, masks, repairs = {}, {}, []
    for modality in chosen:
        x, _ = rows.read(found[modality])
        try:
            features[modality], masks[modality], notes = rows.repair(x)
        except SeaError as error:
            raise SeaError(f"{found[modality]}: {error}.") from error
        repairs += [f"{found[modality].name}: {note}" for note in notes]
    masks = {modality: mask for modality, mask in masks.items() if mask.any()}
    if missing == "neighbours":
        features, notes = rows.from_neighbours(features, masks)
        repairs += notes
    sizes = {found[modality].name: len(x) for modality, x in features.items()}
    if len(set(sizes.values())) > 1:
        raise SeaError(f"the features in {source} differ in their number of rows: {sizes}.")
    num_items = next(iter(sizes.values()))
    table, dropped = drop_duplicates(read_interactions(inter[0]))
    if table[:, 1].max() >= num_items:
        raise SeaError(f"{inter[0]}: itemID {table[:, 1].max()} has no row in the features, which have {num_items}.")
    if dropped:
        repairs.append(f"{inter[0].name}: {dropped} duplicate interactions dropped")
    num_users = int(table[:, 0].max()) + 1
    repairs += gaps(inter[0], table[:, 0], num_users)
    numbered = {split: table[table[:, 2] == label, :2] for label, split in enumerate(bundles.SPLITS)}
    for split, pairs in numbered.items():
        if not len(pairs):
            raise SeaError(f"{inter[0]}: no row has the x_label of the {split} split.")
    sources = [inter[0], *(found[modality] for modality in chosen)]
    report = splits.report(Interactions(table[:, 0], table[:, 1], (), ()), table[:, 2])
    return bundles.build(
        name or inter[0].stem,
        numbered,
        num_users,
        num_items,
        features,
        knn_k_max=knn_k_max,
        similarity=similarity,
        user_ids=read_ids(source, "user", num_users),
        item_ids=read_ids(source, "item", num_items),
        missing=masks,
        honour_missing=bool(missing),
        notes={
            "split": {"kind": "given", "by": "x_label", "report": report},
            "sources": {path.name: files.sha256(path) for path in sources},
            "repairs": repairs,
        },
    )


def read_interactions(path: Path) -> np.ndarray:
    """(n, 3) int64 user, item, label of an .inter file; raises SeaError naming file and line."""
    lines = files.csv_rows(path)
    header = [name.split(":")[0].strip() for name in next(lines, (1, []))[1]]
    lacking = [name for name in COLUMNS if name not in header]
    if lacking:
        raise SeaError(
            f"{path} lacks the column {lacking[0]} in its first line; it must be tab-separated with {', '.join(COLUMNS)}."
        )
    for name in COLUMNS:
        if header.count(name) > 1:
            raise SeaError(f"{path} has two columns called {name}; rename one.")
    places = [header.index(name) for name in COLUMNS]
    values = []
    for number, row in lines:
        if not any(map(str.strip, row)):
            continue
        try:
            values.append([_whole(row[place]) for place in places])
        except (ValueError, IndexError) as error:
            raise SeaError(f"{path}, line {number}: {', '.join(COLUMNS)} must be whole numbers.") from error
        user, item, label = values[-1]
        if not 0 <= label <= 2:
            raise SeaError(f"{path}, line {number}: x_label is {label} and must be 0, 1 or 2.")
        if min(user, item) < 0:
            raise SeaError(f"{path}, line {number}: userID and itemID must not be negative.")
        if max(user, item) >= bundles.LARGEST:
            raise SeaError(
                f"{path}, line {number}: {max(user, item)} is too large; userID and itemID count from 0 without gaps."
            )
    if not values:
        raise SeaError(f"{path} has no interactions.")
    return np.array(values, np.int64)


def _whole(text: str) -> int:
    digits = text.strip()
    if not (digits.isascii() and digits.removeprefix("-").isdigit()):
        raise ValueError(text)
    return int(digits)


def drop_duplicates(table: np.ndarray) -> tuple[np.ndarray, int]:
    """Each (user, item) once, with its lowest label (training first); also how many rows were dropped."""
    order = np.lexsort((table[:, 2], table[:, 1], table[:, 0]))
    ordered = table[order]
    first = np.append(True, np.any(ordered[1:, :2] != ordered[:-1, :2], axis=1))
    return table[np.sort(order[first])], int(len(table) - first.sum())


def gaps(path: Path, users: np.ndarray, count: int) -> list[str]:
    """A sentence if many numbers stand for nobody; raises SeaError if nearly all do, before memory is taken for them."""
    named = len(np.unique(users))
    if count > 1000 * named + 10**6:
        raise SeaError(
            f"{path}: userID goes up to {count - 1} and {named} users occur; number them from 0 without gaps, or read the "
            "file with from_tables.py, which does."
        )
    return [f"{path.name}: {count - named} of {count} userIDs occur in no row"] if count > 2 * named else []


def read_map(path: Path, original: str, number: str) -> tuple[list[str], list[int], list[int]]:
    """Ids, numbers and lines of a tab-separated id map, blanks around ids left out.

    Raises: SeaError if it is damaged, an id stands twice, or a number does.
    """
    lines = files.csv_rows(path)
    header = [name.strip() for name in next(lines, (1, []))[1]]
    if original not in header or number not in header:
        raise SeaError(f"{path} must be tab-separated with the columns {original} and {number}.")
    columns = header.index(original), header.index(number)
    ids, numbers, places = [], [], []
    line_of: dict[str | int, int] = {}
    for line, row in lines:
        if not any(map(str.strip, row)):
            continue
        try:
            entry, place = row[columns[0]].strip(), _whole(row[columns[1]])
        except (ValueError, IndexError) as error:
            raise SeaError(f"{path}, line {line}: column {number} must hold whole numbers.") from error
        if not entry:
            raise SeaError(f"{path}, line {line}: names no {original} for {number} {place}.")
        for key, what in ((entry, f"{original} {entry}"), (place, f"{number} {place}")):
            if line_of.setdefault(key, line) != line:
                raise SeaError(f"{path}, lines {line_of[key]} and {line}: both name {what}; leave one out.")
        ids.append(entry)
        numbers.append(place)
        places.append(line)
    return ids, numbers, places


def read_ids(source: Path, kind: str, count: int) -> np.ndarray | None:
    """Original ids in the order of the numbers, from the folder's map of users or items; None without the file."""
    file, original, number = MAPS[kind]
    path = source / file
    if not path.exists():
        return None
    ids: list[str | None] = [None] * count
    for entry, place, line in zip(*read_map(path, original, number), strict=True):
        if not 0 <= place < count:
            raise SeaError(f"{path}, line {line}: {number} {place} is outside 0 to {count - 1}.")
        ids[place] = entry
    if None in ids:
        raise SeaError(f"{path} names no {original} for {number} {ids.index(None)}.")
    return np.array(ids, np.str_)


def labels_of(path: Path, table: Interactions) -> np.ndarray:
    """(n,) int8, the labels that an .inter file gives to interactions.

    Its numbers are read through the id maps beside it; without them they are taken to be those of the table, as they
    are if the file was made from the same interactions.

    Raises: SeaError unless the file and the table have the same pairs.
    """
    if not path.is_file():
        raise SeaError(f"--split_from={path} is no file; name an .inter file.")
    theirs, _ = drop_duplicates(read_interactions(path))
    for column, kind, ids in ((0, "user", table.user_ids), (1, "item", table.item_ids)):
        file, original, number = MAPS[kind]
        if (path.parent / file).exists():
            names, numbers, _ = read_map(path.parent / file, original, number)
            ours = {name: place for place, name in enumerate(ids)}
            known = dict(zip(numbers, (ours.get(name, -1) for name in names), strict=True))
            theirs[:, column] = [known.get(place, -1) for place in theirs[:, column].tolist()]
    base = len(table.item_ids) + 1
    outside = (
        (theirs[:, 0] < 0) | (theirs[:, 1] < 0) | (theirs[:, 0] >= len(table.user_ids)) | (theirs[:, 1] >= base - 1)
    )
    codes = np.where(outside, -1, theirs[:, 0] * base + theirs[:, 1])
    wanted = table.users.astype(np.int64) * base + table.items
    order = np.argsort(codes, kind="stable")
    place = order[np.minimum(np.searchsorted(codes, wanted, sorter=order), len(order) - 1)]
    strange = int((codes[place] != wanted).sum())
    unused = len(theirs) - (len(wanted) - strange)
    if strange or unused:
        raise SeaError(
            f"--split_from={path} and the interactions differ: {strange} of the {len(wanted)} are not in it, and {unused} "
            "of its own are not among them; are the filters (--k_core and others) those it was made with?"
        )
    return theirs[place, 2].astype(np.int8)
