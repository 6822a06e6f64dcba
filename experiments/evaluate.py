"""Evaluates a checkpoint of a run, and exports its embeddings: `python experiments/evaluate.py --workdir=DIR`."""

import numpy as np
from absl import flags

from sea_jax import cli, files
from sea_jax.errors import SeaError
from sea_jax.training import closed_forms, loop, runs


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    run = runs.open_run(values.workdir, values.data_dir)
    if run.config is None:
        return evaluate_baseline(run)
    params, epoch = run.parameters(values.checkpoint)
    training = run.restored()
    print(f"{values.checkpoint} checkpoint, epoch {epoch}")
    print(runs.metric_table(loop.measure(training, params), training.counts))
    if values.export:
        export(training, params, values.export)
        print(f"wrote {values.export}")
    return 0


def evaluate_baseline(run: runs.Run) -> int:
    """A run without training: its recommender, measured again."""
    if cli.FLAGS.export:
        raise SeaError(f"--export={cli.FLAGS.export} needs embeddings, and a run without training has none.")
    names = next(iter(run.metrics.values()))
    topk = tuple(sorted({int(name.partition("@")[2]) for name in names}))
    print(closed_forms.describe(run.summary))
    print(runs.metric_table(closed_forms.measure(run.recommender(), run.bundle(), topk), run.summary["users"]))
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
