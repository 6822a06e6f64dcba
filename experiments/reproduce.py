"""The tables, from one command: `python experiments/reproduce.py --table=main --data_dirs=data/tiktok,data/baby --output=DIR`.

Each row of a table searches its settings on validation (the same number of trials of the same length for every row, experiments/
spaces), trains the best under several seeds and is compared user by user. --list shows the plan and what it may cost. The
same command does what is missing; DIR/TABLE.md, .csv and .png hold what is done so far.
"""

import math
import time
from pathlib import Path

from absl import flags

from sea_jax import bundle as bundles
from sea_jax import cli, files, tabulating
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.training import platform, tables

SPACES = Path(__file__).parent / "spaces"


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    rows = tables.chosen_rows(values.table, values.rows)
    plans = {}
    for path in values.data_dirs:
        name = Path(path).name
        if name in plans:
            raise SeaError(f"--data_dirs names two folders {name}; tables call datasets by their folders' names.")
        plans[name] = plan_of(path, rows, Path(values.output) / name)
    if not plans:
        raise SeaError("--data_dirs is empty; name the folders of bundles.")
    if values.list:
        print(listed(plans))
        return 0
    check_free(Path(values.output), plans)
    records = {data: tables.claim(plan) for data, plan in plans.items()}
    with cli.interrupts() as stop:
        for data, plan in plans.items():
            bundle = bundles.load(plan.common.data_dir, modalities=plan.common.modalities, verify_hashes=True)
            for number, row in enumerate(rows, start=1):
                if plan.missing(row):
                    print(
                        f"{data}, row {number} of {len(rows)}: {row.name} ({', '.join(plan.missing(row))})", flush=True
                    )
                    tables.make(plan, row, bundle, lambda line, data=data: print(f"{data}, {line}", flush=True), stop)
                    print(f"  {time.strftime('%H:%M')}, left: {left_of(plans)}", flush=True)
                    write(plans, records)
    write(plans, records)
    print(f"wrote {values.output}/{values.table}.md, .csv and .png")
    return 0


def plan_of(path: str, rows: tuple[tables.Row, ...], folder: Path) -> tables.Plan:
    """The plan of one dataset; raises SeaError for flags that cannot be."""
    values = cli.FLAGS
    seeds = cli.entries("seeds", int)
    if not seeds or len(set(seeds)) < len(seeds):
        raise SeaError(f"--seeds={','.join(values.seeds)} must be one or several different numbers.")
    if not (Path(path) / "manifest.json").is_file():
        raise SeaError(f"--data_dirs names {path}, which holds no bundle (no manifest.json); make it with data_prep.")
    common = Config(
        data_dir=path, learning_rate=values.learning_rate, epochs=values.epochs, patience=values.patience,
        modalities=tuple(values.modalities), compilation_cache_dir=values.compilation_cache_dir,
    )  # fmt: skip
    platform.prepare_platform(common)
    own = cli.entries("sea_seeds", int) or seeds
    return tables.Plan(rows, common, seeds, own, values.trials, SPACES, folder)


def check_free(folder: Path, plans: dict[str, tables.Plan]) -> None:
    """Raises SeaError for an output that holds anything but tables and their runs."""
    if not str(cli.FLAGS.output):
        raise SeaError("--output is empty; name a folder.")
    known = {f"{table}.{ending}" for table in tables.TABLES for ending in ("md", "csv", "png")} | set(plans)
    there = files.folder(folder).iterdir()
    other = [path.name for path in there if path.name not in known and not (path / tables.PLAN).is_file()]
    if [name for name in other if not name.startswith("tmp.")]:
        raise SeaError(f"--output={folder} holds {sorted(other)[0]}, which is of no table; choose another folder.")


