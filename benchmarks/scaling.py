"""Time and memory of a step as the data grow: `python benchmarks/scaling.py --output=DIR`.

Users, items and interactions each double three times from a base, one at a time. For each size: the median time of
a step, the operations by formula, and the memory of the compiled step (arguments and temporary arrays). Writes
scaling.json and scaling.png.
"""

import json
import statistics
import time
from functools import partial
from pathlib import Path

import jax
from absl import flags

from benchmarks import parts, shapes
from sea_jax import cli, files
from sea_jax.training import loop
from sea_jax.training.state import host_data
from sea_jax.training.step import step

BASE = {"users": 5_000, "items": 2_500, "interactions": 40_000}
DOUBLINGS = 3


def measure(sizes: dict[str, int], repeats: int) -> dict[str, float]:
    """One size: step_ms, gflop, memory_mb."""
    pairs = (sizes["interactions"], 100, 100)
    shapes.SHAPES["growing"] = shapes.Shape(sizes["users"], sizes["items"], pairs, {"image": 512, "text": 128})
    bundle = shapes.make("growing")
    run = loop.prepare(bundle, shapes.settings())
    config, model, state, data = run.config, run.model, run.progress.state, run.data
    batch, draws = parts.first_batch(model, config, data)
    compiled = jax.jit(partial(step, model=model, config=config), donate_argnums=0)
    with jax.default_matmul_precision(run.layout.precision):
        compiled = compiled.lower(state, data, batch, draws).compile()
    memory, times = compiled.memory_analysis(), []
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    for _ in range(repeats + 1):
        start = time.perf_counter()
        state, found, _ = compiled(state, data, batch, draws)
        jax.block_until_ready((state, found))
        times.append(time.perf_counter() - start)
    edges = bundle.adjacency.nnz, host_data(bundle, config).graphs["item"].nnz
    counted = parts.count(model, *edges, config, config.batch_size, parameters)
    return {
        **sizes,
        "step_ms": 1e3 * statistics.median(times[1:]),
        "gflop": sum(part["flops"] for part in counted.values()) / 1e9,
        "memory_mb": (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 1e6,
    }


def plot(path: Path, results: dict[str, list[dict]]) -> None:
    """Step time, operations and memory relative to the base, against the growth of each quantity."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 3, figsize=(13, 4), sharey=True)
    names = {"step_ms": "time of a step", "gflop": "operations by formula", "memory_mb": "memory of the program"}
    for panel, (what, rows) in zip(panels, results.items(), strict=True):
        growth = [2**n for n in range(len(rows))]
        for name, label in names.items():
            panel.plot(growth, [row[name] / rows[0][name] for row in rows], marker="o", label=label)
        panel.plot(growth, growth, color="grey", linestyle=":", label="linear")
        panel.set(xscale="log", yscale="log", xlabel=f"{what}, times {rows[0][what]:,}")
        panel.set_xticks(growth, [str(n) for n in growth])
        panel.set_yticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("times the base")
    panels[0].legend(fontsize=9)
    figure.tight_layout()
    files.save_figure(figure, path)


def main(argv: list[str]) -> int:
    del argv
    output = Path(cli.FLAGS.output)
    output.mkdir(parents=True, exist_ok=True)
    results = {}
    print(f"{'users':>8s}{'items':>8s}{'interactions':>14s}{'step ms':>9s}{'GFLOP':>8s}{'memory MB':>11s}")
    for what in BASE:
        results[what] = []
        for n in range(DOUBLINGS + 1):
            found = measure(BASE | {what: BASE[what] * 2**n}, cli.FLAGS.repeats)
            results[what].append(found)
            print(
                f"{found['users']:8d}{found['items']:8d}{found['interactions']:14d}{found['step_ms']:9.1f}"
                f"{found['gflop']:8.2f}{found['memory_mb']:11.1f}",
                flush=True,
            )
    files.write_text(output / "scaling.json", json.dumps(results, indent=1) + "\n")
    plot(output / "scaling.png", results)
    print(f"wrote scaling.json and scaling.png to {output}")
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "folder for the table and the plot", required=True)
    flags.DEFINE_integer("repeats", 9, "timed steps at each size", lower_bound=1)
    cli.run(main)
