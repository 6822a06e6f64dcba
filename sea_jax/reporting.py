"""Runs as a report that one can look at: curves, maps, lists, who is served how well, a model card."""

import dataclasses
import html
import os
import sys
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, Int

from sea_jax import bundle as bundles
from sea_jax import config as configs
from sea_jax import files, list_metrics, pages
from sea_jax.bundle import Bundle
from sea_jax.config import Config
from sea_jax.errors import SeaError, require
from sea_jax.raw import describe
from sea_jax.recommender import Recommender
from sea_jax.training import parallel
from sea_jax.training.runs import Run, metric_table

SHOWN_USERS, SHOWN_ITEMS = 4, 6
POINTS = 5000  # of a map
COLOURS = 8  # categories with a colour of their own
PAGE, CARD = "report.html", "MODEL_CARD.md"


def report(
    runs: Sequence[Run], k: int = 20, maps: str = "pca", image_root: str | os.PathLike | None = None
) -> tuple[str, dict[str, bytes], str]:
    """The report of runs of one setting and several seeds, or of several settings, on one dataset.

    Curves are of all runs; maps, lists and the card are of the first.

    Args:
      runs: finished, at least one.
      k: length of the lists.
      maps: "pca" or "tsne".
      image_root: the folder with the pictures of the items.
    Returns: the page, HTML in one file; PNGs by name; the model card in Markdown.
    Raises: SeaError for runs that are not finished, or of different data.
    """
    first, bundle = runs[0], runs[0].bundle()
    for run in runs:
        if not run.summary:
            raise SeaError(f"--workdir={run.folder} holds no finished run; train it to its end first.")
        if any(not np.array_equal(getattr(run.bundle(), split), getattr(bundle, split)) for split in bundles.SPLITS):
            raise SeaError(f"{run.folder} was trained on other data than {first.folder}; report runs on the same data.")
    made = first.recommender()
    pictures = {}
    if any(run.history for run in runs):
        pictures["curves"] = pages.png(curves(runs))
    if any(name.startswith("mi/") for run in runs for record in run.history for name in record):
        pictures["mutual_information"] = pages.png(information(runs))
    rows = part_rows(first, made)
    if rows:
        placed = {name: project(x, maps) for name, x in rows.items()}
        pictures["map_popularity"] = pages.png(mapped(placed, popularity=counts(bundle)))
        if "categories" in bundle.shown:
            pictures["map_category"] = pages.png(mapped(placed, categories=bundle.shown["categories"]))
    split = "test" if len(bundle.test) else "valid"
    left_out = bundle.valid if split == "test" and first.masks_valid else list_metrics.NOBODY
    served = list_metrics.served(made, bundle.train, getattr(bundle, split), k, left_out)
    page = pages.page(
        f"{bundle.name}: {title_of(first)}", _parts(runs, pictures, served, made, split, k, maps, image_root)
    )
    return page, {f"{name}.png": picture for name, picture in pictures.items()}, card(first, made, served, split, k)


def write(folder: str | os.PathLike, page: str, pictures: dict[str, bytes], card: str) -> None:
    """Writes report.html, the PNGs and MODEL_CARD.md into a folder."""
    folder = files.folder(folder)
    for name, picture in pictures.items():
        with files.whole(folder / name) as aside:
            aside.write_bytes(picture)
    files.write_text(folder / CARD, card)
    files.write_text(folder / PAGE, page)


def title_of(run: Run) -> str:
    """What was run."""
    return run.config.backbone if run.config is not None else str(run.summary.get("baseline", "baseline"))


