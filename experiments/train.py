"""Trains, evaluates and checkpoints a model: `python experiments/train.py --flagfile=baby.flags`."""

import contextlib
import dataclasses
import importlib.metadata
import json
import os
import statistics
import sys
from pathlib import Path

import jax
from absl import flags
from tqdm import tqdm

from data_prep.make_demo import make_demo
from experiments import program, runs
from sea_jax import bundle as bundles
from sea_jax.config import Config, differences
from sea_jax.errors import SeaError
from sea_jax.training import checkpoints, hosts, loop, parallel

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "jraph", "numpy", "scipy")

flags.DEFINE_bool("resume", True, "go on where the run in --workdir stopped, if its flags are the same")
flags.DEFINE_bool("demo", False, "make the demo data in --data_dir if there are none")
flags.DEFINE_bool("quiet", False, "no progress bar and no line per epoch")


def main(argv: list[str]) -> int:
    del argv
    config = program.config_from_flags()
    for name in ("data_dir", "workdir"):
        if not getattr(config, name):
            raise SeaError(f"--{name} is missing; name a folder, or use one of the shipped --flagfile.")
    program.prepare_platform(config)
    leave = hosts.join(config, program.stop_at_once)
    if flags.FLAGS.demo:
        hosts.first_does(lambda: make_missing_demo(config.data_dir))
    bundle = load_bundle(config)
    config = with_modalities(config, bundle)
    loop.check_fits(config, bundle)
    parallel.device_count(config)
    loop.resolved(config)  # or a run that cannot start would claim the workdir
    hosts.first_does(lambda: open_workdir(config, bundle, flags.FLAGS.resume))
    summary = train(config, bundle, Path(config.workdir))
    if hosts.is_first():
        print(describe(summary))
    leave()
    return 0


def make_missing_demo(data_dir: str) -> None:
    """The demo data, if there are none."""
    if not Path(data_dir).exists():
        print(f"making the demo data in {data_dir}")
        make_demo(data_dir)


def load_bundle(config: Config) -> bundles.Bundle:
    """The dataset, or a message that says how to make it."""
    path = Path(config.data_dir)
    if not path.exists():
        raise SeaError(
            f"--data_dir={path} does not exist: it must hold a bundle (manifest.json, interactions.npz, features.npz, "
            f"...); make it from a folder with {path.name}.inter, image_feat.npy and text_feat.npy by "
            f"`python data_prep/from_mmrec.py --source=FOLDER --output={path}`."
        )
    return bundles.load(path, modalities=config.modalities or None)


def with_modalities(config: Config, bundle: bundles.Bundle) -> Config:
    """The settings with the modalities that are used written out."""
    return dataclasses.replace(config, modalities=bundle.modalities)


def record_of(config: Config, bundle: bundles.Bundle) -> dict:
    """What identifies a run: settings, data and versions."""
    return {
        "config": dataclasses.asdict(config),
        "data": bundle.manifest["hashes"],
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "python": sys.version.split()[0],
    }


