"""Results of a table's runs as Markdown, CSV and a picture: means and deviations over seeds, who differs from whom."""

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sea_jax import comparing
from sea_jax.comparing import Comparison

SHOWN = ("recall@20", "ndcg@20")
COLUMNS = (
    "data", "row", "metric", "valid_mean", "valid_sd", "test_mean", "test_sd", "seeds", "test_by_seed", "compared_with",
    "difference", "low", "high", "p_holm", "settings",
)  # fmt: skip


class Result(NamedTuple):
    """What a row's runs gave.

    valid, test: by metric, the value of each seed. users: by metric, (seeds, users) test values of the users who count.
    rival: the row it is compared with, "" for none. settings: those that were chosen, in words. setting, value: what a
    table of sensitivity moved, ("", 0) else.
    """

    name: str
    seeds: tuple[int, ...]
    valid: dict[str, list[float]]
    test: dict[str, list[float]]
    users: dict[str, Float[np.ndarray, "seeds users"]]
    rival: str = ""
    settings: str = ""
    setting: str = ""
    value: float = 0.0


def mean_sd(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean, and the standard deviation of the sample where there are several."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def compared(results: Sequence[Result]) -> dict[tuple[str, str], Comparison]:
    """By row and metric, how a row differs from its rival in test; p corrected (Holm) over all of them."""
    by_name = {one.name: one for one in results}
    pairs = [(one, by_name[one.rival], metric) for one in results if one.rival in by_name for metric in SHOWN]
    found = [
        comparing.compare({metric: one.users[metric]}, [{metric: rival.users[metric]}], resamples=0)[0]
        for one, rival, metric in pairs
    ]
    adjusted = comparing.holm(np.array([one.p for one in found])) if found else []
    return {
        (one.name, metric): of._replace(p_holm=float(p))
        for (one, _, metric), of, p in zip(pairs, found, adjusted, strict=True)
    }


def best_of(results: Sequence[Result], names: Sequence[str]) -> str:
    """The one of these rows of the highest mean validation value, "" if none is there: test chooses nothing."""
    there = [one for one in results if one.name in names]
    return max(there, key=lambda one: statistics.fmean(one.valid[SHOWN[0]])).name if there else ""


def marks(results: Sequence[Result], metric: str) -> dict[str, str]:
    """By row, what stands around its mean: ** for the best in test, * for the second."""
    order = sorted(results, key=lambda one: -statistics.fmean(one.test[metric]))
    return {one.name: mark for one, mark in zip(order, ("**", "*"), strict=False)}


def markdown(data: str, results: Sequence[Result]) -> str:
    """The table of one dataset."""
    differences, marked = compared(results), {metric: marks(results, metric) for metric in SHOWN}
    lines = [
        f"### {data}",
        "",
        "| | seeds | valid R@20 | test R@20 | test N@20 | test R@20 beside | p of R@20, N@20 | settings |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in results:
        cells = [one.name, str(max(1, len(one.seeds))), _number(one.valid[SHOWN[0]])]
        cells += [_number(one.test[metric], marked[metric].get(one.name, "")) for metric in SHOWN]
        of = [differences.get((one.name, metric)) for metric in SHOWN]
        cells += [_difference(one.rival, of[0]), ", ".join(filter(None, map(_p, of))), one.settings]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _number(values: Sequence[float], mark: str = "") -> str:
    mean, sd = mean_sd(values)
    text = f"{mark}{mean:.4f}{mark}".replace("0.", ".", 1)
    return text if sd is None else f"{text} ± {sd:.4f}".replace("± 0.", "± .")


def _difference(rival: str, of: Comparison | None) -> str:
    if of is None:
        return ""
    if np.isnan(of.p):
        return f"{rival}: the same"
    apart = [f"{x:+.4f}".replace("0.", ".", 1) for x in (of.difference, of.low, of.high)]
    return f"{rival}: {apart[0]} ({apart[1]} to {apart[2]})"


def _p(of: Comparison | None) -> str:
    return "" if of is None or np.isnan(of.p_holm) else f"{of.p_holm:.2g}"


def rows(data: str, results: Sequence[Result]) -> list[list[Any]]:
    """A row of COLUMNS for each result and metric."""
    differences, found = compared(results), []
    for one in results:
        for metric in SHOWN:
            of = differences.get((one.name, metric))
            apart = [""] * 5 if of is None else [one.rival, of.difference, of.low, of.high, of.p_holm]
            numbers = ["" if x is None else x for x in (*mean_sd(one.valid[metric]), *mean_sd(one.test[metric]))]
            by_seed = " ".join(f"{value:.6f}" for value in one.test[metric])
            found.append([data, one.name, metric, *numbers, max(1, len(one.seeds)), by_seed, *apart, one.settings])
    return found


def bars(tables: dict[str, Sequence[Result]]):
    """A figure: test Recall@20 of each row, a panel for each dataset; lines are standard deviations over seeds."""
    from matplotlib.figure import Figure

    longest = max(map(len, tables.values()))
    figure = Figure(figsize=(4.2 * len(tables) + 1.4, 0.3 * longest + 1.2), layout="constrained")
    for axis, (data, results) in zip(np.atleast_1d(figure.subplots(1, len(tables))), tables.items(), strict=True):
        drawn = [mean_sd(one.test[SHOWN[0]]) for one in results]
        ours = ["#1f5fa8" if one.name.startswith("SEA") or "+ SEA" in one.name else "#b8c4d0" for one in results]
        axis.barh(
            [one.name for one in results],
            [mean for mean, _ in drawn],
            xerr=[sd or 0 for _, sd in drawn],
            color=ours,
            height=0.7,
        )
        axis.invert_yaxis()
        axis.set(title=data, xlabel="test Recall@20")
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def lines(tables: dict[str, Sequence[Result]]):
    """A figure of a table of sensitivity: a row of panels for each dataset, one for each setting that was moved.

    Values stand side by side, whatever their distance. The dashed line is the row that they change.
    """
    from matplotlib.figure import Figure

    moved = list(dict.fromkeys(one.setting for results in tables.values() for one in results if one.setting))
    figure = Figure(figsize=(2.5 * len(moved) + 0.6, 2.3 * len(tables) + 0.4), layout="constrained")
    panels = figure.subplots(len(tables), len(moved), squeeze=False)
    for row, (data, results) in zip(panels, tables.items(), strict=True):
        for axis, name in zip(row, moved, strict=True):
            of = [one for one in results if one.setting == name]
            drawn = [mean_sd(one.test[SHOWN[0]]) for one in of]
            places = range(len(of))
            axis.errorbar(
                places, [mean for mean, _ in drawn], [sd or 0 for _, sd in drawn],
                marker="o", markersize=3, color="#1f5fa8", capsize=2,
            )  # fmt: skip
            whole = [mean_sd(one.test[SHOWN[0]])[0] for one in results if of and one.name == of[0].rival]
            if whole:
                axis.axhline(whole[0], color="#999999", linewidth=1, linestyle="--")
            axis.set_xticks(places, [f"{one.value:g}" for one in of])
            axis.set_title(f"{data}: {name}", fontsize=9)
            axis.tick_params(labelsize=7)
            axis.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel("test Recall@20", fontsize=8)
    return figure