def settings_of(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by setting, named by what differs: one curve each, with a band over its seeds."""
    found: dict[str, list[Run]] = {}
    own = [{} if run.config is None else dataclasses.asdict(run.config) for run in runs]
    aside = {"seed", "workdir", "data_dir", "compilation_cache_dir"}
    differing = [name for name in own[0] if name not in aside and len({str(one.get(name)) for one in own}) > 1]
    for run, values in zip(runs, own, strict=True):
        named = ", ".join(f"{name}={configs.shown(values.get(name, ''))}" for name in differing)
        found.setdefault(named or title_of(run), []).append(run)
    return found


def band(runs: Sequence[Run], name: str) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, "3 n"]]:
    """Epochs at which a quantity is recorded, and its mean, least and largest over the runs, until the first of them ends.

    Beyond, a mean over those that go on would jump.
    """
    at: dict[int, list[float]] = {}
    last = []
    for run in runs:
        recorded = {
            record["epoch"]: record[name] for record in run.history if isinstance(record.get(name), int | float)
        }
        last += [max(recorded)] if recorded else []
        for epoch, value in recorded.items():
            at.setdefault(epoch, []).append(float(value))
    epochs = sorted(epoch for epoch in at if epoch <= min(last))
    values = [(np.mean(at[epoch]), min(at[epoch]), max(at[epoch])) for epoch in epochs]
    return np.array(epochs, int), np.array(values, float).reshape(-1, 3).T


def curves(runs: Sequence[Run]):
    """A figure: the losses, and the monitored metric on validation and test, by epoch.

    Runs without training have trials in place of epochs: they are drawn only where there are no others.
    """
    runs = [run for run in runs if run.config is not None] or runs
    names = dict.fromkeys(name for run in runs for record in run.history for name in record if name.startswith("loss/"))
    wanted = ["loss/total", *(name for name in names if name != "loss/total" and name.count("_") == 0)][:4]
    monitor = next((run.config.monitor for run in runs if run.config is not None), "recall@20")
    panels = [[name] for name in wanted if name in names] + [[f"valid/{monitor}", f"test/{monitor}"]]
    return _panels(runs, panels)


def information(runs: Sequence[Run]):
    """A figure: the estimates of mutual information between parts, by epoch; of runs that were trained."""
    runs = [run for run in runs if run.config is not None]
    names = dict.fromkeys(name for run in runs for record in run.history for name in record if name.startswith("mi/"))
    pairs = dict.fromkeys(name.rpartition("/")[0] for name in names)
    return _panels(runs, [[f"{pair}/club"] for pair in pairs] + [[f"{pair}/ksg"] for pair in pairs], "nats", marker="o")


def _panels(runs: Sequence[Run], panels: list[list[str]], unit: str = "", marker: str = ""):
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.7 * columns, 2.9 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    groups = settings_of(runs)
    for axis, names in zip(axes, panels, strict=False):
        for colour, (setting, of) in enumerate(groups.items()):
            for name, style in zip(names, ("-", "--"), strict=False):
                epochs, (mean, least, most) = band(of, name)
                if not len(epochs):
                    continue
                words = [*([setting] if len(groups) > 1 else []), *([name.partition("/")[0]] if len(names) > 1 else [])]
                axis.plot(epochs, mean, style, color=f"C{colour}", marker=marker, markersize=3, label=", ".join(words))
                if len(of) > 1:
                    axis.fill_between(epochs, least, most, color=f"C{colour}", alpha=0.2, linewidth=0)
        title = names[0] if len(names) == 1 else names[0].partition("/")[2]
        axis.set_title(
            title.removeprefix("mi/").replace("generic_generic", "generic, generic").replace("_unique", ", unique"),
            fontsize=10,
        )
        axis.set(xlabel="trial" if all(run.config is None for run in runs) else "epoch", ylabel=unit)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axis.lines and (len(groups) > 1 or len(names) > 1):
            axis.legend(frameon=False, fontsize=8)
    return figure


def part_rows(run: Run, made: Recommender) -> dict[str, np.ndarray]:
    """Rows of the items to map: generic and unique parts by modality; of a model without parts, its item vectors."""
    training = run.restored() if run.config is not None else None
    if training is not None and training.model.separated:
        parts = training.programs.separate(run.parameters()[0], training.data)
        whole = jax.tree.map(lambda x: parallel.whole_rows(x, training.bundle.num_items, training.layout), parts)
        return {f"{m}, {part}": getattr(whole[m], part) for m in whole for part in ("generic", "unique")}
    return {} if made.item_vectors is None else {"item vectors": made.item_vectors}


def pca(rows: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n 2"]:
    """Rows on their two principal axes, each of which points to its largest loading; zeros where there is no second."""
    centred = rows - rows.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    placed = centred @ axes
    return np.pad(placed, ((0, 0), (0, 2 - placed.shape[1])))


def project(rows: np.ndarray, how: str = "pca") -> tuple[np.ndarray, np.ndarray]:
    """(n, 2) places of at most POINTS rows on a map, drawn at random beyond, and the numbers of these rows."""
    chosen = np.arange(len(rows))
    if len(rows) > POINTS:
        chosen = np.sort(np.random.default_rng(0).choice(len(rows), POINTS, replace=False))
    if how == "pca":
        return pca(rows)[chosen], chosen
    tsne = require("openTSNE", "report", "A map by t-SNE").TSNE
    perplexity = min(30, max(2, (len(chosen) - 1) // 4))
    return np.asarray(tsne(perplexity=perplexity, random_state=0, n_jobs=1).fit(np.float64(rows[chosen]))), chosen


def mapped(placed: dict, popularity: np.ndarray | None = None, categories: np.ndarray | None = None):
    """A figure of maps, items coloured by popularity or by category."""
    from matplotlib.figure import Figure

    columns = min(4, len(placed))
    rows = -(-len(placed) // columns)
    figure = Figure(figsize=(2.9 * max(columns, 2), 2.9 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[len(placed) :]:
        axis.set_axis_off()
    size = 3 if len(next(iter(placed.values()))[1]) > 500 else 8
    for axis, (name, (places, chosen)) in zip(axes, placed.items(), strict=False):
        axis.set_title(name, fontsize=10)
        axis.set(xticks=[], yticks=[])
        if popularity is not None:
            drawn = axis.scatter(*places.T, c=np.log10(1 + popularity[chosen]), s=size, cmap="viridis", linewidths=0)
            continue
        names, numbers = np.unique(categories[categories != ""], return_counts=True)
        for colour, one in enumerate(names[np.argsort(-numbers, kind="stable")][:COLOURS].tolist()):
            own = categories[chosen] == one
            axis.scatter(*places[own].T, s=size, color=f"C{colour}", linewidths=0, label=one[:24])
    if popularity is not None:
        figure.colorbar(drawn, ax=axes.tolist(), label="log10(1 + training interactions)", shrink=0.8)
    else:
        figure.legend(
            *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8, markerscale=2
        )
    return figure


def counts(bundle: Bundle) -> Int[np.ndarray, " items"]:
    """Training interactions of each item."""
    return np.bincount(bundle.train[:, 1], minlength=bundle.num_items)


def _by_user(pairs: Int[np.ndarray, "n 2"]) -> dict[int, set[int]]:
    found: dict[int, set[int]] = {}
    for user, item in pairs.tolist():
        found.setdefault(user, set()).add(item)
    return found


def _parts(runs, pictures, served, made, split, k, maps, image_root) -> list[str]:
    """What the page says, in order."""
    bundle, words = runs[0].bundle(), {
        "curves": "Losses and metrics by epoch, of several seeds mean and span until the first of them ends",
        "mutual_information": "Estimates of mutual information between the parts, by epoch. club: an upper bound by a Gaussian "
        "conditional, which is loose where parts have many columns; ksg: from nearest neighbours, low in many dimensions. "
        "Read how each moves, not which is larger.",
        "map_popularity": f"Maps of the items ({maps}), coloured by popularity",
        "map_category": f"Maps of the items ({maps}), coloured by category",
    }  # fmt: skip
    parts = [f"<pre>{html.escape(bundles.describe(bundle))}</pre>", "<h2>Metrics</h2>", _metrics(runs, k)]
    for name, heading in (("curves", "Learning"), ("mutual_information", "Mutual information during training")):
        if name in pictures:
            parts += [f"<h2>{heading}</h2>", pages.image(pictures[name], words[name])]
    if "map_popularity" in pictures:
        parts.append("<h2>Maps of the items</h2>")
        parts.append(f"<p>The two {'principal axes' if maps == 'pca' else 'dimensions of t-SNE'} of each part.</p>")
        parts += [
            pages.image(pictures[name], words[name]) for name in words if name.startswith("map") and name in pictures
        ]
    if served["users"]:
        parts += [f"<h2>Whom the lists serve ({split}, {k} places)</h2>", _served(served)]
    parts += ["<h2>Lists of a few users</h2>", _lists(made, bundle, split, image_root)]
    return parts


def _metrics(runs: Sequence[Run], k: int) -> str:
    """A row for each run, and the mean over those of one setting."""
    names = [f"{split}/{kind}@{cut}" for split, kind, cut in _columns(runs[0], k)]

    def cells(values):
        return [f"{value:.4f}" for value in values]

    rows = []
    for setting, of in settings_of(runs).items():
        values = np.array([[run.metrics[n.split("/")[0]].get(n.split("/")[1], np.nan) for n in names] for run in of])
        for run, row in zip(of, values, strict=True):
            seed = "" if run.config is None else f"seed {run.config.seed}, best epoch {run.summary.get('best_epoch')}"
            rows.append([html.escape(setting), seed, *cells(row)])
        if len(of) > 1:
            rows.append(["", f"mean of {len(of)}", *(f"<b>{cell}</b>" for cell in cells(values.mean(axis=0)))])
            rows.append(["", "standard deviation", *cells(values.std(axis=0, ddof=1))])
    return pages.table(["setting", "", *names], rows)


def _columns(run: Run, k: int) -> list[tuple[str, str, str]]:
    found = []
    for split, values in run.metrics.items():
        cuts = [int(name.partition("@")[2]) for name in values]
        cut = str(k if k in cuts else max(cuts))
        found += [(split, kind, cut) for kind in ("recall", "ndcg", "hit") if f"{kind}@{cut}" in values]
    return found


def _served(served: dict) -> str:
    rows = [
        [name, f"{of['items']:,}", f"{of['held_out']:,}", f"{of['recall']:.4f}", f"{of['places']:.1%}"]
        for name, of in served["groups"].items()
        if of["items"]
    ]
    about = [
        ["item coverage", f"{served['coverage']:.1%} of the catalogue is in some list"],
        ["Gini", f"{served['gini']:.3f} (0: all items listed alike, 1: one alone)"],
        ["popularity of what is listed", f"{served['arp']:.1f} training interactions on average"],
        ["novelty", f"{served['novelty']:.2f} bits"],
    ]
    head = [
        "items that have each a third of the training interactions (unseen: none)",
        "items",
        "held out",
        "recall",
        "places in lists",
    ]
    return pages.table(head, rows) + pages.table([], about)


def _lists(made: Recommender, bundle: Bundle, split: str, image_root) -> str:
    """Lists of users from the most active one down; what is held out of a list's items is marked."""
    active = np.bincount(bundle.train[:, 0], minlength=bundle.num_users)
    order = np.lexsort((np.arange(bundle.num_users), -active))[: (active > 0).sum()]
    users = order[np.unique(np.geomspace(1, len(order), min(SHOWN_USERS, len(order))).astype(int)) - 1]
    held_out, parts = _by_user(getattr(bundle, split)), []
    number = {one: place for place, one in enumerate(made.item_ids.tolist())}
    for user in users.tolist():
        found, scores = made.recommend(made.user_ids[[user]], min(SHOWN_ITEMS, bundle.num_items))
        items = [number[one] for one in found[0].tolist() if one is not None]
        marks = [
            f"<small>{html.escape(str(made.item_ids[item]))}: {score:.3g}{' ✓' if item in held_out.get(user, ()) else ''}</small>"
            for item, score in zip(items, scores[0], strict=False)
        ]
        seen = made.seen(user)[:SHOWN_ITEMS].tolist()
        rows = [
            ["has seen", *(describe.card(bundle, item, image_root) for item in seen)],
            [
                "is recommended",
                *(describe.card(bundle, item, image_root) + mark for item, mark in zip(items, marks, strict=True)),
            ],
        ]
        name = html.escape(str(made.user_ids[user]))
        parts.append(f"<h3>User {name}, {active[user]} training interactions</h3>{pages.table([], rows)}")
    return f"<p>✓: held out in {split}.</p>" + "".join(parts)


def card(run: Run, made: Recommender, served: dict, split: str, k: int) -> str:
    """The model card, Markdown: what it is, on what data, with which settings and versions, what for, and its limits."""
    bundle, config = run.bundle(), run.config
    cold = int((counts(bundle) == 0).sum())
    settings = "" if config is None else configs.flag_lines(config)
    plain = set(configs.flag_lines(Config()).splitlines())
    changed = [
        line for line in settings.splitlines() if line not in plain and not line.startswith(("--workdir", "--data_dir"))
    ]
    if config is None:
        changed = [f"{name} {value:g}" for name, value in run.summary.get("chosen", {}).items()]
    versions = {**run.summary.get("versions", {}), "python": sys.version.split()[0]}
    sources = bundle.manifest.get("sources", {})
    lines = [
        f"# {title_of(run)} on {bundle.name}", "",
        f"A recommender of {bundle.num_items:,} items for {bundle.num_users:,} users"
        + (", from their interactions alone." if not made.extras and config is None else f", from interactions and {', '.join(bundle.modalities)}."),
        "", "## Data", "", "```", bundles.describe(bundle), "```", "",
        *(f"* {name}: SHA-256 `{digest}`" for name, digest in sources.items()),
        "", "## Settings", "", _heading(config, changed), "",
        *([] if not changed else ["```", *changed, "```"]),
        "", "## Results", "", "```", metric_table(run.metrics, run.summary.get("users", {})), "```", "",
    ]  # fmt: skip
    if served["users"]:
        lines += [
            f"Of {served['users']:,} users in {split}, lists of {k}: {served['coverage']:.1%} of the catalogue is in some list.",
            "", "| items | number | held out | recall | places in lists |", "|---|---|---|---|---|",
            *(f"| {name} | {of['items']} | {of['held_out']} | {of['recall']:.4f} | {of['places']:.1%} |" for name, of in served["groups"].items() if of["items"]),
            "", "Head, middle and tail have each a third of the training interactions, unseen items none; recall is over interactions.", "",
        ]  # fmt: skip
    lines += [
        "## Intended use", "",
        "Lists of items for users of this data, similar items, lists for strangers from a basket. Not for decisions about people:"
        " a score says what somebody like this user took, nothing else.",
        "", "## Limits", "",
        "* It knows what people took, not whether it was good for them, and repeats the tastes and gaps of its data.",
        f"* Popular items are listed more often than others{_skew(served)}.",
        f"* {cold:,} item{'s have' if cold != 1 else ' has'} no training interactions; what is said of them rests on their features alone." if cold else
        "* All items have training interactions; how it does on new ones is not measured here.",
        *(f"* {int(mask.sum()):,} items lack {name}." for name, mask in bundle.missing.items()),
        "* Measured offline, on interactions held out of the same data; nobody was shown a list.",
        _chosen(run, bundle),
        "", "## Versions", "", ", ".join(f"{name} {version}" for name, version in versions.items()), "",
    ]  # fmt: skip
    return "\n".join(lines)


def _heading(config: Config | None, changed: list[str]) -> str:
    if config is None:
        return "The weights of its members, or its own settings:" if changed else "None."
    return "Those that differ from the defaults:" if changed else "The defaults."


def _chosen(run: Run, bundle: Bundle) -> str:
    if run.config is not None and len(bundle.valid):
        return f"* The best epoch was chosen by {run.config.monitor} on validation."
    if run.config is None and run.history:
        return f"* Its settings were chosen by {run.summary.get('monitor')} on validation."
    return "* Nothing was chosen on validation."


def _skew(served: dict) -> str:
    if not served["users"]:
        return ""
    head = served["groups"]["head"]
    return f": {head['items']:,} of them (the head) take {head['places']:.0%} of the places"
