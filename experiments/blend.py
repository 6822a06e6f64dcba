"""One recommender of several runs: `python experiments/blend.py --runs=RUN,RUN,RUN --workdir=DIR`.

Each run's scores are standardised for each user and added with weights that validation chooses; test is measured once. The
folder is read by evaluate, recommend, compare and serve as a run's is, and needs the runs no longer.
"""

import sys

from sea_jax import cli
from sea_jax.errors import SeaError
from sea_jax.training import blends, closed_forms, runs


def main(argv: list[str]) -> int:
    del argv
    settings = cli.from_flags(blends.Blend)
    if not settings.workdir:
        raise SeaError("--workdir is missing; name a folder.")

    def show(record):
        weights = {name.removeprefix("weight/"): x for name, x in record.items() if name.startswith("weight/")}
        if record["epoch"] == 1:
            print(f"weights of {', '.join(weights)}:", file=sys.stderr)
        found = record[f"valid/{settings.monitor}"]
        print(
            f"{' '.join(f'{x:.4g}' for x in weights.values())}: valid {settings.monitor} {found:.4f}", file=sys.stderr
        )

    run = blends.run(blends.bundle_of(settings), settings, show)
    print(closed_forms.describe(run.summary))
    print(runs.metric_table(run.metrics, run.summary["users"]))
    return 0


if __name__ == "__main__":
    cli.define_flags(blends.Blend)
    cli.run(main)
