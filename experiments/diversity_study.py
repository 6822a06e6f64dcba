"""What diversity costs and gives: `python experiments/diversity_study.py --workdir=RUN --output=FILE.csv`.

For several lambdas of maximal marginal relevance by the dataset's features: Recall@k on validation and test, the intra-list
diversity (the mean of 1 - cosine over a list's pairs), and the share of the catalogue that is in any list. Lists are of the
users of a split who have training items.
"""

import sys

import numpy as np
from absl import flags
from tqdm import tqdm

from sea_jax import cli, files, list_metrics
from sea_jax.adjacency import joined_units
from sea_jax.control import Control
from sea_jax.errors import SeaError
from sea_jax.training import runs

COLUMNS = ("lambda", "valid recall", "test recall", "diversity", "coverage")


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
    if values.k > bundle.num_items - np.bincount(bundle.train[:, 0]).max():
        raise SeaError(f"--k={values.k} is more than every user has left to be listed; take a smaller one.")
    table = []
    for trade in tqdm(numbers(values.lambdas), disable=not sys.stderr.isatty()):
        control, row = Control(diversity=trade, content=content), {}
        for split in ("valid", "test"):
            pairs = getattr(bundle, split)
            users = list_metrics.users_who_count(bundle.train, pairs)
            lists = list_metrics.lists_of(made, users, values.k, control=control)
            row[f"{split} recall"] = list_metrics.recall(lists, list_metrics.rows_of(users, pairs)).mean()
        row["diversity"] = list_metrics.intra_list_diversity(lists, content)
        row["coverage"] = list_metrics.coverage(lists, len(made.item_ids))
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
