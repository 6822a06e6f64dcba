"""The paper's kinds of tables as plans of runs: which rows there are, which settings each searches, what is missing."""

import dataclasses
import functools
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from sea_jax import baselines, files, tabulating
from sea_jax.bundle import Bundle
from sea_jax.config import OWN_DEFAULTS, Config, shown
from sea_jax.errors import SeaError
from sea_jax.models.backbones import BACKBONES
from sea_jax.training import blends, closed_forms, runs, searching, seeds, workdir
from sea_jax.training.space import read_space


class Row(NamedTuple):
    """One setting of a table.

    settings: over the common ones. space: files of what is searched, () for nothing. of: a row whose chosen settings these
    change. baseline: a model without training instead. blend: rows that are blended instead, seed by seed. rival: the row
    that it is compared with, "" for the table's own choice.
    """

    name: str
    settings: Mapping[str, Any] = MappingProxyType({})
    space: tuple[str, ...] = ()
    of: str = ""
    baseline: str = ""
    blend: tuple[str, ...] = ()
    rival: str = ""

    @property
    def folder(self) -> str:
        """Its name as a folder's."""
        letters = (c if c.isalnum() else "_" for c in self.name.lower())
        return "_".join(part for part in "".join(letters).split("_") if part)


CUTS = tuple(sorted({int(metric.partition("@")[2]) for metric in tabulating.SHOWN}))
PLAN, DAMAGED = "plan.json", "restore it as it was, or choose another --output"
SEA, SOFTMAX = "SEA (BPR)", "SEA (softmax)"
OURS = (
    Row(SEA, {"backbone": "sea"}, ("sea",)),
    Row(SOFTMAX, {"backbone": "sea", "ranking_loss": "softmax"}, ("sea_softmax",)),
)
OTHERS = tuple(Row(name, {"backbone": name}, (name,)) for name in OWN_DEFAULTS if name != "sea")
CLOSED = tuple(Row(name, baseline=name) for name in ("popularity", "item_knn", "content_knn", "ease", "ease_content"))
BLEND = Row("blend", blend=(SEA, SOFTMAX, "ease_content"))


def main_table() -> list[Row]:
    """Every backbone, the closed forms, and the blend of SEA with one of them."""
    return [*OURS, *OTHERS, *CLOSED, BLEND]


def generalisation() -> list[Row]:
    """Each backbone that reads modalities alone and with SEA's separation and alignment."""
    found = []
    for row in OTHERS:
        if BACKBONES[row.name].has_modalities:
            with_sea = dict(row.settings) | {"separation": "club", "alignment": "solosim"}
            found += [row, Row(f"{row.name} + SEA", with_sea, (*row.space, "separation"), rival=row.name)]
    return found


def ablation() -> list[Row]:
    """SEA as chosen, and the same settings without its parts or with rivals in their place."""
    changes = {
        "without CLUB": {"separation": "none"},
        "without Solosim": {"alignment": "none"},
        "without both": {"separation": "none", "alignment": "none"},
        "q fitted across modalities": {"club_fit_pairs": "across_modalities"},
        "subtraction": {"separation": "subtraction"},
        "orthogonality": {"separation": "orthogonal"},
        "negative l2": {"separation": "negative_l2"},
        "split of the representation": {"split": "representation"},
    }
    found = []
    for whole in OURS:
        named = [
            Row(f"{whole.name}: {name}", change, of=whole.name, rival=whole.name) for name, change in changes.items()
        ]
        found += [whole, *named]
    return found


SENSITIVITY = {  # values around the defaults; where the chosen setting stands, a line says
    "alpha": (0.0, 0.003, 0.012, 0.05, 0.2, 1.0),
    "ureg": (0.0, 0.001, 0.006, 0.03, 0.1, 0.5),
    "temperature": (0.05, 0.1, 0.2, 0.5, 1.0),
    "ranking_temperature": (0.05, 0.1, 0.15, 0.2, 0.3, 0.5),
    "knn_k": (2, 5, 10, 20, 40),
    "club_steps": (1, 5, 20, 50, 100),
    "embedding_dim": (16, 32, 64, 128, 256),
}


