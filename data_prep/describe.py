"""Describes a bundle to a person: `python data_prep/describe.py --data_dir=DIR --output=PAGE.html`.

Sizes, curves of activity and popularity, a time line, what is missing, the nearest items of a few (do the features make
sense?), what may leak. The page is one file without scripts.
"""

from pathlib import Path

from sea_jax import bundle as bundles
from sea_jax import cli, files
from sea_jax.raw import describe


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    bundle = bundles.load(values.data_dir, verify_hashes=values.verify)
    print(describe.text(bundle))
    if values.output is not None:
        files.write_text(values.output, describe.page(bundle, Path(values.image_root) if values.image_root else None))
        print(f"wrote {values.output}")
    return 0


if __name__ == "__main__":
    flags = cli.flags
    flags.DEFINE_string("data_dir", None, "folder of the bundle", required=True)
    flags.DEFINE_string("output", None, "HTML file to write; the terminal alone without")
    flags.DEFINE_string("image_root", "", "folder that the pictures' paths are relative to")
    flags.DEFINE_bool("verify", True, "compare the bundle's files with their hashes")
    cli.run(main)
