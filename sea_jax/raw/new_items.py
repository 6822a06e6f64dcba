"""Items that came after: rows of a table through the encoders that made the dataset, as its manifest records them.

    new = read(bundle, "arrivals.csv")  # ids, features, titles, categories, notes
    features, notes = encode(bundle, {"text": ["a red lamp"], "image": ["lamp.jpg"]})

Columns, template and encoders are the dataset's. What an encoder learnt of the whole catalogue (TF-IDF: words, weights,
directions) lies in the bundle's encoders.npz; other encoders' rows stand alone and need their settings only.
"""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sea_jax import bundle_file
from sea_jax.bundle import Bundle
from sea_jax.errors import SeaError
from sea_jax.raw import encoders, tables
from sea_jax.raw import features as ready_made
from sea_jax.raw import items as contents_of
from sea_jax.raw.encoders.base import Encoder, NothingEncoded, sources_of
from sea_jax.raw.items import Items
from sea_jax.raw.lines import Skips, Tell, silent

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
BY_HAND = "give its new items as MODALITY_feat.npy and items.txt"
REMAKE = "make the bundle again with data_prep/from_tables.py (runs that were trained on it stay good)"


class NewItems(NamedTuple):
    """Items to come: ids, features by modality, titles and categories or None, what is worth telling."""

    ids: list
    features: dict[str, np.ndarray]
    titles: list[str] | None = None
    categories: list[str] | None = None
    notes: Sequence[str] = ()


def read(
    bundle: Bundle,
    path: str | os.PathLike,
    *,
    roots: Mapping[str, str] | None = None,
    specs: Mapping[str, str] | None = None,
    device: str = "",
    tell: Tell = silent,
) -> NewItems:
    """The items of a table, read and encoded as the dataset's own were.

    Args:
      bundle: the dataset, made by `raw.prepare`.
      path: a table (CSV, TSV, JSON lines, Parquet) with the columns that the dataset's table of items had, or a folder that
        holds items.csv, .tsv, .jsonl or .parquet, and perhaps MODALITY_feat.npy with a row for each row of it.
      roots, specs, device: see `encode`; without a root, paths are relative to the table's folder.
      tell: is told what is done, how far.
    Returns: the items of which some modality is known; the others are left out and told.
    Raises: SeaError if the bundle does not know how its rows were made, the table does not fit, or no item is left.
    """
    file = table_in(path)
    if file is None:
        raise SeaError(f"{path} must hold items{', items'.join(ENDINGS)}, a table of new items.")
    about = bundle.manifest.get("items") or {}
    if "columns" not in about:
        raise SeaError(
            f"the dataset {bundle.name} does not record which columns its items were read from, as readers of tables do since "
            f"rows of new items can be encoded; {REMAKE}, or {BY_HAND}."
        )
    skips = Skips()
    items, line_of = collect(file, about, roots or {}, skips, tell)
    own = range(bundle.num_items) if bundle.item_ids is None else bundle.item_ids.tolist()
    known = set(map(str, own)).intersection(items.ids)
    if known:
        first = next(name for name in items.ids if name in known)
        raise SeaError(
            f"{file}, {line_of[first]}: item {first!r} is in the catalogue already ({len(known)} such in all); leave it out."
        )
    given, notes = _ready(bundle, Path(path), items)
    named = [name for name in bundle.modalities if name not in given]
    recorded = bundle.manifest.get("encoders", {})
    encodable = {name: items.contents(name) for name in named if name in recorded and items.have(name).any()}
    if not encodable and not given:
        raise SeaError(
            f"{file}: no new item has any of {', '.join(bundle.modalities)}; fill the columns, or {BY_HAND}."
        )
    if encodable:
        encoded = _encode(bundle, encodable, items.ids, roots or {}, specs or {}, device, tell)
        given, notes = {**given, **encoded.features}, [*notes, *encoded.notes]
        if not any(x.any() for x in given.values()):
            raise encoded.error()
    new = NewItems(
        list(items.ids),
        {name: given[name] for name in bundle.modalities if name in given},
        items.titles if any(items.titles) else None,
        items.categories if any(items.categories) else None,
        [*skips.sentences(), *items.notes, *notes],
    )
    return usable(new, bundle.modalities, file, recorded)


