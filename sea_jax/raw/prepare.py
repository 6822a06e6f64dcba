"""The one way from two tables to a bundle: filters, split, items, features, record.

The steps, in this order, each recorded in the manifest with counts before and after: ratings, dates, items that lack
what is required, duplicates, histories cut, k-core. Then users and items are numbered in the order in which the rest of
the file names them, and the split is made.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from sea_jax import bundle as bundles
from sea_jax import bundle_file, files
from sea_jax.bundle import Bundle
from sea_jax.errors import SeaError
from sea_jax.raw import encoders, mmrec, pairs, splits
from sea_jax.raw import features as rows
from sea_jax.raw import items as tables
from sea_jax.raw.items import Items
from sea_jax.raw.lines import Skips, Tell, silent
from sea_jax.raw.pairs import Interactions
from sea_jax.raw.reader import moment
from sea_jax.raw.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Source:
    """What a reader gives.

    name: of the dataset, unless the recipe has one. interactions: the table. items: for the ids of items, and the
    training table that is left (users and items numbered, None before the split), what is known of them. files: that
    were read. features: by modality, files of ready-made features.
    """

    name: str
    interactions: Interactions
    items: Callable[[Sequence[str], Interactions | None], Items] | None = None
    files: Sequence[str | Path] = ()
    features: Mapping[str, str] = dataclasses.field(default_factory=dict)


def prepare(source: Source, recipe: Recipe, skips: Skips, tell: Tell = silent) -> Bundle:
    """The bundle; raises SeaError if a step asks for what the tables do not have, or nothing is left."""
    for modality in source.features:
        bundle_file.check_modality(modality)
    # Before anything is read twice: a misspelt encoder or a missing package is told at once.
    asked = {name: recipe.encoder(name) for name in tables.CONTENTS if recipe.encoder(name) not in ("", "none")}
    ready = {name: encoders.get(name, spec, device=recipe.encoder_device) for name, spec in asked.items()}
    get = source.items or (lambda ids, training: tables.none(ids))
    table, items, steps = keep(source, recipe, get)
    labels, about = divide(table, recipe)
    items = get(table.item_ids, table.keep(labels == 0)) if items is None else items
    if items.ids != table.item_ids:
        number = {name: place for place, name in enumerate(items.ids)}
        items = items.select([number[name] for name in table.item_ids])
    for modality, path in source.features.items():
        items.features[modality] = rows.align(path, items.ids, items.places, items.rows)
    features, missing, used, notes = featured(items, recipe, ready, tell)
    if recipe.missing == "neighbours":
        features, more = rows.from_neighbours(features, missing)
        notes += more
    parts = {name: labels == label for label, name in enumerate(bundles.SPLITS)}
    both = np.stack([table.users, table.items], axis=1)
    tell("making the graphs", 0, 1)
    bundle = bundles.build(
        recipe.name or source.name,
        {name: both[mask] for name, mask in parts.items()},
        len(table.user_ids),
        len(table.item_ids),
        features,
        knn_k_max=recipe.knn_k_max,
        similarity=recipe.similarity,
        user_ids=np.array(table.user_ids, np.str_),
        item_ids=np.array(table.item_ids, np.str_),
        missing=missing,
        honour_missing=True,
        times=None if table.times is None else {
            name: np.floor(table.times[mask]).astype(np.int64) for name, mask in parts.items()
        },
        shown=shown(items),
        encoders={name: encoder.fitted for name, (encoder, _) in used.items()},
        notes={
            "split": about,
            "sources": {Path(path).name: files.sha256(path) for path in (*source.files, *source.features.values())},
            "steps": steps,
            "skipped": skips.sentences(),
            "repairs": [*items.notes, *notes],
            "encoders": {name: record for name, (_, record) in used.items()},
            "items": items.about,
            "missing": recipe.missing,
        },
    )  # fmt: skip
    tell("making the graphs", 1, 1)
    return bundle


def keep(source: Source, recipe: Recipe, get) -> tuple[Interactions, Items | None, list[dict]]:
    """The interactions that stay, numbered; the items if they had to be read for it; the record."""
    table, items = source.interactions, None
    steps = pairs.Steps(table)
    if recipe.min_rating is not None:
        table = steps(f"ratings of {recipe.min_rating:g} and more", pairs.rated(table, recipe.min_rating))
    if recipe.since or recipe.until:
        since, until = moment(recipe.since, "--since"), moment(recipe.until, "--until")
        words = " and ".join(
            filter(None, (since is not None and f"from {recipe.since}", until is not None and f"before {recipe.until}"))
        )
        table = steps(words, pairs.dated(table, since, until))
    if recipe.require:
        table = pairs.numbered(table)
        items = get(table.item_ids, None)
        for modality, path in source.features.items():
            items.features[modality] = rows.align(path, items.ids, items.places, items.rows)
        having = np.all([items.have(modality) for modality in recipe.require], axis=0)
        table = steps(f"items with {' and '.join(recipe.require)}", table.keep(having[table.items]))
    table = steps(f"the {recipe.duplicates} of duplicates", pairs.distinct(table, recipe.duplicates))
    if recipe.max_history:
        table = steps(f"the latest {recipe.max_history} of a user", pairs.latest(table, recipe.max_history))
    of_users, of_items = recipe.k_core[0], recipe.k_core[-1]
    if max(of_users, of_items) > 1:
        words = f"{of_users}-core" if of_users == of_items else f"core of {of_users} for users and {of_items} for items"
        table = steps(words, pairs.core(table, of_users, of_items))
    return pairs.numbered(table), items, steps.record


def divide(table: Interactions, recipe: Recipe) -> tuple[np.ndarray, dict]:
    """(n,) labels, and what the manifest says of the split."""
    if recipe.split_from:
        labels = mmrec.labels_of(Path(recipe.split_from), table)
        about = {"kind": "given", "from": Path(recipe.split_from).name}
        return labels, {**about, "report": splits.report(table, labels)}
    labels = splits.split(
        table, recipe.split, ratios=recipe.ratios, seed=recipe.seed,
        valid_from=moment(recipe.valid_from, "--valid_from"), test_from=moment(recipe.test_from, "--test_from"),
    )  # fmt: skip
    about = {"kind": recipe.split}
    if recipe.split in ("random", "user_time", "global_time", "cold_items"):
        about["ratios"] = list(recipe.ratios)
    if recipe.split in ("random", "mmrec", "cold_items"):
        about["seed"] = recipe.seed
    if recipe.split == "global_time":
        for label, name in ((1, "valid_from"), (2, "test_from")):
            about[name] = float(table.times[labels == label].min()) if (labels == label).any() else None
    return labels, {**about, "report": splits.report(table, labels)}


def featured(
    items: Items, recipe: Recipe, ready: dict[str, encoders.Encoder], tell: Tell
) -> tuple[dict, dict, dict, list[str]]:
    """Features and masks of what is missing, by modality; the encoders and their records; what was done in words."""
    given, absent, used, notes = {}, {}, {}, []
    for modality in tables.CONTENTS:
        if modality in items.features or recipe.encoder(modality) == "none" or not items.have(modality).any():
            continue
        encoder = ready.get(modality) or encoders.get(modality, device=recipe.encoder_device)
        cache = encoders.Cache(recipe.encoder_cache) if recipe.encoder_cache else None
        made = encoder.encode(
            items.contents(modality),
            lambda done, total, modality=modality: tell(f"encoding {modality}", done, total),
            cache=cache,
            root=recipe.root(modality),
        )
        given[modality], absent[modality] = made.features, made.missing
        used[modality] = encoder, made.record()
        # What the cache held is left out, so that the same tables give the same manifest.
        told = dataclasses.replace(made, reused=0).sentences(items.ids)
        notes += [f"{modality}: {sentence}" for sentence in told]
    for modality, (x, mask) in items.features.items():
        given[modality], absent[modality] = x, mask
    if not given:
        raise SeaError(
            "no modality: the items have no texts, pictures or sounds that are named, and there are no ready-made features "
            "(--features=image=FILE.npy)."
        )
    features, missing = {}, {}
    for modality in bundles.order_modalities(given):
        try:
            features[modality], missing[modality], repaired = rows.repair(given[modality], absent[modality])
        except SeaError as error:
            raise SeaError(f"{modality}: {error}.") from error
        notes += [f"{modality}: {note}" for note in repaired]
        if features[modality].shape[1] == 1:
            features[modality] = np.pad(features[modality], ((0, 0), (0, 1)))
            notes.append(f"{modality}: 1 wide; a column of zeros is added, since features are split in two")
    return features, {name: mask for name, mask in missing.items() if mask.any()}, used, notes


def shown(items: Items) -> dict[str, np.ndarray]:
    """Titles, categories and pictures for showing, those there are."""
    found = {}
    for name in ("titles", "categories"):
        if any(words := getattr(items, name)):
            found[name] = np.array([word[: tables.SHOWN_TITLE] for word in words], np.str_)
    pictures = items.pictures or [paths[0] if paths else "" for paths in items.files.get("image", [])]
    if any(pictures):
        found["pictures"] = np.array(pictures, np.str_)
    return found