def sensitivity() -> list[Row]:
    """SEA as chosen with one setting after the other moved."""
    found = list(OURS)
    for name, values in SENSITIVITY.items():
        whole = SOFTMAX if name == "ranking_temperature" else SEA
        found += [Row(f"{whole}: {name} {value:g}", {name: value}, of=whole, rival=whole) for value in values]
    return found


TABLES: dict[str, Callable[[], list[Row]]] = {
    "main": main_table,
    "generalisation": generalisation,
    "ablation": ablation,
    "sensitivity": sensitivity,
}


class Plan(NamedTuple):
    """A table's runs on one dataset.

    rows: of the table, all that these need among them. common: settings that all have. seeds: of each row that is
    trained; own_seeds: of SEA's. trials: of each search, of at most `common.epochs` epochs. spaces, folder: where the
    searched spaces are and where everything goes.
    """

    rows: tuple[Row, ...]
    common: Config
    seeds: tuple[int, ...]
    own_seeds: tuple[int, ...]
    trials: int
    spaces: Path
    folder: Path

    def row(self, name: str) -> Row:
        """The row of this name."""
        return next(row for row in self.rows if row.name == name)

    def seeds_of(self, row: Row) -> tuple[int, ...]:
        """The seeds of a row; () of a baseline, which has none."""
        if row.baseline:
            return ()
        if row.blend:
            return tuple(
                seed
                for seed in self.seeds
                if all(seed in self.seeds_of(one) or one.baseline for one in map(self.row, row.blend))
            )
        if row.of:
            return self.seeds_of(self.row(row.of))
        return self.own_seeds if row.settings.get("backbone") == "sea" else self.seeds

    def runs_of(self, row: Row) -> list[Path]:
        """The folders of a row's runs, made or not."""
        place = self.folder / row.folder
        return [place / "run"] if row.baseline else [place / "seeds" / f"seed-{seed}" for seed in self.seeds_of(row)]

    def missing(self, row: Row) -> list[str]:
        """What of a row is still to be done: "search", and the runs' folders by name."""
        left = [path.name for path in self.runs_of(row) if not (path / workdir.SUMMARY).is_file()]
        return ["search", *left] if row.space and left and not self.searched(row) else left

    def searched(self, row: Row) -> bool:
        """Whether a row's search has all its trials."""
        return len(searching.read_trials(self.folder / row.folder / "search")) >= self.trials


def chosen_rows(table: str, names: Sequence[str]) -> tuple[Row, ...]:
    """The rows of a table of these names, all for (), with the rows that they need; raises SeaError for an unknown one."""
    rows = {row.name: row for row in TABLES[table]()}
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise SeaError(f"--rows names {unknown[0]!r}, which the table {table} has not; its rows are {'; '.join(rows)}.")
    wanted = list(names or rows)
    for name in wanted:  # grows while it is walked
        row = rows[name]
        wanted += [one for one in (row.of, row.rival, *row.blend) if one and one not in wanted]
    return tuple(row for row in rows.values() if row.name in wanted)


def claim(plan: Plan) -> dict:
    """Writes what all rows of a dataset's folder have in common, or checks that it is the same there; returns it.

    Raises: SeaError if the folder's rows were made otherwise, or it holds something else.
    """
    names = ("epochs", "patience", "learning_rate", "modalities")
    wanted = {name: getattr(plan.common, name) for name in names} | {"trials": plan.trials}
    wanted, path = json.loads(json.dumps(wanted)), plan.folder / PLAN
    if not path.is_file():
        if plan.folder.exists() and (not plan.folder.is_dir() or any(plan.folder.iterdir())):
            raise SeaError(f"{plan.folder} is not empty and holds no table; choose another --output.")
        files.folder(plan.folder)
        files.write_json(path, files.sealed(wanted | {"hardware": hardware(), "date": time.strftime("%Y-%m-%d")}))
    found = files.unsealed(files.read_json(path, DAMAGED), path, DAMAGED)
    other = [f"--{name}={shown(found.get(name))}" for name in wanted if found.get(name) != wanted[name]]
    if other:
        raise SeaError(
            f"{plan.folder} holds rows that were made with {', '.join(other)}; give that, or another --output."
        )
    return found


