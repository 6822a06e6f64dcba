"""Opening a finished or running run again: its settings, data and checkpoints."""

import dataclasses
import json
from pathlib import Path

from absl import flags

from experiments import program
from sea_jax import bundle as bundles
from sea_jax.errors import SeaError
from sea_jax.training import checkpoints, loop


def define_flags() -> None:
    """Flags of every program that reads a run."""
    flags.DEFINE_string("workdir", None, "folder of the run", required=True)
    flags.DEFINE_string("data_dir", "", "folder of the bundle, if it moved since training")
    flags.DEFINE_enum("checkpoint", "best", ("best", "latest"), "which parameters")


def open_run(workdir: Path, data_dir: str = "") -> loop.Run:
    """The run in `workdir` at its newest checkpoint, on one device."""
    try:
        record = json.loads((workdir / "run.json").read_text())
        config = program.config_from_dict(record["config"])
    except FileNotFoundError as error:
        raise SeaError(
            f"--workdir={workdir} holds no run (no run.json); train one with experiments/train.py."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise SeaError(f"{workdir / 'run.json'} is damaged; train again in another --workdir.") from error
    config = dataclasses.replace(config, data_dir=data_dir or config.data_dir, devices="1", parallel="auto")
    program.prepare_platform(config)
    bundle = bundles.load(config.data_dir, modalities=config.modalities)
    if bundle.manifest["hashes"] != record["data"]:
        raise SeaError(f"{config.data_dir} is not the data this run was trained on; name those with --data_dir.")
    saved = checkpoints.checkpointer(workdir / "checkpoints")
    run = loop.restore(loop.prepare(bundle, config), saved, print)
    if int(run.progress.state.epoch) == 0:
        raise SeaError(f"--workdir={workdir} has no checkpoint yet.")
    return run


def choose(run: loop.Run, checkpoint: str):
    """(parameters, epoch) of the best or the latest checkpoint."""
    progress = run.progress
    if checkpoint == "best":
        return progress.best_params, int(progress.best_epoch)
    return progress.state.params, int(progress.state.epoch)


def metric_table(metrics: dict[str, dict[str, float]], users: dict[str, dict[str, int]]) -> str:
    """Metrics of validation and test as a table, with the users counted and left out."""
    lines = []
    for split, values in metrics.items():
        kinds = dict.fromkeys(name.partition("@")[0] for name in values)
        cuts = dict.fromkeys(name.partition("@")[2] for name in values)
        lines.append(f"{split:10s}" + "".join(f"{'@' + cut:>10s}" for cut in cuts))
        for kind in kinds:
            lines.append(f"  {kind:10s}"[:12] + "".join(f"{values[f'{kind}@{cut}']:10.4f}" for cut in cuts))
        counted = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in users[split].items())
        lines.append(f"  users: {counted}")
    return "\n".join(lines)
