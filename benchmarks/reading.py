"""Times reading: `python benchmarks/reading.py --rows=20000000 --folder=DIR`.

Makes a gzipped csv of that many interactions with the sizes and heavy tails of a large catalogue (about a user for ten rows and
an item for forty), reads it, drops duplicates, takes the 5-core, splits by time and writes the interactions. Prints what
each step took and the peak memory, as JSON.
"""

import gzip
import json
import resource
import time
from pathlib import Path

import numpy as np

from sea_jax import bundle as bundles
from sea_jax import cli, files
from sea_jax.raw import pairs, splits, tables
from sea_jax.raw.lines import Skips
from sea_jax.raw.reader import Reader

CHUNK = 1_000_000


def make(path: Path, rows: int, seed: int = 0) -> None:
    """Writes the file."""
    pl = tables.polars()
    rng = np.random.default_rng(seed)
    users, items = rows // 10, rows // 40
    codes = rng.permutation(10 * users)[:users]
    user_ids = pl.Series([f"A{code:027X}" for code in codes.tolist()])
    item_ids = pl.Series([f"B0{code:08d}" for code in rng.permutation(10 * items)[:items].tolist()])
    with gzip.open(path, "wb", compresslevel=1) as file:
        for start in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start)
            frame = pl.DataFrame({
                "user_id": user_ids.gather((users * rng.random(count) ** 2).astype(np.int64)),
                "parent_asin": item_ids.gather((items * rng.random(count) ** 3).astype(np.int64)),
                "rating": rng.integers(1, 6, count).astype(np.float64),
                "timestamp": rng.integers(10**12, 17 * 10**11, count),
            })  # fmt: skip
            file.write(frame.write_csv(include_header=start == 0).encode())


def measure(path: Path, output: Path) -> dict:
    """Seconds of each step, rows, peak memory in MB."""
    took, began = {}, time.monotonic()

    def step(name):
        nonlocal began
        now = time.monotonic()
        took[name], began = round(now - began, 2), now

    skips, progress = Skips(), cli.Progress()
    table = tables.layout(path)
    reader = Reader(skips, progress)
    reader.read(table, {role: tables.find(table, role) for role in ("user", "item", "time", "rating")})
    found = reader.table()
    step("read")
    before = found.counts()
    found = pairs.distinct(found)
    step("duplicates")
    found = pairs.core(found, 5, 5)
    step("5-core")
    found = pairs.numbered(found)
    step("number")
    labels = splits.split(found, "leave_last_out")
    step("split")
    both = np.stack([found.users, found.items], axis=1)
    files.write_npz(output, {
        **{name: both[labels == label] for label, name in enumerate(bundles.SPLITS)},
        "user_ids": np.array(found.user_ids, np.str_), "item_ids": np.array(found.item_ids, np.str_),
    })  # fmt: skip
    step("write")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": before, "left": found.counts(), "seconds": took, "total": round(sum(took.values()), 1),
        "cpu": round(time.process_time(), 1), "peak_mb": round(peak),
        "packed_mb": round(path.stat().st_size / 1e6), "skipped": skips.sentences(),
    }  # fmt: skip


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    if values.rows < 100:
        raise cli.SeaError(f"--rows={values.rows} must be at least 100.")
    folder = Path(values.folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"interactions-{values.rows}.csv.gz"
    if not path.exists():
        with files.whole(path) as aside:
            make(aside, values.rows)
        print(f"made {path}; run this again to measure in a process that has made nothing")
        return 0
    print(json.dumps(measure(path, folder / "tables.npz"), indent=1))
    return 0


if __name__ == "__main__":
    cli.flags.DEFINE_integer("rows", 20_000_000, "interactions")
    cli.flags.DEFINE_string("folder", "reading", "folder for the made file and what is written")
    cli.run(main)
