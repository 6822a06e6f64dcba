"""Searches settings on validation: `python experiments/search.py --flagfile=tiktok.flags --space=FILE.yaml --trials=20 --workdir=DIR`.

The space names settings with ranges or choices, such as `learning_rate: {low: 1e-4, high: 1e-2, log: true}` and
`knn_k: [5, 10, 20]`; all else is as the flags say, and so is the first trial. Test is not computed. The same command goes on
where a search stopped; the best settings lie in DIR/best.flags: `python experiments/train.py --flagfile=DIR/best.flags`.
"""

from pathlib import Path

from absl import flags

from sea_jax import bundle as bundles
from sea_jax import cli
from sea_jax.errors import SeaError
from sea_jax.training import searching
from sea_jax.training.space import read_space


def main(argv: list[str]) -> int:
    del argv
    config, values = cli.config_from_flags(), cli.FLAGS
    for name in ("data_dir", "workdir"):
        if not getattr(config, name):
            raise SeaError(f"--{name} is missing; name a folder.")
    space = read_space(values.space, config)
    bundle = bundles.load(config.data_dir, modalities=config.modalities, verify_hashes=True)
    with cli.interrupts() as stop:
        found = searching.search(
            bundle, config, space, values.trials, Path(config.workdir),
            prune=values.prune, sampler_seed=values.sampler_seed, report=show, stop=stop,
        )  # fmt: skip
    print(f"best of {found.trials} trials: valid {config.monitor} {found.value:.4f} in epoch {found.epoch}")
    print(f"its settings: {Path(config.workdir) / searching.BEST}")
    return 0


def show(record: dict) -> None:
    """A trial that is over, on one line."""
    known = ("trial", "state", "value", "best_epoch", "seconds")
    chosen = "  ".join(
        f"{name} {x:.4g}" if isinstance(x, float) else f"{name} {x}" for name, x in record.items() if name not in known
    )
    value = "no value" if record["value"] is None else f"{record['value']:.4f} in epoch {record['best_epoch']}"
    print(f"trial {record['trial']:3d}  {record['state']:8s}  {value}  {record['seconds']:.0f} s  {chosen}", flush=True)


if __name__ == "__main__":
    cli.define_config_flags()
    flags.DEFINE_string("space", None, "YAML file of the settings that are searched", required=True)
    flags.DEFINE_integer("trials", 20, "trials in all, those of earlier calls included", lower_bound=1)
    flags.DEFINE_bool("prune", True, "end trials that stand below the median of the others at the same epoch")
    flags.DEFINE_integer("sampler_seed", 0, "seed of what is tried", lower_bound=0)
    cli.run(main)
