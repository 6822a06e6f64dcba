"""Whether one group of runs ranks better than another: `python experiments/compare.py --first=A,B,C --second=D,E,F`.

Each group is one setting over several seeds. A user's score is the mean over the seeds of the recall of the best
checkpoint; the two settings are compared user by user (paired t-test), which a comparison of two means is not.
"""

import json
from pathlib import Path

import numpy as np
import scipy.stats
from absl import flags

from experiments import program, runs
from sea_jax.errors import SeaError
from sea_jax.evaluation import recommend
from sea_jax.training import loop


def recall_by_user(run: loop.Run, params, held_out, k: int) -> np.ndarray:
    """Recall at k of every user who counts in the split (see evaluation.user_counts)."""
    bundle = run.bundle
    users = np.intersect1d(bundle.train[:, 0], held_out[:, 0])
    user, item = loop.embeddings(run, params)
    listed, _ = recommend(user, item, bundle.train, users, k)
    place = np.full(bundle.num_users, -1)
    place[users] = np.arange(len(users))
    chosen = held_out[place[held_out[:, 0]] >= 0]
    hits = (listed[place[chosen[:, 0]]] == chosen[:, 1:]).any(axis=1)
    count = np.bincount(place[chosen[:, 0]], minlength=len(users))
    return np.bincount(place[chosen[:, 0]], weights=hits, minlength=len(users)) / count


def group(workdirs: list[str], split: str, k: int) -> tuple[np.ndarray, list]:
    """Recall by seed and user, (seeds, users), of the best checkpoint of each run; and the runs' data hashes."""
    found, data = [], []
    for workdir in workdirs:
        run = runs.open_run(Path(workdir), flags.FLAGS.data_dir)
        found.append(recall_by_user(run, run.progress.best_params, getattr(run.bundle, split), k))
        data.append(run.bundle.manifest["hashes"]["interactions.npz"])
    return np.array(found), data


def main(argv: list[str]) -> int:
    del argv
    values = flags.FLAGS
    (first, of_first), (second, of_second) = (
        group(workdirs, values.split, values.k) for workdirs in (values.first, values.second)
    )
    if len({json.dumps(data) for data in of_first + of_second}) > 1:
        raise SeaError("the runs were trained on different interactions; compare runs on the same data.")
    for name, scores in (("first", first), ("second", second)):
        by_seed = ", ".join(f"{score:.4f}" for score in scores.mean(axis=1))
        spread = scores.mean(axis=1).std(ddof=1) if len(scores) > 1 else float("nan")
        print(f"{name:7s}{values.split} recall@{values.k} {scores.mean():.4f}, by seed {by_seed}, std {spread:.4f}")
    difference = first.mean(axis=0) - second.mean(axis=0)
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    test = scipy.stats.ttest_rel(first.mean(axis=0), second.mean(axis=0))
    print(
        f"difference {difference.mean():+.4f} (95% interval {difference.mean() - 1.96 * error:+.4f} to "
        f"{difference.mean() + 1.96 * error:+.4f}), {len(difference)} users, paired t {test.statistic:.2f}, "
        f"p {test.pvalue:.2g}"
    )
    return 0


if __name__ == "__main__":
    flags.DEFINE_list("first", None, "workdirs of one setting, a run for each seed", required=True)
    flags.DEFINE_list("second", None, "workdirs of the other setting", required=True)
    flags.DEFINE_string("data_dir", "", "folder of the bundle, if it moved since training")
    flags.DEFINE_enum("split", "test", ("valid", "test"), "whose held-out items count")
    flags.DEFINE_integer("k", 20, "length of the lists", lower_bound=1)
    program.run(main)