def listed(plans: dict[str, tables.Plan]) -> str:
    """The plan: what each row still needs, what it took, what the rest may take."""
    lines, spent = [f"{'data':14s}{'row':46s}{'took':>10s}{'left':>10s}  missing"], 0.0
    for data, plan in plans.items():
        for row in plan.rows:
            took, more = tables.cost(plan, row)
            times, missing = f"{duration(took):>10s}{duration(more):>10s}", ", ".join(plan.missing(row)) or "-"
            lines.append(f"{data:14s}{row.name:46s}{times}  {missing}")
            spent += took
    lines.append(f"took {duration(spent)}, left {left_of(plans)}")
    return "\n".join(lines)


def left_of(plans: dict[str, tables.Plan]) -> str:
    """What is missing may take so long; rows of a dataset of which nothing has begun are counted."""
    costs = [tables.cost(plan, row)[1] for plan in plans.values() for row in plan.rows]
    unknown = sum(math.isnan(one) for one in costs)
    known = duration(sum(one for one in costs if not math.isnan(one)))
    return f"{known}, and {unknown} rows that nothing tells the time of yet" if unknown else known


def duration(seconds: float) -> str:
    """Seconds for a person."""
    if math.isnan(seconds):
        return "?"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def write(plans: dict[str, tables.Plan], records: dict[str, dict]) -> None:
    """Writes the table of all rows that are done, in all three forms."""
    values = cli.FLAGS
    whole = {data: plan._replace(rows=tables.chosen_rows(values.table, ())) for data, plan in plans.items()}
    found = {data: done for data, plan in whole.items() if (done := tables.results(plan))}
    if not found:
        return
    plan, record = next(iter(plans.values())), next(iter(records.values()))
    spent = {data: sum(tables.cost(of, row)[0] for row in of.rows) for data, of in whole.items()}
    made = (
        f"`python experiments/reproduce.py --table={values.table} --trials={plan.trials} --epochs={plan.common.epochs} "
        f"--patience={plan.common.patience} --learning_rate={plan.common.learning_rate} --seeds={','.join(values.seeds)} "
        f"--sea_seeds={','.join(values.sea_seeds)}`, begun {record['date']} on {record['hardware']}, written {time.strftime('%Y-%m-%d')}."
    )
    head = (
        f"# Table: {values.table}\n\n{made} Each row with a space (experiments/spaces) has the best settings by validation "
        f"Recall@20 of {plan.trials} trials, the first of them the backbone's defaults at that learning rate. Mean ± standard deviation over "
        "seeds; **best** and *second* in test. Differences are the row's minus the named row's, over users (paired t, 95 %); p by Holm "
        f"over the dataset's rows and both metrics. Trials and epochs took {', '.join(f'{duration(s)} ({data})' for data, s in spent.items())}.\n\n"
    )
    parts = [tabulating.markdown(data, results) for data, results in found.items()]
    folder = Path(values.output)
    files.write_text(folder / f"{values.table}.md", head + "\n".join(parts))
    rows = [row for data, results in found.items() for row in tabulating.rows(data, results)]
    files.write_table(folder / f"{values.table}.csv", tabulating.COLUMNS, rows)
    draw = tabulating.lines if values.table == "sensitivity" else tabulating.bars
    if values.table != "sensitivity" or any(one.setting for results in found.values() for one in results):
        files.save_figure(draw(found), folder / f"{values.table}.png")


if __name__ == "__main__":
    flags.DEFINE_enum("table", None, tuple(tables.TABLES), "which table", required=True)
    flags.DEFINE_list("data_dirs", None, "folders of the bundles", required=True)
    flags.DEFINE_string("output", None, "folder for the runs and the tables", required=True)
    flags.DEFINE_bool("list", False, "show the plan and its cost, and do nothing")
    flags.DEFINE_list("rows", [], "some rows of the table alone, and those they need")
    flags.DEFINE_list("seeds", ["1", "2", "3"], "of every row that is trained")
    flags.DEFINE_list("sea_seeds", [], "of SEA's own rows; empty: the same")
    flags.DEFINE_integer("trials", 15, "of each search", lower_bound=1)
    names = ("epochs", "patience", "learning_rate", "modalities", "compilation_cache_dir")
    cli.define_flags(Config, names, epochs=100, learning_rate=1e-3)
    cli.run(main)
