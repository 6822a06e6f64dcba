"""A dataset for a person: sizes, curves, what is missing, whether features make sense, what may leak. HTML without scripts."""

import html
import re
from pathlib import Path

import numpy as np

from sea_jax import bundle as bundles
from sea_jax import pages
from sea_jax.bundle import Bundle

SHOWN_ITEMS, SHOWN_NEIGHBOURS = 6, 5
STARS = re.compile(r"\b[0-5](\.\d)?\s*(/\s*5|out of 5|stars?\b)", re.IGNORECASE)


def leaks(bundle: Bundle) -> list[str]:
    """What may tell a model of what is held out, in words; empty if nothing was found."""
    words = []
    codes = {
        split: getattr(bundle, split)[:, 0].astype(np.int64) * bundle.num_items + getattr(bundle, split)[:, 1]
        for split in bundles.SPLITS
    }
    for first, second in (("train", "valid"), ("train", "test"), ("valid", "test")):
        both = len(np.intersect1d(codes[first], codes[second]))
        if both:
            words.append(f"{both} pairs of user and item are in {first} and in {second}")
    words += _times(bundle)
    for name, x in bundle.features.items():
        have = ~bundle.missing.get(name, np.zeros(len(x), bool))
        rows = np.ascontiguousarray(x[have])
        kinds = np.unique(rows.view([("", "V", rows.shape[1] * 4)]).ravel(), return_counts=True)[1]
        if (kinds > 1).any():
            words.append(
                f"{name}: {int(kinds[kinds > 1].sum())} items have the features of another, in {int((kinds > 1).sum())} "
                f"groups (the largest of {int(kinds.max())})"
            )
    titles = bundle.shown.get("titles")
    if titles is not None:
        words += _titles(bundle, titles)
    if "training reviews" in str(bundle.manifest.get("items", {}).get("texts", "")):
        words.append("texts are made of training reviews, and so of what users of this dataset wrote")
    return words


def _times(bundle: Bundle) -> list[str]:
    if not all(len(bundle.times.get(split, ())) for split in ("train", "test")):
        return []
    words = []
    last = np.full(bundle.num_users, np.iinfo(np.int64).min)
    np.maximum.at(last, bundle.train[:, 0], bundle.times["train"])
    early = bundle.times["test"] < last[bundle.test[:, 0]]
    if early.any():
        words.append(
            f"{early.mean():.0%} of the test interactions are older than a training interaction of the same user (of a split "
            "by time there is none)"
        )
    future = bundle.times["train"] > bundle.times["test"].min()
    if future.any():
        words.append(f"{future.mean():.0%} of the training interactions came after the first test interaction")
    return words


def _titles(bundle: Bundle, titles: np.ndarray) -> list[str]:
    words = []
    if bundle.item_ids is not None and bundle.item_ids.dtype.kind == "U":
        own = sum(
            len(str(name)) > 4 and str(name) in title
            for name, title in zip(bundle.item_ids, titles.tolist(), strict=True)
        )
        if own:
            words.append(f"{own} titles contain the item's own id")
    stars = sum(bool(STARS.search(title)) for title in titles.tolist())
    if stars:
        words.append(f"{stars} titles speak of stars or ratings")
    return words


def sample(bundle: Bundle, count: int = SHOWN_ITEMS) -> list[int]:
    """A few items to look at: from the most popular one down to one of the least."""
    popularity = np.bincount(bundle.train[:, 1], minlength=bundle.num_items)
    order = np.lexsort((np.arange(bundle.num_items), -popularity))
    places = np.unique(np.geomspace(1, bundle.num_items, min(count, bundle.num_items)).astype(int)) - 1
    return order[places].tolist()


def name_of(bundle: Bundle, item: int) -> str:
    """The item's title, or its id, or its number."""
    titles = bundle.shown.get("titles")
    if titles is not None and titles[item]:
        return str(titles[item])
    return str(item if bundle.item_ids is None else bundle.item_ids[item])


def text(bundle: Bundle) -> str:
    """The page for a terminal."""
    parts = [bundles.describe(bundle), "", "What may leak:"]
    parts += [f"  {words}" for words in leaks(bundle)] or ["  nothing was found"]
    for modality, (indices, similarities) in bundle.neighbours.items():
        parts += ["", f"Nearest items by {modality}:"]
        for item in sample(bundle):
            near = [
                f"{name_of(bundle, other)[:40]} ({likeness:.2f})"
                for other, likeness in zip(indices[item].tolist(), similarities[item].tolist(), strict=True)
                if other != item
            ]
            parts.append(f"  {name_of(bundle, item)[:40]}: {'; '.join(near[:SHOWN_NEIGHBOURS]) or 'none'}")
    return "\n".join(parts)


def page(bundle: Bundle, root: Path | None = None) -> str:
    """The page as HTML in one file; `root` is the folder that pictures' paths are relative to."""
    escape = html.escape
    found = leaks(bundle)
    parts = [
        _sizes(bundle),
        "<h2>Users, items, time</h2>",
        pages.image(pages.png(curves(bundle)), "How many interactions users and items have; when they happened"),
        "<h2>Modalities</h2>",
        _modalities(bundle),
        "<h2>What may leak</h2>",
        f"<ul>{''.join(f'<li>{escape(words)}</li>' for words in found) or '<li>nothing was found</li>'}</ul>",
    ]
    for modality in bundle.modalities:
        parts += [f"<h2>Nearest items by {escape(modality)}</h2>", _neighbours(bundle, modality, root)]
    parts += ["<h2>How it was made</h2>", _record(bundle)]
    return pages.page(bundle.name, parts)


