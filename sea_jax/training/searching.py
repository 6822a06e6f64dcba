"""Settings searched on validation with Optuna: one folder that survives kill -9, and trials that share programs."""

import csv
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sea_jax import config as configs
from sea_jax import files
from sea_jax.bundle import Bundle
from sea_jax.config import Config
from sea_jax.errors import SeaError, require
from sea_jax.evaluation import user_counts
from sea_jax.training import loop, parallel, platform, workdir
from sea_jax.training.space import Space, suggest, values

RECORD, STUDY, TRIALS, BEST, HISTORY = "search.json", "study.db", "trials.csv", "best.flags", "history.png"
KEPT = 3  # trainings whose programs may serve again; each holds graphs and features on the device
DAMAGED = "restore it as it was, or search again in another --workdir"
STARTUP = 6  # trials drawn at random before the sampler learns from them, and before any is pruned
WARMUP = 5  # epochs of each trial that are never pruned


class Found(NamedTuple):
    """What a search found: the settings of the best finished trial, its value and epoch, the number of trials."""

    config: Config
    value: float
    epoch: int
    trials: int


def search(
    bundle: Bundle,
    config: Config,
    space: Space,
    trials: int,
    folder: Path,
    *,
    prune: bool = True,
    sampler_seed: int = 0,
    report: Callable[[dict], None] = lambda record: None,
    stop: Callable[[], bool] = lambda: False,
) -> Found:
    """Searches the settings of the best validation metric (`config.monitor`); test is taken away before anything begins.

    The first trial is `config` itself. Further ones are TPE's (Bergstra et al. 2011), each from a seed of its own made
    of `sampler_seed` and how many trials are over, so that a search that was killed and goes on draws what it would
    have drawn; the trial that was under way is made again. Trials below the median of the others at the same epoch
    are pruned. A trial whose loss is not finite is over and counts as failed.

    Args:
      bundle: the dataset.
      config: the settings that are not searched, epochs and patience of each trial among them.
      space: from `read_space`.
      trials: how many there shall be in all.
      folder: gets search.json, study.db (SQLite), trials.csv, history.png, best.flags.
      report: called with each trial that is over: "trial", "state", "value", "best_epoch", "seconds", its values.
      stop: asked after each epoch; if it says yes, KeyboardInterrupt is raised.
    Raises: SeaError for a folder of another search, or if no trial has a value.
    """
    bundle = dataclasses.replace(bundle.select(config.modalities), test=bundle.test[:0])
    config = dataclasses.replace(config, modalities=bundle.modalities)
    platform.prepare_platform(config)
    loop.check_fits(config, bundle)
    parallel.device_count(config)
    if not user_counts(bundle.train, bundle.valid, bundle.test, bundle.num_users)["valid"]["counted"]:
        raise SeaError("nobody counts in validation, by which a search chooses; make the bundle with another split.")
    if config.eval_every > config.epochs:
        raise SeaError(
            f"--eval_every={config.eval_every} exceeds --epochs={config.epochs}: no trial would be measured."
        )
    _check_free(folder)
    with workdir.lock(folder):
        _claim(folder, config, bundle, space, prune, sampler_seed)
        study = open_study(folder, prune)
        requeue(study, values(config, space))
        kept: list[loop.Training] = []
        while (done := len(over(study))) < trials:
            study.sampler = sampler(sampler_seed, done)
            trial = study.ask()
            record = _try(study, trial, bundle, dataclasses.replace(config, **suggest(trial, space)), kept, stop)
            _write(folder, study, config, space)
            report(record)
        found = _write(folder, study, config, space)
    if found is None:
        raise SeaError("no trial has come to its end with a finite loss; choose a space of smaller learning rates.")
    return found


