"""Top-k lists in the original ids: `python experiments/recommend.py --workdir=DIR --k=20 --output=FILE.csv`.

A user's training items are left out. Items held out for validation and test are not: lists for a shop want a model that was
trained on everything, from a bundle made with --split=random --ratios=1,0,0.
"""

from absl import flags

from sea_jax import cli, files
from sea_jax.config import LARGEST_INT
from sea_jax.errors import SeaError
from sea_jax.recommender import Recommender
from sea_jax.training import runs

BLOCK = 1024  # users at a time


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    if not 1 <= values.k <= LARGEST_INT:
        raise SeaError(f"--k={values.k} must be from 1 to {LARGEST_INT}.")
    recommender = runs.open_run(values.workdir, values.data_dir).recommender(values.checkpoint)
    users = wanted(values.users, recommender)
    files.write_table(
        values.output,
        ("user", "rank", "item", "score"),
        rows(recommender, users, min(values.k, len(recommender.item_ids))),
    )
    print(f"wrote {len(users)} lists to {values.output}")
    return 0


def wanted(path: str, recommender: Recommender) -> list:
    """The users that the file lists, one original id a line; all users without a file."""
    ids = recommender.user_ids.tolist()
    if not path:
        return ids
    known = {str(one): one for one in ids}
    lines = [line.strip() for line in files.read_lines(path)]
    lines = [line for line in lines if line]
    if not lines:
        raise SeaError(f"{path} lists nobody; write one original user id a line.")
    for line in lines:
        if line not in known:
            raise SeaError(f"{path} names user {line!r}, whom the dataset does not know; list original user ids.")
    return [known[line] for line in lines]


def rows(recommender: Recommender, users: list, k: int):
    """One row per recommendation: user, rank, item, score; places that no item could take are left out."""
    for start in range(0, len(users), BLOCK):
        some = users[start : start + BLOCK]
        for user, items, scores in zip(some, *recommender.recommend(some, k), strict=True):
            for rank, (item, score) in enumerate(zip(items, scores, strict=True), start=1):
                if item is not None:
                    yield user, rank, item, f"{score:.6g}"


if __name__ == "__main__":
    cli.define_run_flags()
    flags.DEFINE_string("users", "", "file of original user ids, one a line; all users without it")
    flags.DEFINE_integer("k", 20, "items per list")
    flags.DEFINE_string("output", None, "csv file to write", required=True)
    cli.run(main)
