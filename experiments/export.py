"""A recommender for other software: `python experiments/export.py --workdir=RUN --format=parquet --output=DIR`.

--recommender=FILE takes a saved recommender in place of a run. Formats: npz (one file), parquet (a folder), jax (the scoring
function for CPU, CUDA and TPU), faiss (an index for a million items and more); docs/recommending.md shows how each is read.
"""

from absl import flags

from sea_jax import cli, exporting
from sea_jax.errors import SeaError
from sea_jax.recommender import Recommender
from sea_jax.training import runs


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    if bool(values.workdir) == bool(values.recommender):
        raise SeaError("name a run with --workdir or a saved recommender with --recommender.")
    if values.recommender:
        made = Recommender.load(values.recommender)
    else:
        made = runs.open_run(values.workdir, values.data_dir).recommender(values.checkpoint)
    for path in exporting.write(made, values.format, values.output, values.k):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    cli.define_run_flags(required=False)
    flags.DEFINE_string("recommender", "", "file of a recommender, in place of a run")
    flags.DEFINE_enum("format", "npz", exporting.FORMATS, "what to write")
    flags.DEFINE_integer("k", 20, "length of the lists of --format=jax", lower_bound=1)
    flags.DEFINE_string("output", None, "file to write; of --format=parquet the folder", required=True)
    cli.run(main)