def _check_free(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise SeaError(f"--workdir={folder} is a file; name a folder.")
    if not folder.is_dir() or (folder / RECORD).exists():
        return
    if {path.name for path in folder.iterdir() if not path.name.startswith("tmp.")} - {workdir.LOCK}:
        raise SeaError(f"--workdir={folder} is not empty and holds no search; choose another folder.")


def _claim(folder, config, bundle, space, prune, sampler_seed) -> None:
    defining = [field.name for field in dataclasses.fields(Config) if field.metadata["numbers"]]
    record = {
        "config": {name: getattr(config, name) for name in (*defining, "epochs")},
        "space": {name: of._asdict() for name, of in space.items()},
        "prune": prune,
        "sampler_seed": sampler_seed,
        "data": bundle.data_hashes or workdir.digest(bundle),
        "versions": workdir.versions(),
    }
    record, path = json.loads(json.dumps(record)), folder / RECORD
    if path.exists():
        old = files.unsealed(files.read_json(path, DAMAGED), path, DAMAGED)
        other = [name for name in record if name not in ("config", "versions") and old.get(name) != record[name]]
        was = old.get("config") or {}
        other += [f"--{name}" for name, value in record["config"].items() if was.get(name) != value]
        if other:
            raise SeaError(f"--workdir={folder} holds a search of other {', '.join(other)}; choose another folder.")
    else:
        files.write_json(path, files.sealed(record))


def open_study(folder: Path, prune: bool = True):
    """The folder's study, begun if there is none; raises SeaError for a damaged one."""
    optuna = require("optuna", "search", "a search")
    sqlalchemy = require("sqlalchemy", "search", "a search")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    address = sqlalchemy.URL.create("sqlite", database=str((folder / STUDY).absolute()))
    # The same number of startup trials as the sampler's: what these show is what a median means something by.
    pruner = optuna.pruners.MedianPruner(STARTUP, WARMUP + 1) if prune else optuna.pruners.NopPruner()
    try:
        return optuna.create_study(
            storage=address.render_as_string(hide_password=False), study_name="search", direction="maximize",
            pruner=pruner, load_if_exists=True,
        )  # fmt: skip
    except (sqlalchemy.exc.SQLAlchemyError, RuntimeError) as error:
        raise SeaError(f"{folder / STUDY} is damaged and cannot be read; {DAMAGED}.") from error


def sampler(seed: int, done: int):
    """The sampler of the trial after `done` others: one that was seeded once would repeat its points after a resume."""
    optuna = require("optuna", "search", "a search")
    own = int(np.random.SeedSequence([seed, done]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=own, n_startup_trials=STARTUP)


def requeue(study, first: dict[str, Any]) -> None:
    """Tells trials that a kill left running that they failed, and queues them again; `first` if there is none at all."""
    optuna = require("optuna", "search", "a search")
    states = optuna.trial.TrialState
    if not study.get_trials(deepcopy=False):
        study.enqueue_trial(first)
    for trial in study.get_trials(deepcopy=False, states=[states.RUNNING]):
        fixed = trial.system_attrs.get("fixed_params", {})  # of the first, a kill may come before it is asked for them
        study.enqueue_trial(fixed | trial.params)  # first: a kill between the two may repeat a trial, not lose one
        study.tell(trial.number, state=states.FAIL)


def over(study) -> list:
    """Trials that have had their turn: complete, pruned, or failed by themselves."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.name in ("COMPLETE", "PRUNED") or (trial.state.name == "FAIL" and "error" in trial.user_attrs)
    ]


def _try(study, trial, bundle: Bundle, config: Config, kept: list[loop.Training], stop) -> dict:
    """Trains one trial's settings to their end, or until it is pruned; its record."""
    optuna = require("optuna", "search", "a search")
    states, began = optuna.trial.TrialState, time.perf_counter()
    record = {"trial": trial.number, **trial.params}
    try:
        run = loop.prepare(bundle, config, like=next((run for run in kept if loop.serves(run, bundle, config)), None))
        kept[:] = [run, *(old for old in kept if old.programs is not run.programs)][:KEPT]
        state = states.COMPLETE
        while not loop.finished(run):
            run, measured = loop.advance(run)
            if stop():
                raise KeyboardInterrupt("stopped; the same command goes on.")
            if f"valid/{config.monitor}" in measured:
                trial.report(measured[f"valid/{config.monitor}"], measured["epoch"])
                if trial.should_prune():
                    state = states.PRUNED
                    break
        value, epoch = float(run.progress.best_value), int(run.progress.best_epoch)
    except loop.NotFinite as error:
        state, value, epoch = states.FAIL, None, 0
        trial.set_user_attr("error", str(error))
    seconds = time.perf_counter() - began
    trial.set_user_attr("best_epoch", epoch)
    trial.set_user_attr("seconds", seconds)
    study.tell(trial, value if state == states.COMPLETE else None, state=state)
    return record | {"state": state.name.lower(), "value": value, "best_epoch": epoch, "seconds": seconds}


def _write(folder: Path, study, config: Config, space: Space) -> Found | None:
    """Writes the table, the picture and the best settings; returns the best, None while no trial is complete."""
    optuna = require("optuna", "search", "a search")
    trials = over(study)
    rows = [
        [one.number, one.state.name.lower(), "" if one.value is None else one.value, one.user_attrs["best_epoch"],
         f"{one.user_attrs['seconds']:.1f}", *(one.params[name] for name in space)]
        for one in trials
    ]  # fmt: skip
    files.write_table(folder / TRIALS, ["trial", "state", config.monitor, "best_epoch", "seconds", *space], rows)
    complete = [one for one in trials if one.state.name == "COMPLETE"]
    if not complete:
        return None
    best = max(complete, key=lambda one: one.value)  # the first of those that tie
    chosen = dataclasses.replace(config, **suggest(optuna.trial.FixedTrial(best.params), space))
    named = dataclasses.replace(chosen, workdir="")
    lines = [line for line in configs.flag_lines(named).splitlines() if not line.startswith("--workdir=")]
    head = f"# The best of {len(trials)} trials by valid {config.monitor}: {best.value:.4f} in epoch {best.user_attrs['best_epoch']}."
    files.write_text(folder / BEST, "\n".join([head, *lines]) + "\n")
    files.save_figure(history(trials, config.monitor), folder / HISTORY)
    return Found(chosen, best.value, best.user_attrs["best_epoch"], len(trials))


def read_trials(folder: Path) -> list[dict[str, str]]:
    """The rows of a search's trials.csv; none where there is no search."""
    path = folder / TRIALS
    return list(csv.DictReader(files.read_lines(path))) if path.is_file() else []


def history(trials: list, monitor: str):
    """A figure: each trial's value, the best so far, and where trials were pruned."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axis = figure.subplots()
    for state, marker, colour in (("COMPLETE", "o", "#1f5fa8"), ("PRUNED", "x", "#999999")):
        reached = [
            (n, max(one.intermediate_values.values(), default=np.nan))
            for n, one in enumerate(trials, 1)
            if one.state.name == state
        ]
        if reached:
            axis.scatter(*zip(*reached, strict=True), marker=marker, color=colour, label=state.lower())
    complete = [one.value if one.state.name == "COMPLETE" else -np.inf for one in trials]
    best = np.maximum.accumulate(complete)
    axis.step(
        np.arange(1, len(trials) + 1),
        np.where(np.isfinite(best), best, np.nan),
        where="post",
        color="#d1495b",
        label="best so far",
    )
    axis.set(xlabel="trial", ylabel=f"validation {monitor}")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(frameon=False)
    return figure