def usable(
    new: NewItems, modalities: Sequence[str], path: str | os.PathLike, recorded: Collection[str] | None = None
) -> NewItems:
    """The new items of which some modality is known, rows that are not finite made zeros; what they lack is told.

    Args:
      new: all of them.
      modalities: of the dataset.
      path: where they are from.
      recorded: modalities whose encoder the dataset records; without it features are all there can be.
    Raises: SeaError if nothing is known of any.
    """
    features = {name: _finite(x) for name, x in new.features.items()}
    known = np.any([x.any(axis=1) for x in features.values()], axis=0)
    if not known.any():
        raise SeaError(f"{path}: nothing is known of any new item, as all rows are zeros or not finite; mend them.")
    kept, notes = np.flatnonzero(known).tolist(), list(new.notes)
    if len(kept) < len(known):
        first = new.ids[int(known.argmin())]
        notes.append(
            f"new items: {len(known) - len(kept)} have nothing to know them by and are left out, first {first}"
        )
    ids, titles, categories = (
        None if of is None else [of[n] for n in kept] for of in (new.ids, new.titles, new.categories)
    )
    features = {name: x[kept] for name, x in features.items()}
    notes += _lacking(modalities, features, ids, modalities if recorded is None else recorded)
    return NewItems(ids, features, titles, categories, notes)


def _finite(x: np.ndarray) -> np.ndarray:
    """float32 with zeros for rows that are not finite."""
    with np.errstate(over="ignore"):
        x = np.asarray(x, np.float32)
    return np.where(np.isfinite(x).all(axis=1, keepdims=True), x, 0)


