"""A baseline's whole run: settings chosen on validation, measured, its folder written as a training run's is."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Int

from sea_jax import files
from sea_jax.baselines import GRIDS, READS, Baseline, make
from sea_jax.bundle import Bundle
from sea_jax.config import shown
from sea_jax.errors import SeaError
from sea_jax.evaluation import by_user, user_counts
from sea_jax.recommender import Recommender
from sea_jax.training import workdir
from sea_jax.training.runs import Run

NOBODY = np.zeros((0, 2), np.int32)


def measure(
    made: Recommender,
    bundle: Bundle,
    topk: tuple[int, ...],
    splits: tuple[str, ...] = ("valid", "test"),
    candidates: Bool[np.ndarray, " items"] | None = None,
    order: Int[np.ndarray, " items"] | None = None,
) -> dict[str, dict[str, float]]:
    """Means over users of every metric, {"valid": {...}, "test": {...}}, of any recommender of this dataset.

    candidates: (I,) the items that are ranked; all without. order: (I,) of ties, a permutation; by item number without.
    """
    pairs = [getattr(bundle, split) if split in splits else NOBODY for split in ("valid", "test")]
    train = bundle.train
    if order is not None:
        place = np.argsort(order)
        train, *pairs = (np.stack([x[:, 0], place[x[:, 1]]], axis=1) for x in (train, *pairs))
    counts = user_counts(train, *pairs, bundle.num_users)
    if not any(count["counted"] for count in counts.values()):
        return {}
    size = bundle.num_users, bundle.num_items

    def scores(rows):
        found = made.scores(made.user_ids[rows])
        if candidates is not None:
            found[:, ~candidates] = -np.inf
        return found if order is None else found[:, order]

    _, found = by_user(scores, train, *pairs, *size, topk)
    return {
        split: {name: float(values.sum()) / counts[split]["counted"] for name, values in found[split].items()}
        for split in splits
        if counts[split]["counted"]
    }


def measure_cold(made: Recommender, bundle: Bundle, topk: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Metrics of held-out items that nobody has in training: {"cold": among such items alone, "all": among all items}.

    Held-out pairs of items that somebody has in training do not count. Ties are broken by a permutation drawn from seed 0:
    items are numbered as files have them, in which popular ones come first, and many models give cold items one score.

    Raises: SeaError if test holds no such item.
    """
    cold = np.bincount(bundle.train[:, 1], minlength=bundle.num_items) == 0
    pairs = bundle.test[cold[bundle.test[:, 1]]]
    if not len(pairs):
        raise SeaError("test holds no item that training lacks; make a bundle with --split=cold_items.")
    held_out = dataclasses.replace(bundle, test=pairs)
    order = np.random.default_rng(0).permutation(bundle.num_items)
    return {
        name: measure(made, held_out, topk, ("test",), candidates, order)["test"]
        for name, candidates in (("cold", cold), ("all", None))
    }


def choose(bundle: Bundle, settings: Baseline, report: Callable[[dict], None]) -> tuple[Baseline, Recommender]:
    """The settings with those that were not given chosen on validation: one after the other, until none improves."""
    free = [name for name in READS[settings.model] if getattr(settings, name) is None]
    current = dataclasses.replace(settings, **{name: GRIDS[name][0] for name in free})
    if not free:
        return current, make(bundle, current)
    tried: dict[tuple, float] = {}

    def value(candidate: Baseline) -> float:
        key = tuple(getattr(candidate, name) for name in free)
        if key not in tried:
            began = time.perf_counter()
            found = measure(make(bundle, candidate), bundle, settings.topk, ("valid",))
            if not found:
                raise SeaError(f"nobody counts in validation; give {', '.join('--' + name for name in free)}.")
            tried[key] = found["valid"][settings.monitor]
            metrics = {f"valid/{name}": x for name, x in found["valid"].items()}
            seconds = {"seconds": time.perf_counter() - began}
            report({"epoch": len(tried), **dict(zip(free, key, strict=True)), **seconds, **metrics})
        return tried[key]

    while True:
        before = current
        for name in free:
            grid = [dataclasses.replace(current, **{name: one}) for one in GRIDS[name]]
            current = max(grid, key=value)  # the first of those that tie
        if current == before or len(free) == 1:
            return current, make(bundle, current)


def run(bundle: Bundle, settings: Baseline, report: Callable[[dict], None] = lambda record: None) -> Run:
    """Chooses, measures and writes a baseline into its workdir (nowhere if that is empty).

    A finished one of the same settings and data is read, not made again.

    Raises: SeaError for a folder that holds something else.
    """
    bundle = bundle.select(settings.modalities)
    settings = dataclasses.replace(settings, modalities=bundle.modalities)

    def work(note):
        chosen, made = choose(bundle, settings, note)
        return chosen.model, {name: getattr(chosen, name) for name in READS[chosen.model]}, made

    return kept(bundle, settings, work, report)


def kept(
    bundle: Bundle, settings: Any, work: Callable[[Callable], tuple], report: Callable[[dict], None], **identity: Any
) -> Run:
    """The run of some work in its workdir (nowhere if that is empty): made, measured and written, or, if finished, read.

    Args:
      settings: a dataclass with data_dir, workdir, topk and monitor; each field has a flag.
      work: called with what takes records of trials; returns a name, what was chosen, and the Recommender.
      report: called with each record.
      **identity: JSON that tells the run from others besides its settings.
    Raises: SeaError for a folder that holds something else.
    """
    folder = Path(settings.workdir) if settings.workdir else None
    with contextlib.ExitStack() as held:
        if folder is not None:
            workdir.check_free(folder)
            held.enter_context(workdir.lock(folder))
            workdir.claim_baseline(dataclasses.asdict(settings) | identity, _flag_lines(settings), bundle, folder)
            if (folder / workdir.SUMMARY).is_file() and (folder / workdir.RECOMMENDER).is_file():
                return Run(None, workdir.read_summary(folder), [], [], folder, data_dir=settings.data_dir)
        return _run(bundle, settings, work, folder, report)


def _run(bundle, settings, work, folder, report) -> Run:
    records: list[dict] = []

    def note(record):
        records.append(record)
        report(record)

    began = time.perf_counter()
    name, chosen, made = work(note)
    summary = {
        "baseline": name,
        "chosen": chosen,
        "monitor": settings.monitor,
        **measure(made, bundle, settings.topk),
        "users": user_counts(bundle.train, bundle.valid, bundle.test, bundle.num_users),
        "seconds": time.perf_counter() - began,
        "device": f"1 x {jax.devices()[0].device_kind}",
        "versions": workdir.versions(),
    }
    if folder is not None:
        files.write_text(folder / workdir.METRICS, "".join(workdir.line_of(record) for record in records))
        made.save(folder / workdir.RECOMMENDER)
        files.write_json(folder / workdir.SUMMARY, files.sealed(summary))
    return Run(None, summary, records, [], folder, data_dir=settings.data_dir, made=made)


def _flag_lines(settings: Any) -> str:
    values = dataclasses.asdict(settings)
    return "".join(f"--{name}={shown(value)}\n" for name, value in values.items() if value is not None)


def describe(summary: dict) -> str:
    """One line of what was chosen."""
    chosen = ", ".join(f"{name} {value:g}" for name, value in summary["chosen"].items())
    return f"{summary['baseline']}" + (f": {chosen}" if chosen else "") + f", {summary['seconds']:.1f} s"
