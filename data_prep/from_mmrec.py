"""Makes a bundle from an MMRec folder: `python data_prep/from_mmrec.py --source=DIR --output=DIR`.

The folder holds one NAME.inter (tab-separated with a header: userID, itemID, x_label and perhaps more; label 0 is
training, 1 validation, 2 test), one MODALITY_feat.npy per modality (row = itemID) and perhaps the id maps
u_id_mapping.csv and i_id_mapping.csv.
"""

import csv
from pathlib import Path

import numpy as np
from absl import flags

from sea_jax import bundle as bundles
from sea_jax import cli
from sea_jax.errors import SeaError

COLUMNS = ("userID", "itemID", "x_label")


def read_interactions(path: Path) -> np.ndarray:
    """(n, 3) int64 user, item, label of an .inter file; raises SeaError naming file and line."""
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = [name.split(":")[0].strip() for name in next(rows, [])]
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise SeaError(
                f"{path} lacks the column {missing[0]} in its first line; it must be tab-separated with {', '.join(COLUMNS)}."
            )
        places = [header.index(name) for name in COLUMNS]
        values = []
        for number, row in enumerate(rows, start=2):
            if not row:
                continue
            try:
                values.append([int(row[place]) for place in places])
            except (ValueError, IndexError) as error:
                raise SeaError(f"{path}, line {number}: {', '.join(COLUMNS)} must be whole numbers.") from error
            if not 0 <= values[-1][2] <= 2:
                raise SeaError(f"{path}, line {number}: x_label is {values[-1][2]} and must be 0, 1 or 2.")
            if min(values[-1][:2]) < 0:
                raise SeaError(f"{path}, line {number}: userID and itemID must not be negative.")
    if not values:
        raise SeaError(f"{path} has no interactions.")
    return np.array(values, np.int64)


def drop_duplicates(table: np.ndarray) -> tuple[np.ndarray, int]:
    """Each (user, item) once, with its lowest label (training first); also how many rows were dropped."""
    order = np.lexsort((table[:, 2], table[:, 1], table[:, 0]))
    ordered = table[order]
    first = np.append(True, np.any(ordered[1:, :2] != ordered[:-1, :2], axis=1))
    return table[np.sort(order[first])], int(len(table) - first.sum())


