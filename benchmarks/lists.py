"""Times lists into a file: `python benchmarks/lists.py --users=50000 --output=FILE.parquet`.

Of random vectors at TikTok's number of items. Prints, as JSON, seconds, lists a second, the file's size, and the process's memory
before and at its peak: what is held does not grow with the number of lists. Linux alone counts so.
"""

import json
import os
import re
import time
from pathlib import Path

import numpy as np

from sea_jax import cli, listing
from sea_jax.recommender import Recommender


def memory(field: str) -> int:
    """MB of this process: VmRSS now, VmHWM at the peak."""
    return int(re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())[1]) // 1024


def main(argv: list[str]) -> int:
    del argv
    values, rng = cli.FLAGS, np.random.default_rng(0)
    vectors = (rng.standard_normal((n, values.width), np.float32) for n in (values.catalogue_users, values.items))
    pairs = rng.integers(0, [values.catalogue_users, values.items], size=(8 * values.catalogue_users, 2))
    made = Recommender.from_vectors(*vectors, pairs)
    asking = made.user_ids[: values.users].tolist()
    made.recommend(asking[:1], values.k)  # what is computed once is there
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, began = memory("VmRSS"), time.perf_counter()
    listing.write(values.output, listing.of_users(made, asking, listing.Wish(values.k)), False)
    seconds = time.perf_counter() - began
    print(json.dumps({
        "users": len(made.user_ids), "lists": len(asking), "items": values.items, "width": values.width, "k": values.k,
        "seconds": round(seconds, 1), "lists_a_second": round(len(asking) / seconds),
        "file_mb": round(os.path.getsize(values.output) / 1e6, 1), "mb_before": before, "peak_mb": memory("VmHWM"),
    }, indent=1))  # fmt: skip
    return 0


if __name__ == "__main__":
    cli.flags.DEFINE_integer("catalogue_users", 1_000_000, "users of the recommender")
    cli.flags.DEFINE_integer("users", 50_000, "how many of them get a list")
    cli.flags.DEFINE_integer("items", 6_710, "items")
    cli.flags.DEFINE_integer("width", 64, "columns of a vector")
    cli.flags.DEFINE_integer("k", 20, "length of the lists")
    cli.flags.DEFINE_string("output", None, "file to write: .csv, .jsonl or .parquet", required=True)
    cli.run(main)
