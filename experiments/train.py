"""Trains, evaluates and checkpoints a model: `python experiments/train.py --flagfile=baby.flags`."""

import sys
from pathlib import Path

from absl import flags
from tqdm import tqdm

from sea_jax import bundle as bundles
from sea_jax import cli
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.raw.demo import make_demo
from sea_jax.training import hosts, platform, runs
from sea_jax.training.seeds import describe, fit_seeds, summarise


def main(argv: list[str]) -> int:
    del argv
    config = cli.config_from_flags()
    for name in ("data_dir", "workdir"):
        if not getattr(config, name):
            raise SeaError(f"--{name} is missing; name a folder, or use one of the shipped --flagfile.")
    platform.prepare_platform(config)
    leave = hosts.join(config, cli.stop_at_once)
    if cli.FLAGS.demo:
        hosts.first_does(lambda: make_missing_demo(config.data_dir))
    bundle, first = load_bundle(config), hosts.is_first()
    quiet = cli.FLAGS.quiet or not first
    seeds = cli.entries("seeds", int)
    bar = tqdm(total=config.epochs, unit="epoch", disable=quiet or not sys.stderr.isatty())
    more = {
        "resume": cli.FLAGS.resume,
        "warn": lambda message: print(message, file=sys.stderr) if first else None,
    }
    with bar, cli.interrupts(enabled=hosts.is_alone()) as stop:
        if seeds:
            found = fit_seeds(
                bundle, config, seeds, config.workdir,
                report=lambda seed, record: None if quiet else show(record, config, bar, f"seed {seed} "),
                stop=stop, **more,
            )  # fmt: skip
            told = describe(summarise([run.summary for run in found]))
        else:
            run = runs.fit(
                bundle, config, config.workdir,
                report=lambda record: None if quiet else show(record, config, bar),
                stop=stop, **more,
            )  # fmt: skip
            told = runs.describe(run.summary)
    if first:
        print(told)
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
    return bundles.load(path, modalities=config.modalities, verify_hashes=True)


def show(record: dict, config: Config, bar: tqdm, of: str = "") -> None:
    """The epoch on the progress bar, or as a plain line where there is no terminal."""
    names = [name for name in record if name.startswith("loss/")]
    shown = {name.removeprefix("loss/"): f"{record[name]:.4g}" for name in names}
    for split in ("valid", "test"):
        if f"{split}/{config.monitor}" in record:
            shown[f"{split} {config.monitor}"] = f"{record[f'{split}/{config.monitor}']:.4f}"
    if not bar.disable:
        bar.n = record["epoch"]
        bar.set_description(of.strip(), refresh=False)
        bar.set_postfix(shown)
    else:
        values = "  ".join(f"{name} {value}" for name, value in shown.items())
        print(f"{of}epoch {record['epoch']:4d}  {record['seconds']:.2f} s  {values}", flush=True)


if __name__ == "__main__":
    cli.define_config_flags()
    flags.DEFINE_bool("resume", True, "go on where the run in --workdir stopped, if its flags are the same")
    flags.DEFINE_list("seeds", [], "train once for each of these seeds, into workdir/seed-N; --seed is then not used")
    flags.DEFINE_bool("demo", False, "make the demo data in --data_dir if there are none")
    flags.DEFINE_bool("quiet", False, "no progress bar and no line per epoch")
    cli.run(main)