def encode(
    bundle: Bundle,
    contents: Mapping[str, Sequence[Any]],
    *,
    ids: Sequence[str] | None = None,
    roots: Mapping[str, str] | None = None,
    specs: Mapping[str, str] | None = None,
    device: str = "",
    tell: Tell = silent,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Rows of new contents by the encoders of the dataset's own.

    Args:
      bundle: the dataset.
      contents: by modality, an entry for each new item: a text; a path or several; None or "" for none. A modality of which
        no entry can be encoded counts as missing for all, and is told.
      ids: names of the items in sentences; numbers from 0 without.
      roots: by modality, the folder that paths are relative to and must not leave; without one they are taken as they are.
      specs: by modality, where the encoder is now, such as minilm:FOLDER, if it is not found by its recorded name.
      device: where encoders compute; the best there is without.
      tell: is told what is done, how far.
    Returns: by modality (n, width) float32, zeros where an item lacks it, as `Run.embed_items` takes them; sentences.
    Raises: SeaError if the bundle does not know how its rows were made, it was by another encoder than is at hand, or no
      content of any modality can be encoded.
    """
    counts = {name: len(entries) for name, entries in contents.items()}
    if not counts or len(set(counts.values())) > 1 or not all(counts.values()):
        raise SeaError(f"contents must have a modality at least, and an entry for each item in each; it has {counts}.")
    ids = list(map(str, range(next(iter(counts.values()))) if ids is None else ids))
    if {len(ids)} != set(counts.values()):
        raise SeaError(f"ids names {len(ids)} items and contents has {counts}; give one id for each.")
    encoded = _encode(bundle, contents, ids, roots or {}, specs or {}, device, tell)
    if not any(x.any() for x in encoded.features.values()):
        raise encoded.error()
    return encoded.features, encoded.notes


class _Encoded(NamedTuple):
    """Features by modality, zeros where an item lacks it; sentences; why a modality has none at all."""

    features: dict[str, np.ndarray]
    notes: list[str]
    failed: list[str]

    def error(self) -> SeaError:
        """Of contents that give no row in any modality."""
        return SeaError(
            f"new items: {'; '.join(self.failed) or 'no content gives a row'}; mend these, as nothing else is known."
        )


def _encode(
    bundle: Bundle,
    contents: Mapping[str, Sequence[Any]],
    ids: Sequence[str],
    roots: Mapping[str, str],
    specs: Mapping[str, str],
    device: str,
    tell: Tell,
) -> _Encoded:
    """As `encode`, of contents that fit, whatever comes of them."""
    # All of them before anything is computed: what is missing is told at once.
    ready = {name: encoder_of(bundle, name, specs.get(name, ""), device) for name in contents}
    found, notes, failed = {}, [], []
    for name, encoder in ready.items():
        width = bundle.features[name].shape[1]
        having = [place for place, entry in enumerate(contents[name]) if sources_of(entry, encoder.modality)]
        found[name] = np.zeros((len(ids), width), np.float32)
        if not having:
            continue
        entries, root, named = (
            [contents[name][at] for at in having],
            roots.get(name) or None,
            [ids[at] for at in having],
        )
        try:
            made = encoder.encode(
                entries, lambda done, total, name=name: tell(f"encoding {name}", done, total), root=root
            )
        except NothingEncoded as error:
            failed.append(f"{name}: {encoder.name}: none of {len(named)} can be encoded ({_reasons(error, named)})")
            notes.append(f"new items, {failed[-1]}")
            continue
        if made.features.shape[1] > width:
            raise SeaError(
                f"{bundle_file.ENCODERS} of {bundle.name} does not fit its {name}, which is {width} wide; {REMAKE}."
            )
        found[name][having, : made.features.shape[1]] = made.features  # features of one column were made two
        notes += [f"new items, {name}: {told}" for told in made.sentences(named)]
    return _Encoded(found, notes, failed)


def _reasons(error: NothingEncoded, ids: Sequence[str]) -> str:
    """Why no row was encoded, with the first item of each kind."""
    return ", ".join(
        f"{kind}: {problem.count}, first {ids[problem.row]}{': ' * bool(problem.example)}{problem.example}"
        for kind, problem in error.problems.items()
    )


def encoder_of(bundle: Bundle, modality: str, spec: str = "", device: str = "") -> Encoder:
    """The encoder that made a modality of the dataset; `spec` says where it is now.

    Raises: SeaError if none is recorded, it cannot be had, or it is not the same any more.
    """
    if modality not in bundle.features:
        raise SeaError(
            f"the dataset {bundle.name} has no modality {modality!r}; it has {', '.join(bundle.modalities)}."
        )
    record = bundle.manifest.get("encoders", {}).get(modality)
    if not isinstance(record, dict) or not {"encoder", "version"} <= set(record):
        raise SeaError(
            f"the {modality} of the dataset {bundle.name} came as ready-made features, so that no encoder of it is known; "
            f"{BY_HAND}."
        )
    name, flag = record["encoder"], f"--{modality}_encoder"
    try:
        made = encoders.get(modality, spec or name, device=device)
    except SeaError as error:
        where = "" if spec else f", or say where it is by {flag}={name.partition(':')[0]}:FOLDER" * (":" in name)
        raise SeaError(
            f"the {modality} of {bundle.name} was encoded by {name}: {str(error).rstrip('.')}{where}."
        ) from error
    if made.version != record["version"]:
        raise SeaError(
            f"the {modality} of {bundle.name} was encoded by {name} in version {record['version']}, and {spec or made.name} here "
            f"is {made.version}, whose rows do not compare; name the same model by {flag}, or {REMAKE}."
        )
    if made.alone:
        return made
    if modality not in bundle.encoders:
        raise SeaError(
            f"the dataset {bundle.name} does not hold what {name} learnt of its {modality} (no encoders.npz), as bundles do "
            f"since rows of new items can be encoded; {REMAKE}, or {BY_HAND}."
        )
    return encoders.get(modality, spec or name, device=device, fitted=bundle.encoders[modality])


def table_in(path: str | os.PathLike) -> Path | None:
    """The table that a path names: the file itself, or the one of a folder that is called items; None if it has none.

    Raises: SeaError if a folder has several.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    names = [f"items{ending}{packed}" for ending in ENDINGS for packed in ("", ".gz")]
    found = [path / name for name in names if (path / name).is_file()]
    if len(found) > 1:
        raise SeaError(f"{path} holds {' and '.join(file.name for file in found)}; name the one that is meant.")
    return found[0] if found else None


def collect(
    file: Path, about: dict, roots: Mapping[str, str], skips: Skips, tell: Tell
) -> tuple[Items, dict[str, str]]:
    """The rows of a table as the dataset's own were read, and the place of each item, such as "line 2".

    Args:
      file: the table.
      about: what the manifest says of the dataset's table of items.
      roots, skips, tell: see `read`.
    Raises: SeaError if it lacks the column of ids, or some of those that texts are made of.
    """
    columns, texts = about["columns"], about["text_columns"]
    layout = tables.layout(file, **about.get("layout", {}))
    present, line_of = _scan(layout, columns["item"], tell)
    there = f"it has {', '.join(layout.columns) or 'none'}"
    if columns["item"] not in present:
        raise SeaError(f"{file} has no column {columns['item']}, which holds the ids of the dataset's items; {there}.")
    if not line_of:
        raise SeaError(f"{file} has no rows with an id in the column {columns['item']}.")
    lacking = [name for name in texts if name not in present]
    if lacking and len(lacking) < len(texts) and layout.kind != "json":
        raise SeaError(
            f"{file} has no column {lacking[0]}, of which the dataset's texts are made; {there}: add it, empty where unknown."
        )
    there = {role: name for role, name in columns.items() if name in present}
    items = contents_of.collect(
        tables.records(layout, skips, silent),
        list(line_of),
        file,
        skips,
        item=columns["item"],
        title=there.get("title", ""),
        category=there.get("category", ""),
        texts=texts,
        files={name: column for name, column in there.items() if name in contents_of.CONTENTS},
        template="" if about["template"] == contents_of.BLANKS else about["template"],
        unit=_unit(layout),
    )
    for name, named in items.files.items():
        if not roots.get(name):
            items.files[name] = [tuple(str(file.parent / path) for path in of) for of in named]
    for name, pattern in about.get("named_files", {}).items():
        items.files[name] = [contents_of.file_named(pattern, one, roots.get(name, "")) for one in items.ids]
    items.titles = [title[: contents_of.SHOWN_TITLE] for title in items.titles]
    items.categories = [category[: contents_of.SHOWN_TITLE] for category in items.categories]
    return items, line_of


def _scan(layout: tables.Layout, item: str, tell: Tell) -> tuple[set[str], dict[str, str]]:
    """The columns that a table has anywhere, and by item the place where it is named first, in order."""
    present, line_of = set(layout.columns), {}
    for line, record in tables.records(layout, Skips(), tell):
        if record is not None:
            present |= record.keys()
            line_of.setdefault(contents_of.id_of(record.get(item)), f"{_unit(layout)} {line}")
    line_of.pop("", None)
    return present, line_of


def _unit(layout: tables.Layout) -> str:
    return "row" if layout.kind == "parquet" else "line"


def _ready(bundle: Bundle, path: Path, items: Items) -> tuple[dict[str, np.ndarray], list[str]]:
    """Ready-made features that lie beside a folder's table, and what was taken."""
    found, notes = {}, []
    for name in bundle.modalities if path.is_dir() else ():
        file = path / f"{name}_feat.npy"
        if file.is_file():
            found[name], _ = ready_made.align(file, items.ids, items.places, items.rows)
            notes.append(f"new items, {name}: taken from {file.name}")
    return found, notes


def _lacking(
    modalities: Sequence[str], given: Mapping[str, np.ndarray], ids: Sequence[str], recorded: Collection[str]
) -> list[str]:
    """What new items go without, in words."""
    notes = []
    for name in modalities:
        absent = ~given[name].any(axis=1) if name in given else np.ones(len(ids), bool)
        if absent.any():
            first = ids[int(absent.argmax())]
            why = "" if name in given or name in recorded else f" (ready-made in the dataset; {name}_feat.npy gives it)"
            notes.append(
                f"new items, {name}: {int(absent.sum())} of {len(ids)} lack it, first {first}; the catalogue's mean stands in{why}"
            )
    return notes