def make(
    plan: Plan, row: Row, bundle: Bundle, report: Callable[[str], None], stop: Callable[[], bool] = lambda: False
) -> None:
    """Does what is missing of a row: its search, its runs; what a blend is made of must be there.

    Args:
      report: told in a line of each trial that is over, and now and then how far a run is.
      stop: asked after each epoch; KeyboardInterrupt is then raised, and the same call goes on.
    """
    place = plan.folder / row.folder
    if row.baseline:
        settings = baselines.Baseline(
            model=row.baseline,
            data_dir=plan.common.data_dir,
            workdir=str(place / "run"),
            modalities=plan.common.modalities,
        )
        closed_forms.run(bundle, settings)
    elif row.blend:
        for seed in plan.seeds_of(row):
            parts = [
                plan.folder / one.folder / ("run" if one.baseline else f"seeds/seed-{seed}")
                for one in map(plan.row, row.blend)
            ]
            settings = blends.Blend(
                runs=tuple(map(str, parts)),
                data_dir=plan.common.data_dir,
                workdir=str(place / "seeds" / f"seed-{seed}"),
            )
            blends.run(bundle, settings)
    else:
        config = settings_of(plan, row, bundle, report, stop)

        def told(seed, record):
            if record["epoch"] % 10 == 0:
                report(f"{row.name}: seed {seed}, epoch {record['epoch']}")

        seeds.fit_seeds(bundle, config, plan.seeds_of(row), place / "seeds", told, stop=stop)
    report(f"{row.name}: done")


def settings_of(
    plan: Plan, row: Row, bundle: Bundle, report: Callable[[str], None], stop: Callable[[], bool]
) -> Config:
    """The settings that a row is trained with: its own search's best, or those of the row that it changes."""
    if row.of:
        return dataclasses.replace(settings_of(plan, plan.row(row.of), bundle, report, stop), **row.settings)
    config = start_of(plan, row)
    if not row.space:
        return config
    space: dict = {}
    for name in row.space:
        space |= read_space(plan.spaces / f"{name}.yaml", config)

    def told(record):
        value = "no value" if record["value"] is None else f"{record['value']:.4f}"
        report(f"{row.name}: trial {record['trial']} {record['state']}, {value}, {record['seconds']:.0f} s")

    folder = plan.folder / row.folder / "search"
    return searching.search(bundle, config, space, plan.trials, folder, report=told, stop=stop).config


def start_of(plan: Plan, row: Row) -> Config:
    """The settings that a row's search begins with: the common ones, the backbone's own, the row's."""
    # What a backbone has of its own is open again: the common settings have another's.
    open_again = {field.name: None for field in dataclasses.fields(Config) if field.default is None}
    return dataclasses.replace(plan.common, **open_again | dict(row.settings))


def seconds_of(plan: Plan, row: Row) -> tuple[list[float], list[float]]:
    """Seconds of each trial that is over and of each finished run of a row."""
    trials = [float(line["seconds"]) for line in searching.read_trials(plan.folder / row.folder / "search")]
    done = [path for path in plan.runs_of(row) if (path / workdir.SUMMARY).is_file()]
    records = [workdir.read_metrics(path / workdir.METRICS) for path in done]
    return trials, [sum(workdir.seconds_of(one)) for one in records]


