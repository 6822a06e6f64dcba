"""What diversity costs and gives: `python experiments/diversity_study.py --workdir=RUN --output=FILE.csv`.

For several lambdas of maximal marginal relevance by the dataset's features: Recall@k on validation and test, the intra-list
diversity (the mean of 1 - cosine over a list's pairs), and the share of the catalogue that is in any list. Lists are of the
users of a split who have training items.
"""

import sys

import numpy as np
from absl import flags
from jaxtyping import Float, Int
from tqdm import tqdm

from sea_jax import cli, files
from sea_jax.adjacency import joined_units
from sea_jax.control import Control
from sea_jax.errors import SeaError
from sea_jax.training import runs

COLUMNS = ("lambda", "valid recall", "test recall", "diversity", "coverage")
BLOCK = 1024  # lists at a time


def recall(lists: Int[np.ndarray, "n k"], held_out: list[set[int]]) -> float:
    """Mean share of what is held out that is in the list."""
    return float(np.mean([len(own & set(row)) / len(own) for row, own in zip(lists.tolist(), held_out, strict=True)]))


def diversity(lists: Int[np.ndarray, "n k"], unit: Float[np.ndarray, "items d"]) -> float:
    """Mean over lists of the mean of 1 - <x_i, x_j> over pairs i < j, x being rows of length 1.

    Source: Ziegler et al. 2005 (WWW), intra-list similarity.
    """
    k, total = lists.shape[1], 0.0
    for start in range(0, len(lists), BLOCK):
        rows = unit[lists[start : start + BLOCK]]
        sums = np.square(rows.sum(axis=1)).sum(axis=1) - np.square(rows).sum(axis=(1, 2))
        total += float((1 - sums / (k * (k - 1))).sum())
    return total / len(lists)


def numbers(lambdas: list[str]) -> list[float]:
    """The trade-offs as numbers; raises SeaError for what is none."""
    if not lambdas:
        raise SeaError("--lambdas is empty; give numbers from 0 to 1.")
    try:
        return [float(one) for one in lambdas]
    except ValueError as error:
        raise SeaError(f"--lambdas={','.join(lambdas)} must be numbers from 0 to 1.") from error


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    run = runs.open_run(values.workdir, values.data_dir)
    made, bundle = run.recommender(values.checkpoint), run.bundle()
    content = joined_units(bundle.features)
    unit = content / np.maximum(np.linalg.norm(content, axis=1, keepdims=True), 1e-12)
    number_of = {one: number for number, one in enumerate(made.item_ids.tolist())}
    if values.k > bundle.num_items - np.bincount(bundle.train[:, 0]).max():
        raise SeaError(f"--k={values.k} is more than every user has left to be listed; take a smaller one.")
    trained, table = np.unique(bundle.train[:, 0]), []
    for trade in tqdm(numbers(values.lambdas), disable=not sys.stderr.isatty()):
        control, row = Control(diversity=trade, content=content), {}
        for split in ("valid", "test"):
            pairs = getattr(bundle, split)
            users = np.intersect1d(pairs[:, 0], trained)
            held_out = [set(pairs[pairs[:, 0] == user, 1].tolist()) for user in users]
            items, _ = made.recommend(made.user_ids[users], values.k, control=control)
            lists = np.array([[number_of[item] for item in of] for of in items.tolist()])
            row[f"{split} recall"] = recall(lists, held_out)
        row |= {"diversity": diversity(lists, unit), "coverage": len(np.unique(lists)) / len(made.item_ids)}
        table.append([trade, *(f"{row[name]:.4f}" for name in COLUMNS[1:])])
    files.write_table(values.output, COLUMNS, table)
    print("\n".join(["  ".join(COLUMNS), *("  ".join(map(str, row)) for row in table)]))
    return 0


if __name__ == "__main__":
    cli.define_run_flags()
    flags.DEFINE_list("lambdas", ["0", "0.1", "0.2", "0.3", "0.4", "0.5", "0.7", "0.9"], "trade-offs")
    flags.DEFINE_integer("k", 20, "length of the lists", lower_bound=2)
    flags.DEFINE_string("output", None, "csv file to write", required=True)
    cli.run(main)
