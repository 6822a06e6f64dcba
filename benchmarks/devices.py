"""What each of several devices computes and holds: `python benchmarks/devices.py --shapes=baby,elec`.

Compiles the training step for 1, 2, 4 and 8 emulated CPU devices and prints, per device, the bytes of its arguments
and of its temporary arrays as the compiler plans them, the operations by formula (`parts.count`), and the bytes that
it receives from the others, by formula and from the compiled program. Nothing is run.
"""

import json
import math
import os
import re
from functools import partial
from pathlib import Path

os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import numpy as np
from absl import flags

from benchmarks import parts, shapes
from sea_jax import cli, files
from sea_jax import data as datas
from sea_jax.config import Config
from sea_jax.models.item_map import reassociation_pays
from sea_jax.models.separation import PART_WIDTH
from sea_jax.objective import Batch, Draws
from sea_jax.training import parallel
from sea_jax.training.state import host_data, init_state, make_model
from sea_jax.training.step import step

COUNTS = (1, 2, 4, 8)


def shape_of(x, parts: int | None = None):
    """The shape of an array, or of `parts` of them side by side."""
    shape = x.shape if parts is None else (parts, *x.shape)
    return jax.ShapeDtypeStruct(shape, x.dtype)


def state_shapes(bundle, config: Config, host: datas.HostData, devices: int):
    """The shapes of a state as the devices hold it, and by leaf whether its rows are divided over them."""

    def initial(parts: int = 1, axis: str | None = None):
        return init_state(make_model(bundle, config, parts, axis), datas.blank(host, config, parts), config)

    whole = jax.eval_shape(initial)
    if devices == 1:
        return whole, jax.tree.map(lambda _: False, whole)
    share = parallel.shapes_of(partial(initial, devices, parallel.AXIS), devices)
    divided = parallel.differing(whole, share)
    return jax.tree.map(lambda x, rows: shape_of(x, devices if rows else None), share, divided), divided


