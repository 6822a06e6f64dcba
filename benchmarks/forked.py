"""Programs run as users start them, in processes that are forked after the imports, which saves seconds each."""

import dataclasses
import json
import multiprocessing
import os
import resource
import runpy
import sys
from pathlib import Path

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from sea_jax.recommender import Recommender
from sea_jax.training import workdir

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 5
SETTINGS = (
    "--batch_size=64", "--club_steps=2", "--topk=5,20", "--learning_rate=1e-2", "--patience=0", "--quiet",
    "--checkpoint_every=1", f"--epochs={EPOCHS}",
)  # fmt: skip
FOUR = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
LONGEST = 90  # seconds for a program

forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(["sea_jax.training.runs", "sea_jax.cli", "sea_jax.replaying", "polars", "tqdm"])


@dataclasses.dataclass
class Program:
    """A program under way; `end` waits for it and tells (exit code, stdout, stderr)."""

    process: multiprocessing.Process
    said: Path

    def end(self) -> tuple[int, str, str]:
        self.process.join(LONGEST)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        out, err = (Path(f"{self.said}.{n}").read_text(errors="replace") for n in (1, 2))
        return self.process.exitcode, out, err


def start(name: str, *arguments, said: Path, environment=None, largest: int = 0, cwd: Path = ROOT) -> Program:
    """Starts `name`.py with these arguments; `largest`: bytes beyond which no file of it can grow."""
    given = (str(ROOT / f"{name}.py"), *map(str, arguments))
    process = forks.Process(target=_be, args=(given, str(said), environment or {}, largest, str(cwd)))
    process.start()
    return Program(process, said)


def run(name: str, *arguments, said: Path, **more) -> tuple[int, str, str]:
    """What a program ends with."""
    return start(name, *arguments, said=said, **more).end()


def _be(argv, said, environment, largest, cwd) -> None:
    os.environ.update(environment)
    for n in (1, 2):
        os.dup2(os.open(f"{said}.{n}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), n)
    if largest:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    os.chdir(cwd)
    sys.argv[:] = argv
    runpy.run_path(argv[0], run_name="__main__")


def train(data: Path, folder: Path, model: str, **more) -> Program:
    """A training on the tiny data."""
    return start(
        "experiments/train", f"--data_dir={data}", f"--workdir={folder}", *SETTINGS, f"--backbone={model}",
        f"--devices={'all' if more.get('environment') else 1}", said=Path(f"{folder}.said"), **more,
    )  # fmt: skip


def result(folder: Path, epochs: int = EPOCHS) -> dict:
    """All that must be the same, bit for bit: the records but for times, the embeddings, the last checkpoint."""
    records = [json.loads(line) for line in (folder / workdir.METRICS).read_text().splitlines()]
    recommender = Recommender.load(folder / workdir.RECOMMENDER)
    last = ocp.load(folder / workdir.CHECKPOINTS / str(epochs))
    return {
        "records": [{k: v for k, v in record.items() if "seconds" not in k} for record in records],
        "embeddings": [recommender.user_vectors.tobytes(), recommender.item_vectors.tobytes()],
        "checkpoint": [np.asarray(x).tobytes() for x in jax.tree.leaves(last)],
    }
