"""One setting under several seeds: a run folder each, one compilation for all, a summary over them."""

import dataclasses
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from sea_jax import files
from sea_jax.bundle import Bundle
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.training import hosts, runs
from sea_jax.training.runs import Run
from sea_jax.training.workdir import RECORD, SUMMARY, check_same, read_record, read_summary, seed_folders


def fit_seeds(
    bundle: Bundle,
    config: Config,
    seeds: Sequence[int],
    workdir: str | os.PathLike | None = None,
    report: Callable[[int, dict], None] = lambda seed, record: None,
    *,
    resume: bool = True,
    warn: Callable[[str], None] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> list[Run]:
    """Trains one setting under each seed, one after the other, as `sea_jax.fit` would train each alone, to the bit.

    Each stops for itself. Graphs, features and compiled programs are made once: on two CPU cores three seeds side by
    side in one program (vmap) took 1.1 to 1.9 times as long (docs/tables.md).

    Args:
      bundle, config, resume, warn, stop: as in `fit`; the seed in `config` is not used.
      seeds: distinct.
      workdir: gets a run folder seed-N for each seed, and at the end a summary.json over all that are there, see
        `summarise`.
      report: called with the seed and the record of each epoch.
    Returns: the runs, in the order of `seeds`.
    Raises: SeaError for seeds that repeat, for a folder of something else, and as `fit`.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise SeaError(f"--seeds={','.join(map(str, seeds))} must be one or several different numbers.")
    config = dataclasses.replace(config, modalities=bundle.select(config.modalities).modalities)
    settings = [dataclasses.replace(config, seed=seed) for seed in seeds]
    folder = None if workdir is None else Path(workdir)
    if folder is not None:
        hosts.first_does(lambda: check_free(folder, config))

    def told(seed, record):
        if folder is not None and hosts.is_first():  # what was over the seeds before is not any more
            (folder / SUMMARY).unlink(missing_ok=True)
        report(seed, record)

    found: list[Run] = []
    for of_seed in settings:
        place = None if folder is None else folder / f"seed-{of_seed.seed}"
        run = runs.fit(
            bundle, of_seed, place, lambda record, seed=of_seed.seed: told(seed, record),
            resume=resume, warn=warn, stop=stop, like=found[0] if found else None,
        )  # fmt: skip
        found.append(run)
    if folder is not None and hosts.is_first():
        files.write_json(folder / SUMMARY, summarise(summaries_in(folder)))
    return found


def summaries_in(folder: Path) -> list[dict]:
    """The summaries of the finished seeds in a folder, by seed."""
    return [read_summary(path) for path in seed_folders(folder) if (path / SUMMARY).is_file()]


def check_free(folder: Path, config: Config) -> None:
    """Raises SeaError for a folder that holds anything but runs of seeds, or seeds of other settings."""
    if folder.exists() and not folder.is_dir():
        raise SeaError(f"--workdir={folder} is a file; name a folder.")
    if (folder / RECORD).exists():
        raise SeaError(f"--workdir={folder} holds a run of one seed; choose another folder for several.")
    known = {*seed_folders(folder), folder / SUMMARY, *folder.glob(f"tmp.*.{SUMMARY}")}
    if folder.is_dir() and set(folder.iterdir()) - known:
        raise SeaError(f"--workdir={folder} holds more than runs of seeds; choose another folder.")
    for path in seed_folders(folder):
        if (path / RECORD).is_file():
            check_same(path, dataclasses.replace(config, seed=read_record(path)[0].seed))


def summarise(summaries: Sequence[dict]) -> dict:
    """Summaries of runs that differ in their seed as one.

    Returns: {"seeds": [...], "valid": {"recall@20": {"mean", "sd", "values": {"1": ...}}, ...}, "test": {...},
      "best_epoch": {"1": ...}, ...}. sd: of the sample, None of a single seed.
    """
    first, seeds = summaries[0], [summary["seed"] for summary in summaries]
    found: dict = {"seeds": seeds}
    for split in ("valid", "test"):
        if all(split in summary for summary in summaries):
            found[split] = {
                name: spread({str(seed): one[split][name] for seed, one in zip(seeds, summaries, strict=True)})
                for name in first[split]
            }
    by_seed = ("best_epoch", "epochs", "median_seconds_per_epoch", "device")
    found |= {name: {str(one["seed"]): one[name] for one in summaries} for name in by_seed}
    return found | {name: first[name] for name in ("monitor", "users", "versions")}


def spread(values: dict[str, float]) -> dict:
    """Mean, standard deviation of the sample and the values by seed."""
    sd = statistics.stdev(values.values()) if len(values) > 1 else None
    return {"mean": statistics.fmean(values.values()), "sd": sd, "values": values}


def describe(summary: dict) -> str:
    """The summary over seeds as a table: mean, standard deviation, values."""
    seeds = summary["seeds"]
    lines = [
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''} ({', '.join(map(str, seeds))}), best epochs {', '.join(map(str, summary['best_epoch'].values()))}"
    ]
    for split in ("valid", "test"):
        for name, of in summary.get(split, {}).items():
            sd = "" if of["sd"] is None else f" ± {of['sd']:.4f}"
            values = ", ".join(f"{value:.4f}" for value in of["values"].values())
            lines.append(f"{split:6s}{name:14s}{of['mean']:.4f}{sd}  ({values})")
    return "\n".join(lines)
