"""A report of runs to look at: `python experiments/report.py --workdir=RUN[,RUN...] --output=DIR`.

Writes report.html (one file: curves with bands over seeds, mutual information where --diagnose_every logged it, maps of the
parts, metrics by popularity, lists of a few users), its pictures as PNG, and MODEL_CARD.md. Maps, lists and card are of the
first run.
"""

from pathlib import Path

from absl import flags

from sea_jax import cli, reporting
from sea_jax.config import LARGEST_INT
from sea_jax.errors import SeaError
from sea_jax.training import runs, workdir


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    if not 1 <= values.k <= LARGEST_INT:
        raise SeaError(f"--k={values.k} must be from 1 to {LARGEST_INT}.")
    if not all(values.workdir) or not values.workdir:
        raise SeaError("--workdir names no run; give the folder of one or of several.")
    folders = [run for folder in values.workdir for run in workdir.runs_at(Path(folder))]
    if len(set(folders)) < len(folders):
        raise SeaError("--workdir names a run twice; name each once.")
    opened = [runs.open_run(folder, values.data_dir) for folder in folders]
    reporting.write(values.output, *reporting.report(opened, values.k, values.map, values.image_root or None))
    print(f"wrote {values.output}")
    return 0


if __name__ == "__main__":
    flags.DEFINE_list("workdir", None, "folders of the runs, or of seeds, separated by commas", required=True)
    flags.DEFINE_string("output", None, "folder to write into", required=True)
    flags.DEFINE_string("data_dir", "", "folder of the bundle, if it moved since training")
    flags.DEFINE_string("image_root", "", "folder with the pictures, if the bundle's paths are relative to it")
    flags.DEFINE_integer("k", 20, "places of a list")
    flags.DEFINE_enum("map", "pca", ("pca", "tsne"), 'how items are mapped; tsne needs pip install "sea_jax[report]"')
    cli.run(main)
