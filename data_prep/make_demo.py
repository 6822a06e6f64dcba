"""Makes a synthetic dataset with planted structure: `python data_prep/make_demo.py --output=DIR`.

With --raw it is raw data (interactions.csv, items.parquet, pictures/), which from_tables.py makes a bundle of:

    python data_prep/from_tables.py --interactions=DIR/interactions.csv --items=DIR/items.parquet --output=BUNDLE

What is planted, and why, is told in sea_jax/raw/demo.py.
"""

from sea_jax import bundle as bundles
from sea_jax import cli
from sea_jax.raw.demo import make_demo, make_raw


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    names = ("num_users", "num_items", "mean_interactions", "factors", "noise", "seed")
    make = make_raw if values.raw else make_demo
    make(values.output, **{name: values[name].value for name in names})
    if not values.raw:
        print(bundles.describe(bundles.load(values.output)))
    print(f"wrote {values.output}")
    return 0


if __name__ == "__main__":
    flags = cli.flags
    flags.DEFINE_string("output", None, "folder to write the bundle, or the raw data, into", required=True)
    flags.DEFINE_bool("raw", False, "write tables and pictures instead of a bundle")
    flags.DEFINE_integer("num_users", 1200, "users")
    flags.DEFINE_integer("num_items", 800, "items")
    flags.DEFINE_float("mean_interactions", 14.0, "interactions per user, on average")
    flags.DEFINE_integer("factors", 6, "factors of each kind: generic, unique to each modality, hidden")
    flags.DEFINE_float("noise", 0.3, "noise of what is shown, in standard deviations of its signal")
    flags.DEFINE_integer("seed", 0, "seed of every random number")
    cli.run(main)
