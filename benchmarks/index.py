"""A faiss index beside exact search: `python benchmarks/index.py --items=1000000 --json=FILE`.

Made vectors in clusters, of lengths that vary as trained ones' do, or with --recommender=FILE a model's; recall of the exact
top 20 and milliseconds a query for several numbers of cells looked into. `chosen` is the number that the index chose.
"""

import time

import numpy as np
from absl import flags

from sea_jax import cli, exporting, files
from sea_jax.errors import require
from sea_jax.recommender import Recommender

K, QUERIES, BATCH = 20, 1000, 50


def vectors(count: int, width: int, noise: float, seed: int) -> np.ndarray:
    """Directions around centres, noise beside 1 of the centre, with log-normal lengths."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(1000, width)).astype(np.float32)  # common to items and who asks
    x = centres[rng.integers(0, 1000, count)] + noise * rng.standard_normal((count, width), np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True) * rng.lognormal(0, 0.25, (count, 1)).astype(np.float32)


def timed(search, queries: np.ndarray) -> tuple[np.ndarray, float]:
    """(rows found, milliseconds a query)."""
    began = time.perf_counter()
    found = np.concatenate([search(queries[at : at + BATCH])[1] for at in range(0, len(queries), BATCH)])
    return found, 1e3 * (time.perf_counter() - began) / len(queries)


def main(argv: list[str]) -> int:
    del argv
    values, faiss = cli.FLAGS, require("faiss", "ann", "this benchmark")
    if values.recommender:
        made = Recommender.load(values.recommender)
        items, users = made.item_vectors, made.user_vectors
    else:
        items, users = (vectors(n, values.width, values.noise, n) for n in (values.items, 2 * QUERIES))
    queries, others = users[:QUERIES], users[QUERIES:]  # who is measured is not who chose
    flat = faiss.IndexFlatIP(items.shape[1])
    flat.add(items)
    exact, milliseconds = timed(lambda some: flat.search(some, K), queries)
    began = time.perf_counter()
    index = exporting.faiss_index(items, others)
    found = {
        "items": len(items), "width": items.shape[1], "exact_ms": milliseconds, "build_s": time.perf_counter() - began,
        "cells": index.nlist, "chosen": index.nprobe,
    }  # fmt: skip
    for probes in sorted({1, 8, 32, 128, index.nprobe}):
        index.nprobe = probes
        rows, milliseconds = timed(lambda some: index.search(some, K), queries)
        hits = [len(set(a) & set(b)) / K for a, b in zip(exact.tolist(), rows.tolist(), strict=True)]
        found[f"nprobe {probes}"] = {"recall": float(np.mean(hits)), "ms": milliseconds}
    print(found)
    if values.json:
        files.write_json(values.json, found)
    return 0


if __name__ == "__main__":
    flags.DEFINE_integer("items", 1_000_000, "vectors", lower_bound=1000)
    flags.DEFINE_integer("width", 128, "of a vector", lower_bound=1)
    flags.DEFINE_float("noise", 0.7, "spread of made vectors around their centres", lower_bound=0.0)
    flags.DEFINE_string("recommender", "", "file of a recommender, in place of made vectors")
    flags.DEFINE_string("json", "", "file to write the numbers into")
    cli.run(main)