def received_by_formula(model, config: Config, replicated: float, devices: int) -> float:
    """Bytes that one device receives in a step (see docs/scaling.md).

    Gathering or reduce-scattering a table of b bytes brings each device b (n - 1) / n; an all-reduce is both.

    Args:
      replicated: numbers in the parameters that every device holds whole.
    """
    width = len(model.widths) * config.embedding_dim
    nodes, items = model.num_users + model.num_items, model.num_items
    # A layer gathers its rows, forward and backward; so does the item graph. BPR fetches three rows a triple.
    numbers = 2 * config.layers * nodes * width + 2 * items * width + 2 * 3 * config.batch_size * width
    # Solosim's candidates for each pair and CLUB's negatives for each modality, and their gradients.
    modalities = len(model.widths)
    numbers += 2 * items * PART_WIDTH * (modalities * (modalities - 1) // 2 + modalities)
    for _, d in model.widths:
        half = (d + 1) // 2
        readers = [(d, 256), (half, 64), (half, PART_WIDTH), (d - half, PART_WIDTH)]
        small = reassociation_pays(items, d, d, readers)
        numbers += 2 * d * (sum(outputs for _, outputs in readers) if small else d)
    conditional = 4 * PART_WIDTH * parts.HIDDEN + 2 * (PART_WIDTH + parts.HIDDEN)
    numbers += 2 * replicated + 2 * config.club_steps * conditional
    return 4 * numbers * (devices - 1) / devices


def received_by_program(text: str, club_steps: int, devices: int) -> float:
    """The same from the collectives of a compiled program; those of the inner fit's loop count once a round."""
    total = 0.0
    share = {
        "all-gather": (devices - 1) / devices,
        "all-reduce": 2 * (devices - 1) / devices,
        "reduce-scatter": devices - 1,
    }
    for line in text.splitlines():
        found = re.match(r"\s*(?:ROOT )?%?\S+ = (.*?) (all-gather|all-reduce|reduce-scatter)(?:-start)?\(", line)
        if found:
            shapes_of = re.findall(r"\b[a-z]+(\d+)\[([\d,]*)\]", found[1])
            size = sum(int(bits) // 8 * math.prod(int(n) for n in dims.split(",") if n) for bits, dims in shapes_of)
            rounds = club_steps if "/while/" in line else 1
            total += rounds * size * share[found[2]]
    return total


def measure(bundle, devices: int) -> dict[str, float]:
    """One device's share of a step when `devices` share it."""
    config = shapes.settings(devices=str(devices))
    layout, host = parallel.layout(config), host_data(bundle, config)
    model = make_model(bundle, config, layout.parts, layout.axis)
    share = datas.divide(host, config, devices)[0]
    side = None if layout.axis is None else devices
    data = jax.tree.map(lambda x: shape_of(np.asarray(x), side), share._replace(interactions=None))
    data = data._replace(interactions=jax.tree.map(shape_of, share.interactions))
    state, divided = state_shapes(bundle, config, host, devices)
    index, weights = (jax.ShapeDtypeStruct((config.batch_size,), dtype) for dtype in (np.int32, np.float32))
    items = jax.ShapeDtypeStruct((bundle.num_items,), np.int32)
    batch, draws = Batch(index, index, index, weights), Draws(dict.fromkeys(bundle.modalities, items))
    axes = parallel.axes_of(divided)
    run = partial(step, model=model, config=config, axis=layout.axis, divided=divided)
    if layout.axis is None:
        mapped = jax.jit(run, donate_argnums=0)
    else:
        ins = (axes, datas.AXES, None, None)
        mapped = jax.pmap(run, axis_name=layout.axis, in_axes=ins, out_axes=(axes, None, None), donate_argnums=0)
    compiled = mapped.lower(state, data, batch, draws).compile()
    memory = compiled.memory_analysis()
    sizes, rows = ([*jax.tree.leaves(tree)] for tree in (state.params, divided.params))
    replicated = sum(leaf.size for leaf, of in zip(sizes, rows, strict=True) if not of)
    parameters = replicated + (sum(leaf.size for leaf in sizes) - replicated) / devices
    counted = parts.count(model, *row_edges(host, devices), config, config.batch_size, parameters, devices)
    return {
        "argument_mb": memory.argument_size_in_bytes / 1e6,
        "temporary_mb": memory.temp_size_in_bytes / 1e6,
        "held_mb": (memory.argument_size_in_bytes + memory.temp_size_in_bytes) / 1e6,
        "gflop": sum(part["flops"] for part in counted.values()) / 1e9,
        "received_mb": received_by_formula(model, config, replicated, devices) / 1e6,
        "received_mb_by_program": received_by_program(compiled.as_text(), config.club_steps, devices) / 1e6,
    }


def row_edges(host: datas.HostData, devices: int) -> tuple[int, int]:
    """Entries of the user-item matrix and of the item graph in the rows of the device that has most."""
    starts = [np.minimum(np.arange(devices + 1) * -(-n // devices), n) for n in (host.num_users, host.num_items)]
    before = host.adjacency.indptr
    before = before[starts[0]] + before[host.num_users + starts[1]]
    return int(np.diff(before).max()), int(np.diff(host.graphs["item"].indptr[starts[1]]).max())


def main(argv: list[str]) -> int:
    del argv
    results = {}
    for name in cli.FLAGS.shapes:
        bundle = shapes.make(name, cli.FLAGS.interactions)
        found = {n: measure(bundle, n) for n in COUNTS}
        print(f"{name}, per device\n{'devices':>8s}{'arguments MB':>14s}{'temporary MB':>14s}{'held':>8s}", end="")
        print(f"{'GFLOP':>10s}{'of one':>8s}{'received MB':>13s}{'compiled':>10s}")
        for n, of in found.items():
            print(
                f"{n:8d}{of['argument_mb']:14.0f}{of['temporary_mb']:14.0f}{of['held_mb'] / found[1]['held_mb']:8.3f}"
                f"{of['gflop']:10.1f}{of['gflop'] / found[1]['gflop']:8.3f}{of['received_mb']:13.1f}"
                f"{of['received_mb_by_program']:10.1f}",
                flush=True,
            )
        results[name] = found
    if cli.FLAGS.json:
        files.write_text(Path(cli.FLAGS.json), json.dumps(results, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    flags.DEFINE_list("shapes", ["baby", "elec"], f"which of {', '.join(shapes.SHAPES)}")
    flags.DEFINE_string("json", "", "file the results are written to")
    flags.DEFINE_string("interactions", "", "folder with NAME.inter of real interactions, or with a folder that has it")
    cli.run(main)
