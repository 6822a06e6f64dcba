"""Top-k lists in the original ids: `python experiments/recommend.py --workdir=DIR --k=20 --output=FILE.csv`."""

from pathlib import Path

import numpy as np
from absl import flags

from experiments import program, runs
from sea_jax.errors import SeaError
from sea_jax.evaluation import recommend
from sea_jax.training import loop


def main(argv: list[str]) -> int:
    del argv
    if flags.FLAGS.k < 1:
        raise SeaError(f"--k={flags.FLAGS.k} must be at least 1.")
    run = runs.open_run(Path(flags.FLAGS.workdir), flags.FLAGS.data_dir)
    params, _ = runs.choose(run, flags.FLAGS.checkpoint)
    user_ids = names(run.bundle.user_ids, run.bundle.num_users)
    item_ids = names(run.bundle.item_ids, run.bundle.num_items)
    users = wanted(flags.FLAGS.users, user_ids)
    user, item = loop.embeddings(run, params)
    items, scores = recommend(user, item, run.bundle.train, users, flags.FLAGS.k)
    write(Path(flags.FLAGS.output), users, items, scores, user_ids, item_ids)
    print(f"wrote {len(users)} lists to {flags.FLAGS.output}")
    return 0


def names(ids: np.ndarray | None, count: int) -> np.ndarray:
    """The original ids, or the numbers where the bundle has none."""
    return np.arange(count).astype(str) if ids is None else np.asarray(ids).astype(str)


def wanted(path: str, user_ids: np.ndarray) -> np.ndarray:
    """Numbers of the users that the file lists, one original id a line; all users without a file."""
    if not path:
        return np.arange(len(user_ids))
    number = {name: n for n, name in enumerate(user_ids.tolist())}
    lines = [line.strip() for line in Path(path).read_text().splitlines()]
    lines = [line for line in lines if line]
    for line in lines:
        if line not in number:
            raise SeaError(f"{path} names user {line!r}, whom the dataset does not know; list original user ids.")
    return np.array([number[line] for line in lines], np.int64)


def write(path: Path, users, items, scores, user_ids, item_ids) -> None:
    """One line per recommendation: user, rank, item, score; places that no item could take are left out."""
    rows = (
        (user_ids[user], rank, item_ids[item], f"{score:.6g}")
        for user, row, of in zip(users, np.asarray(items), np.asarray(scores), strict=True)
        for rank, (item, score) in enumerate(zip(row, of, strict=True), start=1)
        if item >= 0
    )
    program.write_table(path, ("user", "rank", "item", "score"), rows)


if __name__ == "__main__":
    runs.define_flags()
    flags.DEFINE_string("users", "", "file of original user ids, one a line; all users without it")
    flags.DEFINE_integer("k", 20, "items per list", lower_bound=1)
    flags.DEFINE_string("output", None, "csv file to write", required=True)
    program.run(main)