def open_workdir(config: Config, bundle: bundles.Bundle, resume: bool) -> None:
    """Makes the workdir, or checks that it holds a run of the same flags and data; else raises SeaError."""
    workdir = Path(config.workdir)
    if workdir.exists() and not workdir.is_dir():
        raise SeaError(f"--workdir={workdir} is a file; name a folder.")
    record = record_of(config, bundle)
    path = workdir / "run.json"
    if path.exists():
        if not resume:
            raise SeaError(f"--workdir={workdir} already holds a run and --noresume was given; choose another folder.")
        try:
            old = json.loads(path.read_text())
            old_config, old_data = old["config"], old["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise SeaError(f"{path} is damaged; choose another --workdir or delete this one.") from error
        differing = differences(old_config, json.loads(json.dumps(record["config"])))
        if differing:
            changes = ", ".join(
                f"--{name} was {old_config.get(name)} and is {record['config'][name]}" for name in differing
            )
            raise SeaError(f"--workdir={workdir} holds a run of other flags ({changes}); choose another folder.")
        if old_data != record["data"]:
            raise SeaError(
                f"--workdir={workdir} holds a run on other data than {config.data_dir}; choose another folder."
            )
    elif workdir.exists() and any(workdir.iterdir()):
        raise SeaError(f"--workdir={workdir} is not empty and holds no run; choose another folder.")
    workdir.mkdir(parents=True, exist_ok=True)
    program.write_text(workdir / "config.flags", program.flag_lines(config))
    program.write_text(path, json.dumps(record, indent=1))


def train(config: Config, bundle: bundles.Bundle, workdir: Path) -> dict:
    """Trains to the end, resuming from the workdir's newest checkpoint; returns the summary. Process 0 writes."""
    first = hosts.is_first()
    saved = checkpoints.checkpointer(workdir / "checkpoints")
    run = loop.restore(loop.prepare(bundle, config), saved, lambda message: print(message, file=sys.stderr))
    start = int(run.progress.state.epoch)
    records = cut_metrics(workdir / "metrics.jsonl", start) if first else []
    if start and first:
        print(f"resuming after epoch {start}")
    new = []  # this process's records, without those of the run before it was stopped
    quiet = flags.FLAGS.quiet or not first
    bar = tqdm(total=config.epochs, initial=start, unit="epoch", disable=quiet or not sys.stderr.isatty())
    with open(workdir / "metrics.jsonl" if first else os.devnull, "a") as log, bar:

        def report(record):
            record["compile_seconds"] = program.compile_seconds() - sum(r.get("compile_seconds", 0.0) for r in new)
            records.append(record)
            new.append(record)
            log.write(json.dumps(record) + "\n")
            log.flush()
            if not quiet:
                show(record, config, bar)

        try:
            run = loop.fit(run, saved, report, str(workdir / "trace") if config.profile else None)
        finally:
            with contextlib.suppress(Exception):  # what went wrong with a checkpoint, `fit` has told
                saved.close()
    summary = summarise(run, records)
    if first:
        program.write_text(workdir / "summary.json", json.dumps(summary, indent=1))
    return summary


def cut_metrics(path: Path, epoch: int) -> list[dict]:
    """Drops the lines of metrics.jsonl after the restored epoch (a killed run wrote them); returns the rest."""
    if not path.exists():
        return []
    records = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            break  # a line cut short by the kill
        if record["epoch"] > epoch:
            break
        records.append(record)
    program.write_text(path, "".join(json.dumps(record) + "\n" for record in records))
    return records


def show(record: dict, config: Config, bar: tqdm) -> None:
    """The epoch on the progress bar, or as a plain line where there is no terminal."""
    names = [name for name in record if name.startswith("loss/")]
    shown = {name.removeprefix("loss/"): f"{record[name]:.4g}" for name in names}
    for split in ("valid", "test"):
        if f"{split}/{config.monitor}" in record:
            shown[f"{split} {config.monitor}"] = f"{record[f'{split}/{config.monitor}']:.4f}"
    if not bar.disable:
        bar.set_postfix(shown, refresh=False)
        bar.update()
    else:
        values = "  ".join(f"{name} {value}" for name, value in shown.items())
        print(f"epoch {record['epoch']:4d}  {record['seconds']:.2f} s  {values}", flush=True)


def summarise(run: loop.Run, records: list[dict]) -> dict:
    """The run's result, measured from the parameters of its best epoch."""
    metrics = loop.measure(run, run.progress.best_params)
    device = jax.devices()[0]
    return {
        "best_epoch": int(run.progress.best_epoch),
        "epochs": int(run.progress.state.epoch),
        "monitor": run.config.monitor,
        **metrics,
        "users": run.counts,
        "compile_seconds": program.compile_seconds(),
        "median_seconds_per_epoch": statistics.median([record["seconds"] for record in records] or [0.0]),
        "device": f"{run.layout.parts} x {device.device_kind}",
        "computed_by": {
            name: getattr(run.config, name) for name in ("precision", "propagation", "club_fit", "features")
        },
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "seed": run.config.seed,
    }


def describe(summary: dict) -> str:
    """The summary as a table."""
    head = (
        f"best epoch {summary['best_epoch']} of {summary['epochs']} by valid {summary['monitor']}, "
        f"{summary['median_seconds_per_epoch']:.2f} s per epoch on {summary['device']}, "
        f"compiled in {summary['compile_seconds']:.1f} s"
    )
    metrics = {split: summary[split] for split in ("valid", "test")}
    return f"{head}\n{runs.metric_table(metrics, summary['users'])}"


if __name__ == "__main__":
    program.define_config_flags()
    program.run(main)
