"""Evaluates a checkpoint of a run, and exports its embeddings: `python experiments/evaluate.py --workdir=DIR`."""

import numpy as np
from absl import flags

from sea_jax import cli, files
from sea_jax.training import loop, runs


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    run = runs.open_run(values.workdir, values.data_dir)
    params, epoch = run.parameters(values.checkpoint)
    training = run.restored()
    print(f"{values.checkpoint} checkpoint, epoch {epoch}")
    print(runs.metric_table(loop.measure(training, params), training.counts))
    if values.export:
        export(training, params, values.export)
        print(f"wrote {values.export}")
    return 0


def export(training: loop.Training, params, path: str) -> None:
    """Writes user_embedding and item_embedding (float32) and the original ids where the bundle has them."""
    user, item = loop.embeddings(training, params)
    arrays = {"user_embedding": user, "item_embedding": item}
    for name, ids in (("user_ids", training.bundle.user_ids), ("item_ids", training.bundle.item_ids)):
        if ids is not None:
            arrays[name] = np.asarray(ids)
    files.write_npz(path, arrays)


if __name__ == "__main__":
    cli.define_run_flags()
    flags.DEFINE_string("export", "", "npz file to write the final embeddings and the original ids into")
    cli.run(main)
