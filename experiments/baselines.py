"""Recommenders without training: `python experiments/baselines.py --model=ease_content --data_dir=DIR --workdir=DIR`.

Settings that are not given are chosen on validation; test is measured once, for those chosen. The folder is read by
evaluate, recommend, compare and serve as a training run's is.
"""

import sys

from sea_jax import bundle as bundles
from sea_jax import cli
from sea_jax.baselines import Baseline
from sea_jax.errors import SeaError
from sea_jax.training import closed_forms, runs


def main(argv: list[str]) -> int:
    del argv
    settings = cli.from_flags(Baseline)
    for name in ("data_dir", "workdir"):
        if not getattr(settings, name):
            raise SeaError(f"--{name} is missing; name a folder.")
    bundle = bundles.load(settings.data_dir, modalities=settings.modalities, verify_hashes=True)

    def show(record):
        values = [
            f"{name} {x:.4g}" for name, x in record.items() if "/" not in name and name not in ("epoch", "seconds")
        ]
        print(
            f"{', '.join(values)}: valid {settings.monitor} {record['valid/' + settings.monitor]:.4f}", file=sys.stderr
        )

    run = closed_forms.run(bundle, settings, show)
    print(closed_forms.describe(run.summary))
    print(runs.metric_table(run.metrics, run.summary["users"]))
    return 0


if __name__ == "__main__":
    cli.define_flags(Baseline)
    cli.run(main)
