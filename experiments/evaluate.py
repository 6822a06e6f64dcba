"""Evaluates a checkpoint of a run, and exports its embeddings: `python experiments/evaluate.py --workdir=DIR`.

--beyond adds what its lists are like and whom they serve, --by_user writes every user's metrics (docs/metrics.md).
"""

from collections.abc import Iterator

import numpy as np
from absl import flags

from sea_jax import cli, exporting, files, list_metrics
from sea_jax.adjacency import joined_units
from sea_jax.bundle import Bundle
from sea_jax.errors import SeaError
from sea_jax.training import closed_forms, loop, runs

PLACES = 20  # of the lists of a run that says nothing of cut-offs


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    run = runs.open_run(values.workdir, values.data_dir)
    if values.cold:
        return evaluate_cold(run)
    if run.config is None:
        evaluate_baseline(run)
    else:
        evaluate_training(run)
    if values.beyond:
        print(beyond(run))
    if values.by_user:
        count = write_by_user(run, values.by_user)
        print(f"wrote {values.by_user}, {count} rows")
    return 0


def evaluate_training(run: runs.Run) -> None:
    """A checkpoint of a training, measured again as training measures."""
    values = cli.FLAGS
    params, epoch = run.parameters(values.checkpoint)
    training = run.restored()
    print(f"{values.checkpoint} checkpoint, epoch {epoch}")
    print(runs.metric_table(loop.measure(training, params), training.counts))
    if values.export:
        exporting.write(run.recommender(values.checkpoint), "npz", values.export)
        print(f"wrote {values.export}")


def evaluate_baseline(run: runs.Run) -> None:
    """A run without training: its recommender, measured again."""
    if cli.FLAGS.export:
        raise SeaError(f"--export={cli.FLAGS.export} needs embeddings, and a run without training has none.")
    topk = topk_of(run)
    print(closed_forms.describe(run.summary))
    print(runs.metric_table(closed_forms.measure(run.recommender(), run.bundle(), topk), run.summary["users"]))


def evaluate_cold(run: runs.Run) -> int:
    """The test items that nobody has in training, among their like and among all."""
    for name in ("beyond", "by_user"):
        if getattr(cli.FLAGS, name):
            raise SeaError(f"--{name} is about all items and --cold about some; give one of them.")
    bundle, topk = run.bundle(), topk_of(run)
    found = closed_forms.measure_cold(run.recommender(cli.FLAGS.checkpoint), bundle, topk)
    cold = np.bincount(bundle.train[:, 1], minlength=bundle.num_items) == 0
    users = len(np.unique(bundle.test[cold[bundle.test[:, 1]], 0]))
    print(f"{cold.sum()} of {bundle.num_items} items have no training interaction; {users} users have some in test")
    print(runs.metric_table(found, {name: {"counted": users} for name in found}))
    return 0


def topk_of(run: runs.Run) -> tuple[int, ...]:
    """The cut-offs that a run was measured at."""
    if run.config is not None:
        return run.config.topk
    return tuple(sorted({int(name.partition("@")[2]) for name in next(iter(run.metrics.values()), ())}))


def splits_of(bundle: Bundle) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(split, its pairs, the users who count in it), of the splits that anybody counts in."""
    for split in ("valid", "test"):
        pairs = getattr(bundle, split)
        users = list_metrics.users_who_count(bundle.train, pairs)
        if len(users):
            yield split, pairs, users


def beyond(run: runs.Run) -> str:
    """By split, what the lists are like, and recall by popularity of items and activity of users."""
    monitor = run.config.monitor if run.config is not None else run.summary.get("monitor", "")
    k, made, bundle = int(monitor.partition("@")[2] or PLACES), run.recommender(cli.FLAGS.checkpoint), run.bundle()
    rows = joined_units(bundle.features) if bundle.features else None
    space = f"the features of {' and '.join(bundle.modalities)}, each of length 1, side by side"
    counted, metrics = run.by_user((k,), cli.FLAGS.checkpoint, run.masks_valid)
    training_items = np.bincount(bundle.train[:, 0], minlength=bundle.num_users)
    parts = []
    for split, pairs, users in splits_of(bundle):
        left_out = bundle.valid if split == "test" and run.masks_valid else list_metrics.NOBODY
        found = list_metrics.served(made, bundle.train, pairs, k, left_out, rows)
        own = {name: values[np.isin(counted, users)] for name, values in metrics[split].items()}
        activity = list_metrics.by_activity(own, training_items[users])
        parts.append(f"{split}, lists of {k} for {len(users)} users\n{list_metrics.table(found, activity, space)}")
    return "\n".join(parts)


def write_by_user(run: runs.Run, path: str) -> int:
    """Writes a row of every metric for each user in each split that they count in; returns how many."""
    topk, made = topk_of(run), run.recommender(cli.FLAGS.checkpoint)
    splits = list(splits_of(run.bundle()))
    if not splits:
        raise SeaError(f"--by_user={path}: nobody counts in validation or test, so that there is nothing to write.")
    counted, metrics = run.by_user(topk, cli.FLAGS.checkpoint, run.masks_valid)
    table = []
    for split, _, users in splits:
        columns = np.stack([values[np.isin(counted, users)] for values in metrics[split].values()], axis=1)
        ids = made.user_ids[users].tolist()
        table += [[one, split, *row] for one, row in zip(ids, columns.astype(str).tolist(), strict=True)]
    files.write_table(path, ["user", "split", *metrics["test"]], table)
    return len(table)


if __name__ == "__main__":
    cli.define_run_flags()
    flags.DEFINE_bool("cold", False, "measure test items that nobody has in training, among their like and among all")
    flags.DEFINE_bool(
        "beyond", False, "coverage, Gini, popularity, novelty, diversity; recall by popularity and activity"
    )
    flags.DEFINE_string("by_user", "", "csv file to write: every metric of each user")
    flags.DEFINE_string("export", "", "npz file to write the final embeddings and the original ids into")
    cli.run(main)