def cost(plan: Plan, row: Row) -> tuple[float, float]:
    """Seconds that a row has taken, and that what is missing of it may take.

    The guess is the longest trial or run of the row so far; of a row without any, the median of the other rows' longest;
    NaN where none has begun.
    """
    trials, done = seconds_of(plan, row)
    left = plan.missing(row)
    if not left:
        return sum(trials) + sum(done), 0.0
    others = [max([*a, *b]) for a, b in (seconds_of(plan, other) for other in plan.rows) if a or b]
    typical = max([*trials, *done]) if trials or done else statistics.median(others) if others else float("nan")
    more = max(0, plan.trials - len(trials)) if "search" in left else 0
    return sum(trials) + sum(done), (more + len([one for one in left if one != "search"])) * typical


def result(plan: Plan, row: Row) -> tabulating.Result | None:
    """What a row's finished runs gave; None while any is missing."""
    folders = plan.runs_of(row)
    if not all((folder / workdir.SUMMARY).is_file() for folder in folders):
        return None
    opened = [runs.open_run(folder, plan.common.data_dir) for folder in folders]
    users = [users_at(folder, plan.common.data_dir) for folder in folders]
    by_seed = {
        split: {metric: [run.metrics[split][metric] for run in opened] for metric in tabulating.SHOWN}
        for split in ("valid", "test")
    }
    moved, value = ("", 0.0)
    if row.of and len(row.settings) == 1 and isinstance(next(iter(row.settings.values())), int | float):
        ((moved, value),) = row.settings.items()
    return tabulating.Result(
        name=row.name,
        seeds=plan.seeds_of(row),
        **by_seed,
        users={metric: np.stack([of[metric] for of in users]) for metric in tabulating.SHOWN},
        rival=row.rival,
        settings=in_words(plan, row, opened[0]),
        setting=moved,
        value=float(value),
    )


@functools.cache
def users_at(folder: Path, data_dir: str) -> dict[str, np.ndarray]:
    """By metric, the test values of the users who count, of a finished run; ranked once in a process."""
    run = runs.open_run(folder, data_dir)
    users, found = run.by_user(CUTS, masks_valid=run.masks_valid)
    counted = np.isin(users, run.bundle().test[:, 0])
    return {metric: found["test"][metric][counted] for metric in tabulating.SHOWN}


def in_words(plan: Plan, row: Row, run: runs.Run) -> str:
    """The settings that validation chose."""
    if run.config is None:
        chosen = run.summary.get("chosen", {})
        if row.blend:
            return f"seed {plan.seeds_of(row)[0]}: " + ", ".join(
                f"{name} {value:.2g}" for name, value in zip(row.blend, chosen.values(), strict=True)
            )
        return ", ".join(f"{name} {value:.3g}" for name, value in chosen.items())
    if row.of:
        return ", ".join(f"{name} {shown(value)}" for name, value in row.settings.items())
    names = [name for file in row.space for name in read_space(plan.spaces / f"{file}.yaml", start_of(plan, row))]
    values = {name: getattr(run.config, name) for name in names}
    words = ", ".join(f"{name} {x:.3g}" if isinstance(x, float) else f"{name} {shown(x)}" for name, x in values.items())
    return words if plan.searched(row) or not row.space else f"{words} (its search is not in the folder)"


def results(plan: Plan) -> list[tabulating.Result]:
    """The finished rows, each with the row that it is compared with.

    That is its own rival, of a blend its best member, of others SEA's best row; the best by validation.
    """
    found = [one for row in plan.rows if (one := result(plan, row)) is not None]
    best = tabulating.best_of(found, [row.name for row in OURS])
    rivals = {row.name: row.rival or tabulating.best_of(found, row.blend) or best for row in plan.rows}
    return [one._replace(rival="" if rivals[one.name] == one.name else rivals[one.name]) for one in found]


def hardware() -> str:
    """What computes, in words."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        return f"{jax.device_count()} x {device.device_kind}"
    named = [line for line in _lines_of("/proc/cpuinfo") if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {named[0].partition(':')[2].strip() if named else device.device_kind}"


def _lines_of(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8", errors="replace").splitlines() if Path(path).is_file() else []