def read_features(path: Path) -> tuple[np.ndarray, list[str]]:
    """(I, d) float32 features with unusable rows repaired, and what was repaired.

    A row with a value that is not finite, or all zeros, becomes the mean of the other rows: the rule the
    published datasets follow for items without an image.
    """
    try:
        with open(path, "rb") as opened:
            features = np.load(opened, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise SeaError(f"{path} is damaged or no plain .npy array; write it again with numpy.save.") from error
    if not isinstance(features, np.ndarray) or features.ndim != 2 or min(features.shape) < 1:
        raise SeaError(
            f"{path} must be an array of shape (items, width); it is {getattr(features, 'shape', 'no array')}."
        )
    if not (np.issubdtype(features.dtype, np.floating) or np.issubdtype(features.dtype, np.integer)):
        raise SeaError(f"{path} must hold numbers; its dtype is {features.dtype}.")
    with np.errstate(over="ignore"):
        features = features.astype(np.float32)
    repairs = []
    finite = np.isfinite(features).all(axis=1)
    zero = finite & ~features.any(axis=1)
    good = finite & ~zero
    if not good.any():
        raise SeaError(f"{path} has no row that is finite and not all zeros.")
    for rows, what in ((~finite, "not finite"), (zero, "all zeros")):
        if rows.any():
            repairs.append(f"{path.name}: {int(rows.sum())} rows {what}, replaced by the mean of the other rows")
    features[~good] = features[good].mean(axis=0, dtype=np.float64)
    return features, repairs


def read_ids(path: Path, original: str, count: int, number: str) -> np.ndarray | None:
    """Original ids in the order of the numbers, from a tab-separated mapping; None without the file."""
    if not path.exists():
        return None
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or original not in rows[0] or number not in rows[0]:
        raise SeaError(f"{path} must be tab-separated with the columns {original} and {number}.")
    columns = rows[0].index(original), rows[0].index(number)
    ids = np.full(count, "", dtype=object)
    try:
        for row in filter(None, rows[1:]):
            place = int(row[columns[1]])
            if not 0 <= place < count:
                raise SeaError(f"{path}: {number} {place} is outside 0 to {count - 1}.")
            ids[place] = row[columns[0]]
    except (ValueError, IndexError) as error:
        raise SeaError(f"{path}: column {number} must hold whole numbers.") from error
    if (ids == "").any():
        raise SeaError(f"{path} names no {original} for {number} {int(np.flatnonzero(ids == '')[0])}.")
    return ids.astype(np.str_)


def convert(source: Path, modalities: tuple[str, ...] = (), knn_k_max: int = 20, name: str = "") -> bundles.Bundle:
    """The bundle of an MMRec folder; raises SeaError for anything that does not fit."""
    if not source.is_dir():
        raise SeaError(f"--source={source} is no folder; name one with a .inter file and *_feat.npy files.")
    inter = sorted(source.glob("*.inter"))
    if len(inter) != 1:
        raise SeaError(f"--source={source} must hold exactly one .inter file; it holds {len(inter)}.")
    found = {path.name.removesuffix("_feat.npy"): path for path in source.glob("*_feat.npy")}
    if not found:
        raise SeaError(f"--source={source} holds no MODALITY_feat.npy, such as image_feat.npy.")
    unknown = [modality for modality in modalities if modality not in found]
    if unknown:
        raise SeaError(f"--modalities names {unknown[0]}, but {source} has features of {', '.join(sorted(found))}.")
    chosen = modalities or bundles.order_modalities(found)
    features, repairs = {}, []
    for modality in chosen:
        features[modality], repaired = read_features(found[modality])
        repairs += repaired
    sizes = {found[modality].name: len(x) for modality, x in features.items()}
    if len(set(sizes.values())) > 1:
        raise SeaError(f"the features in {source} differ in their number of rows: {sizes}.")
    num_items = next(iter(sizes.values()))
    table, dropped = drop_duplicates(read_interactions(inter[0]))
    if table[:, 1].max() >= num_items:
        raise SeaError(f"{inter[0]}: itemID {table[:, 1].max()} has no row in the features, which have {num_items}.")
    if dropped:
        repairs.append(f"{inter[0].name}: {dropped} duplicate interactions dropped")
    user_map = source / "u_id_mapping.csv"
    num_users = int(table[:, 0].max()) + 1
    splits = {split: table[table[:, 2] == label, :2] for label, split in enumerate(bundles.SPLITS)}
    for split, pairs in splits.items():
        if not len(pairs):
            raise SeaError(f"{inter[0]}: no row has the x_label of the {split} split.")
    sources = [inter[0], *(found[modality] for modality in chosen)]
    return bundles.build(
        name or inter[0].stem,
        splits,
        num_users,
        num_items,
        features,
        knn_k_max=knn_k_max,
        user_ids=read_ids(user_map, "user_id", num_users, "userID"),
        item_ids=read_ids(source / "i_id_mapping.csv", "asin", num_items, "itemID"),
        notes={
            "split": {"kind": "given", "by": "x_label"},
            "sources": {path.name: bundles.sha256(path) for path in sources},
            "repairs": repairs,
        },
    )


def main(argv: list[str]) -> int:
    del argv
    values = flags.FLAGS
    bundle = convert(Path(values.source), tuple(values.modalities), values.knn_k_max, values.name)
    bundles.save(bundle, values.output)
    print(bundles.describe(bundle))
    print(f"wrote {values.output}")
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("source", None, "MMRec folder", required=True)
    flags.DEFINE_string("output", None, "folder to write the bundle into", required=True)
    flags.DEFINE_list("modalities", [], "modalities to keep, in this order; all, image first, by default")
    flags.DEFINE_integer("knn_k_max", 20, "nearest items kept per item and modality; training may use fewer")
    flags.DEFINE_string("name", "", "name of the dataset; that of the .inter file by default")
    cli.run(main)
