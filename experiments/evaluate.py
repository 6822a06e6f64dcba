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
    if values.cold:
        return evaluate_cold(run)
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
    topk = topk_of(run)
    print(closed_forms.describe(run.summary))
    print(runs.metric_table(closed_forms.measure(run.recommender(), run.bundle(), topk), run.summary["users"]))
    return 0


def evaluate_cold(run: runs.Run) -> int:
    """The test items that nobody has in training, among their like and among all."""
    bundle, topk = run.bundle(), run.config.topk if run.config is not None else topk_of(run)
    found = closed_forms.measure_cold(run.recommender(cli.FLAGS.checkpoint), bundle, topk)
    cold = np.bincount(bundle.train[:, 1], minlength=bundle.num_items) == 0
    users = len(np.unique(bundle.test[cold[bundle.test[:, 1]], 0]))
    print(f"{cold.sum()} of {bundle.num_items} items have no training interaction; {users} users have some in test")
    print(runs.metric_table(found, {name: {"counted": users} for name in found}))
    return 0


def topk_of(run: runs.Run) -> tuple[int, ...]:
    """The cut-offs that a run without training was measured at."""
    return tuple(sorted({int(name.partition("@")[2]) for name in next(iter(run.metrics.values()))}))


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
    flags.DEFINE_bool("cold", False, "measure test items that nobody has in training, among their like and among all")
    flags.DEFINE_string("export", "", "npz file to write the final embeddings and the original ids into")
    cli.run(main)
