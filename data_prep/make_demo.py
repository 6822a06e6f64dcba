"""Makes a synthetic dataset with planted structure: `python data_prep/make_demo.py --output=DIR`.

What is planted, and why, is told in sea_jax/raw/demo.py.
"""

from absl import flags

from sea_jax import bundle as bundles
from sea_jax import cli
from sea_jax.raw.demo import make_demo


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    names = ("num_users", "num_items", "mean_interactions", "factors", "noise", "seed")
    make_demo(values.output, **{name: values[name].value for name in names})
    print(bundles.describe(bundles.load(values.output)))
    print(f"wrote {values.output}")
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "folder to write the bundle into", required=True)
    flags.DEFINE_integer("num_users", 1200, "users")
    flags.DEFINE_integer("num_items", 800, "items")
    flags.DEFINE_float("mean_interactions", 14.0, "interactions per user, on average")
    flags.DEFINE_integer("factors", 6, "factors of each kind: generic, unique to each modality, hidden")
    flags.DEFINE_float("noise", 0.3, "noise of the features, in standard deviations of their signal")
    flags.DEFINE_integer("seed", 0, "seed of every random number")
    cli.run(main)
