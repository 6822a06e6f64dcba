"""Evaluates a checkpoint of a run, and exports its embeddings: `python experiments/evaluate.py --workdir=DIR`."""

from pathlib import Path

import numpy as np
from absl import flags

from experiments import program, runs
from sea_jax.training import loop


def main(argv: list[str]) -> int:
    del argv
    run = runs.open_run(Path(flags.FLAGS.workdir), flags.FLAGS.data_dir)
    params, epoch = runs.choose(run, flags.FLAGS.checkpoint)
    metrics = loop.measure(run, params)
    print(f"{flags.FLAGS.checkpoint} checkpoint, epoch {epoch}")
    print(runs.metric_table(metrics, run.counts))
    if flags.FLAGS.export:
        export(run, params, Path(flags.FLAGS.export))
        print(f"wrote {flags.FLAGS.export}")
    return 0


def export(run: loop.Run, params, path: Path) -> None:
    """Writes user_embedding and item_embedding (float32) and the original ids where the bundle has them."""
    user, item = loop.embeddings(run, params)
    arrays = {"user_embedding": user, "item_embedding": item}
    for name, ids in (("user_ids", run.bundle.user_ids), ("item_ids", run.bundle.item_ids)):
        if ids is not None:
            arrays[name] = np.asarray(ids)
    with program.whole(path) as aside, open(aside, "wb") as file:  # an open file, or NumPy would add .npz to the name
        np.savez(file, **arrays)


if __name__ == "__main__":
    runs.define_flags()
    flags.DEFINE_string("export", "", "npz file to write the final embeddings and the original ids into")
    program.run(main)
