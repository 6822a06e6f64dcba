"""Whether one group of runs ranks better than others: `python experiments/compare.py --first=A,B,C --second=D,E,F`.

Each group is one setting over several seeds; a folder that holds runs in seed-N/ stands for all of them, and --second may be
given several times. A user's score is the mean over the seeds of the metric of the best epoch; two settings are compared user
by user (paired t-test), which a comparison of two means is not. p by Holm is corrected for all comparisons that are printed.
"""

import hashlib
from pathlib import Path

import numpy as np
from absl import flags

from sea_jax import cli, comparing, files
from sea_jax.config import LARGEST_INT
from sea_jax.errors import SeaError
from sea_jax.training import runs, workdir

COLUMNS = ("first", "second", "split", "first_seeds", "second_seeds", *comparing.Comparison._fields[1:])


def runs_of(name: str, given: list[str]) -> list[Path]:
    """The folders of the runs of one group; raises SeaError if there are none, or one stands there twice."""
    if not given or not all(given):
        raise SeaError(f"--{name}={','.join(given)} names no run; give the workdir of one run for each seed.")
    found = [run for folder in given for run in workdir.runs_at(Path(folder))]
    if len({run.resolve() for run in found}) < len(found):
        raise SeaError(f"--{name} names a run twice; give one run for each seed.")
    return found


def check(groups: dict[str, list[Path]]) -> None:
    """Raises SeaError if a run stands in two groups."""
    held: dict[Path, str] = {}
    for name, folders in groups.items():
        for folder in folders:
            if folder.resolve() in held:
                raise SeaError(f"{folder} stands in {held[folder.resolve()]} and in {name}; name each run once.")
        held |= {folder.resolve(): name for folder in folders}


def measured(folder: Path, metrics: list[str], split: str) -> tuple[dict[str, np.ndarray], str]:
    """By metric, the values of the users who count in the split under the run's best epoch; a hash of what was asked."""
    run = runs.open_run(folder, cli.FLAGS.data_dir)
    bundle = run.bundle()
    cuts = tuple(sorted({int(metric.partition("@")[2]) for metric in metrics}))
    users, found = run.by_user(cuts, masks_valid=run.masks_valid)
    counted = np.isin(users, getattr(bundle, split)[:, 0])
    if not counted.any():
        raise SeaError(f"{folder}: nobody counts in {split}, so that there is nothing to compare.")
    digest = hashlib.sha256(repr(run.masks_valid).encode())
    for pairs in (bundle.train, bundle.valid, bundle.test):
        digest.update(repr(pairs.shape).encode() + pairs.tobytes())
    return {metric: found[split][metric][counted] for metric in metrics}, digest.hexdigest()


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    metrics = comparing.metrics_of(values.metric, values.k)
    several = len(values.second) > 1
    groups = {"first": runs_of("first", values.first)}
    for number, given in enumerate(values.second, start=1):
        groups[f"second {number}" if several else "second"] = runs_of("second", given.split(","))
    check(groups)
    found = {name: [measured(folder, metrics, values.split) for folder in folders] for name, folders in groups.items()}
    if len({data for group in found.values() for _, data in group}) > 1:
        raise SeaError("the runs have other interactions or --mask_valid_at_test; compare runs on the same data.")
    scores = {
        name: {metric: np.array([of[metric] for of, _ in group]) for metric in metrics} for name, group in found.items()
    }
    first, *seconds = scores.values()
    compared = comparing.compare(first, seconds, values.bootstrap, values.seed)
    show(groups, scores, compared, values.split)
    if values.output:
        write(groups, compared, values.split)
        print(f"wrote {values.output}")
    return 0


def show(groups: dict[str, list[Path]], scores: dict, compared: list[comparing.Comparison], split: str) -> None:
    """By metric, each setting, and beneath each of the others how the first differs from it."""
    first, *others = groups
    width = max(map(len, groups)) + 1
    where = {name: ", ".join(map(str, folders)) for name, folders in groups.items()}
    for metric in scores[first]:
        print(f"{first:{width}s}{split} {metric} {comparing.summary(scores[first][metric])} ({where[first]})")
        for number, name in enumerate(others):
            (one,) = (one for one in compared if (one.second, one.metric) == (number, metric))
            print(f"{name:{width}s}{split} {metric} {comparing.summary(scores[name][metric])} ({where[name]})")
            print(comparing.sentence(one))
    if len(compared) > 1:
        print(f"{len(compared)} comparisons: a difference is one where p by Holm is small")


def write(groups: dict[str, list[Path]], compared: list[comparing.Comparison], split: str) -> None:
    """Writes a row for each comparison, with empty fields where there is no test."""
    first, *others = groups.values()
    rows = []
    for one in compared:
        second = others[one.second]
        names = [",".join(map(str, folders)) for folders in (first, second)]
        rows.append([*names, split, len(first), len(second), *("" if x != x else x for x in one[1:])])
    files.write_table(cli.FLAGS.output, COLUMNS, rows)


if __name__ == "__main__":
    flags.DEFINE_list("first", None, "workdirs of one setting, a run for each seed, or their folder", required=True)
    flags.DEFINE_multi_string("second", None, "workdirs of another setting", required=True)
    flags.DEFINE_string("data_dir", "", "folder of the bundle, if it moved since training")
    flags.DEFINE_enum("split", "test", ("valid", "test"), "whose held-out items count")
    flags.DEFINE_integer("k", 20, "length of the lists", lower_bound=1, upper_bound=LARGEST_INT)
    flags.DEFINE_list("metric", ["recall"], "what is compared, as recall@20,ndcg@10; without @ at --k")
    flags.DEFINE_integer(
        "bootstrap", 10_000, "resamples of users for an interval, 0 for none", lower_bound=0, upper_bound=LARGEST_INT
    )
    flags.DEFINE_integer("seed", 0, "of the resamples", lower_bound=0, upper_bound=LARGEST_INT)
    flags.DEFINE_string("output", "", "csv file to write, a row for each comparison")
    cli.run(main)
