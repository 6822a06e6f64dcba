"""Whether one group of runs ranks better than another: `python experiments/compare.py --first=A,B,C --second=D,E,F`.

Each group is one setting over several seeds. A user's score is the mean over the seeds of the metric of the best
epoch; the two settings are compared user by user (paired t-test), which a comparison of two means is not.
"""

from pathlib import Path

import numpy as np
import scipy.stats
from absl import flags

from sea_jax import cli
from sea_jax.config import LARGEST_INT
from sea_jax.errors import SeaError
from sea_jax.evaluation import by_user
from sea_jax.training import runs


def metric_by_user(workdir: str, split: str, k: int) -> tuple[np.ndarray, np.ndarray, bytes]:
    """The users who count in the split, their recall at k under the run's best epoch, and the data it was trained on."""
    bundle = runs.bundle_of(Path(workdir), cli.FLAGS.data_dir)
    recommender = runs.open_run(workdir, cli.FLAGS.data_dir).recommender()
    splits = bundle.train, bundle.valid, bundle.test
    users, metrics = by_user(
        lambda rows: recommender.scores(recommender.user_ids[rows]), *splits, bundle.num_users, bundle.num_items, (k,)
    )
    counted = np.isin(users, getattr(bundle, split)[:, 0])
    if not counted.any():
        raise SeaError(f"{workdir}: nobody counts in {split}, so that there is nothing to compare.")
    return users[counted], metrics[split][f"recall@{k}"][counted], b"".join(x.tobytes() for x in splits)


def group(workdirs: list[str], split: str, k: int) -> tuple[np.ndarray, list[bytes]]:
    """Recall by seed and user, (seeds, users), of the best epoch of each run; and the runs' data."""
    found = [metric_by_user(workdir, split, k) for workdir in workdirs]
    if len({data for _, _, data in found}) > 1:
        raise SeaError("the runs were trained on different interactions; compare runs on the same data.")
    return np.array([values for _, values, _ in found]), [data for _, _, data in found]


def check(first: list[str], second: list[str]) -> None:
    """Raises SeaError for groups that no comparison can be made of."""
    for name, workdirs in (("first", first), ("second", second)):
        if not [workdir for workdir in workdirs if workdir]:
            raise SeaError(f"--{name} names no run; give the workdir of one run for each seed.")
        places = [Path(workdir).resolve() for workdir in workdirs]
        if len(set(places)) < len(places):
            raise SeaError(f"--{name} names a run twice; give one run for each seed.")
    shared = {Path(workdir).resolve() for workdir in first} & {Path(workdir).resolve() for workdir in second}
    if shared:
        raise SeaError(f"{sorted(map(str, shared))[0]} stands in both groups; a run cannot be compared with itself.")


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    check(values.first, values.second)
    (first, of_first), (second, of_second) = (
        group(workdirs, values.split, values.k) for workdirs in (values.first, values.second)
    )
    if of_first[0] != of_second[0]:
        raise SeaError("the runs were trained on different interactions; compare runs on the same data.")
    for name, scores in (("first", first), ("second", second)):
        by_seed = ", ".join(f"{score:.4f}" for score in scores.mean(axis=1))
        spread = f", std {scores.mean(axis=1).std(ddof=1):.4f}" if len(scores) > 1 else ""
        print(f"{name:7s}{values.split} recall@{values.k} {scores.mean():.4f}, by seed {by_seed}{spread}")
    difference = first.mean(axis=0) - second.mean(axis=0)
    error = difference.std(ddof=1) / np.sqrt(len(difference)) if len(difference) > 1 else np.nan
    if not error > 0:
        print(f"difference {difference.mean():+.4f}, the same for all {len(difference)} users")
        return 0
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
    flags.DEFINE_integer("k", 20, "length of the lists", lower_bound=1, upper_bound=LARGEST_INT)
    cli.run(main)
