"""Makes a bundle from an MMRec folder: `python data_prep/from_mmrec.py --source=DIR --output=DIR`.

The folder holds one NAME.inter (tab-separated with a header: userID, itemID, x_label and perhaps more; label 0 is
training, 1 validation, 2 test), one MODALITY_feat.npy per modality (row = itemID) and perhaps the id maps
u_id_mapping.csv and i_id_mapping.csv.
"""

from pathlib import Path

from sea_jax import bundle as bundles
from sea_jax import cli
from sea_jax.adjacency import SIMILARITIES
from sea_jax.raw.mmrec import convert


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    bundle = convert(
        Path(values.source), values.modalities, values.knn_k_max, values.name, values.missing, values.similarity
    )
    bundle.save(values.output)
    print(bundles.describe(bundle))
    print(f"wrote {values.output}")
    return 0


if __name__ == "__main__":
    flags = cli.flags
    flags.DEFINE_string("source", None, "MMRec folder", required=True)
    flags.DEFINE_string("output", None, "folder to write the bundle into", required=True)
    flags.DEFINE_list("modalities", [], "modalities to keep, in this order; all, image first, by default")
    flags.DEFINE_integer("knn_k_max", 20, "nearest items kept per item and modality; training may use fewer")
    flags.DEFINE_enum(
        "similarity", "cosine", SIMILARITIES, "what nearest means: cosine of features, or of standardised columns"
    )
    flags.DEFINE_string("name", "", "name of the dataset; that of the .inter file by default")
    flags.DEFINE_string(
        "missing", "", "keep rows that say nothing out of neighbours and losses; filled by: mean, neighbours"
    )
    cli.run(main)
