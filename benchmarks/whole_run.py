"""A whole training run at a published size: `python benchmarks/whole_run.py --shape=baby --precision=tf32`.

Trains for `--epochs` with an evaluation after each and checkpoints as training writes them, without early stopping,
and prints the seconds of the whole and of its parts. This is the measurement behind the goal for one H200: Baby's 107
epochs, which took the authors 35 minutes, in 20 seconds.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import jax
from absl import flags

from benchmarks import shapes
from sea_jax import cli, files
from sea_jax.training import checkpoints, loop, platform

SETTINGS = ("precision", "propagation", "club_fit", "features", "checkpoint_every", "compilation_cache_dir")


def measure(bundle, config) -> dict:
    """Seconds of a run from data in memory to its last checkpoint on disk, and of what it consists of."""
    platform.prepare_platform(config)
    records = []
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        saved = checkpoints.checkpointer(Path(folder))
        run = loop.fit(loop.prepare(bundle, config), saved, records.append)
        saved.close()
    whole = time.perf_counter() - began
    training, ranking = ([record[name] for record in records] for name in ("seconds", "eval_seconds"))
    return {
        "device": f"{run.layout.parts} x {jax.devices()[0].device_kind}",
        "precision": config.precision,
        "propagation": run.config.propagation,
        "club_fit": run.config.club_fit,
        "features": config.features,
        "topology": "real" if bundle.manifest["real"] else "synthetic",
        "epochs": len(records),
        "whole_s": whole,
        "compile_s": platform.compile_seconds(),
        "training_s": sum(training),
        "ranking_s": sum(ranking),
        "other_s": whole - sum(training) - sum(ranking),
        "median_epoch_s": statistics.median(training),
        "median_ranking_s": statistics.median(ranking),
    }


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    bundle = shapes.make(values.shape, values.interactions)
    config = shapes.settings(epochs=values.epochs, patience=0, **{name: values[name].value for name in SETTINGS})
    found = measure(bundle, config)
    for name, value in found.items():
        print(f"{name:18s}{value:.2f}" if isinstance(value, float) else f"{name:18s}{value}")
    if values.json:
        files.write_text(Path(values.json), json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    cli.define_config_flags(SETTINGS)
    flags.DEFINE_enum("shape", "baby", list(shapes.SHAPES), "the size of the data")
    flags.DEFINE_integer("epochs", 107, "passes over the training interactions", lower_bound=1)
    flags.DEFINE_string("interactions", "", "folder with NAME.inter of real interactions, or with a folder that has it")
    flags.DEFINE_string("json", "", "file the results are written to")
    cli.run(main)
