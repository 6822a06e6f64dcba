"""Faults of the disk: writes that fail, files removed, bytes flipped; each is told, or harmless, or counted as silent."""

import dataclasses
import random
import shutil
from pathlib import Path

import jax
import numpy as np

from benchmarks import bad_input
from benchmarks.forked import EPOCHS, result, train
from sea_jax import bundle as bundles
from sea_jax.errors import SeaError
from sea_jax.recommender import Recommender
from sea_jax.training import loop, runs, workdir


def damage(data: Path, folder: Path, flips: int, seed: int) -> dict:
    """Each file of a bundle and of a run removed, and then with one bit flipped, `flips` times."""
    counts, draw, place = {}, random.Random(seed), folder / "sound"
    data = shutil.copytree(data, folder / "bundle")
    assert train(data, place, "lightgcn").end()[0] == 0
    like = loop.prepare(bundles.load(data), runs.readers(workdir.read_record(place)[0]))

    def restored():
        told = []
        found = loop.restore(like, place / workdir.CHECKPOINTS, told.append).progress
        if told:
            raise SeaError(told[0])
        return [np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
                for x in jax.tree.leaves(found)]  # fmt: skip

    def bundle():
        found = bundles.load(data)  # hashes would tell all; this is what notices without them
        return [found.manifest, *(np.asarray(x) for x in jax.tree.leaves(dataclasses.asdict(found)["features"])),
                found.train, found.valid, found.test, found.adjacency.toarray(), found.user_ids, found.item_ids,
                *(x for pair in found.neighbours.values() for x in pair)]  # fmt: skip

    def recommender():
        found = Recommender.load(place / workdir.RECOMMENDER)
        return [found.user_vectors, found.item_vectors, found.user_ids, found.item_ids, found.seen_items]

    shutil.rmtree(place / workdir.CHECKPOINTS / str(EPOCHS - 1))  # so that the last is the only one
    read = {
        "bundle": (bundle, [*sorted(data.glob("*.npz")), data / "manifest.json"]),
        "run.json": (lambda: [workdir.read_record(place)], [place / workdir.RECORD]),
        "summary.json": (lambda: [workdir.read_summary(place)], [place / workdir.SUMMARY]),
        "recommender": (recommender, [place / workdir.RECOMMENDER]),
        "checkpoint": (restored, [p for p in sorted((place / workdir.CHECKPOINTS).rglob("*")) if p.is_file()]),
    }
    for what, (function, paths) in read.items():
        expected, found = function(), {"told": 0, "harmless": 0, "silent": [], "tracebacks": []}
        for path in paths:
            sound = path.read_bytes()
            for number in range(flips + 1):
                if number == 0:
                    path.unlink()
                else:
                    damaged = bytearray(sound)
                    damaged[draw.randrange(len(sound))] ^= 1 << draw.randrange(8)
                    path.write_bytes(damaged)
                try:
                    same = all(map(_equal, function(), expected))
                    if same:
                        found["harmless"] += 1
                    else:
                        found["silent"].append(f"{path.name}, {'flipped' if number else 'removed'}")
                except (SeaError, OSError):
                    found["told"] += 1
                except Exception as error:  # what this looks for
                    found["tracebacks"].append(f"{path.name}: {error!r}")
                path.write_bytes(sound)
        counts[what] = found
    return counts


def _equal(a, b) -> bool:
    return np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b


def failing_writes(data: Path, folder: Path) -> dict:
    """Trainings whose files cannot grow beyond some sizes: one sentence at most, and afterwards they go on."""
    counts = {"told": 0, "unharmed": 0, "wrong": []}
    assert train(data, folder / "roomy", "lightgcn").end()[0] == 0
    expected = result(folder / "roomy")
    for largest in (100, 1_000, 3_000, 20_000, 60_000, 200_000):
        place = folder / f"small-{largest}"
        code, _, err = train(data, place, "lightgcn", largest=largest).end()
        if code != 0 and (code != 1 or not bad_input.one_sentence(err)):
            counts["wrong"].append(f"{largest}: exit code {code}, {err[-300:]}")
        counts["told" if code else "unharmed"] += 1
        code, _, err = train(data, place, "lightgcn").end()
        if code or result(place) != expected:
            counts["wrong"].append(f"{largest}, afterwards: exit code {code}, {err[-300:]}")
    return counts