def _sizes(bundle: Bundle) -> str:
    total = sum(len(getattr(bundle, split)) for split in bundles.SPLITS)
    rows = [["users", f"{bundle.num_users:,}"], ["items", f"{bundle.num_items:,}"], ["interactions", f"{total:,}"]]
    rows += [["density", f"{total / bundle.num_users / bundle.num_items:.3%}"]]
    for split in bundles.SPLITS:
        pairs = getattr(bundle, split)
        rows.append(
            [split, f"{len(pairs):,} of {len(np.unique(pairs[:, 0])):,} users, {len(np.unique(pairs[:, 1])):,} items"]
        )
    return pages.table([], rows)


def _modalities(bundle: Bundle) -> str:
    rows = []
    for name, width in bundle.widths:
        missing = int(bundle.missing[name].sum()) if name in bundle.missing else 0
        encoder = bundle.manifest.get("encoders", {}).get(name, {}).get("encoder", "")
        rows.append(
            [
                html.escape(name),
                str(width),
                f"{missing:,} ({missing / bundle.num_items:.1%})",
                html.escape(str(encoder)),
            ]
        )
    return pages.table(["name", "width", "items without", "encoder"], rows)


def _neighbours(bundle: Bundle, modality: str, root: Path | None) -> str:
    indices, similarities = bundle.neighbours[modality]
    rows = []
    for item in sample(bundle):
        if modality in bundle.missing and bundle.missing[modality][item]:
            rows.append([card(bundle, item, root), "<small>has none</small>"])
            continue
        near = [
            f"{card(bundle, other, root)}<small>{likeness:.2f}</small>"
            for other, likeness in zip(indices[item].tolist(), similarities[item].tolist(), strict=True)
            if other != item
        ]
        rows.append([card(bundle, item, root), *near[:SHOWN_NEIGHBOURS]])
    return pages.table(["item", "its nearest, with cosine"], rows)


def card(bundle: Bundle, item: int, root: Path | None) -> str:
    """An item as a page shows it."""
    pictures = bundle.shown.get("pictures")
    return pages.card(name_of(bundle, item), "" if pictures is None else str(pictures[item]), root)


def curves(bundle: Bundle):
    """A figure: interactions of users and of items by rank, and over time where times are known."""
    from matplotlib.figure import Figure

    timed = {split: x for split, x in bundle.times.items() if len(x)}
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    axes = figure.subplots(1, 3 if timed else 2)
    for axis, column, count, kind in zip(
        axes, (0, 1), (bundle.num_users, bundle.num_items), ("users", "items"), strict=False
    ):
        for split in bundles.SPLITS:
            pairs = getattr(bundle, split)
            counted = np.sort(np.bincount(pairs[:, column], minlength=count))[::-1]
            if counted.any():
                axis.loglog(np.arange(1, count + 1), np.where(counted > 0, counted, np.nan), label=split)
        axis.set(
            xlabel=f"{kind}, the most active first" if column == 0 else f"{kind}, the most popular first",
            ylabel="interactions",
        )
        axis.legend(frameon=False)
    if timed:
        both = np.concatenate(list(timed.values()))
        edges = np.linspace(both.min(), max(both.max(), both.min() + 1), 41)
        for split, x in timed.items():
            axes[2].stairs(np.histogram(x, edges)[0], edges, label=split, fill=split == "train")
        ticks = np.linspace(edges[0], edges[-1], 4)
        moments = np.clip(ticks, -6e10, 2.5e11).astype(np.int64).astype("datetime64[s]")
        letters = 10 if edges[-1] - edges[0] < 200 * 86400 else 7  # to the day, or to the month
        axes[2].set_xticks(ticks, [str(moment)[:letters] for moment in moments])
        axes[2].set(ylabel="interactions", xlabel="time")
        axes[2].legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=3)  # above the bars
    return figure


def _record(bundle: Bundle) -> str:
    manifest = bundle.manifest
    arrow = lambda two: f"{two[0]:,} → {two[1]:,}"  # noqa: E731
    rows = [
        [html.escape(step["step"]), *(arrow(step[kind]) for kind in ("interactions", "users", "items"))]
        for step in manifest.get("steps", [])
    ]
    parts = [pages.table(["step", "interactions", "users", "items"], rows)] if rows else []
    split = manifest.get("split", {})
    about = [f"split: {html.escape(', '.join(f'{key} {value}' for key, value in split.items() if key != 'report'))}"]
    about += [
        html.escape(words)
        for words in (*split.get("report", []), *manifest.get("skipped", []), *manifest.get("repairs", []))
    ]
    parts.append(f"<ul>{''.join(f'<li>{words}</li>' for words in about)}</ul>")
    hashes = {**manifest.get("sources", {}), **manifest.get("hashes", {})}
    rows = [[html.escape(name), f"<code>{html.escape(str(value))}</code>"] for name, value in hashes.items()]
    parts.append(
        f"<details><summary>SHA-256 of the sources and of the bundle's files</summary>{pages.table([], rows)}</details>"
    )
    return "\n".join(parts)
