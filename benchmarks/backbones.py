"""Seconds per step, epoch and ranking of every backbone, beside eager PyTorch steps of three of them.

`python benchmarks/backbones.py --shapes=tiktok,baby --interactions=DIR --json=FILE`
"""

import statistics
import time

import jax
import numpy as np
from absl import flags

from benchmarks import shapes
from benchmarks.parts import first_batch
from sea_jax import cli, files
from sea_jax.adjacency import normalised_adjacency
from sea_jax.config import OWN_DEFAULTS
from sea_jax.errors import SeaError
from sea_jax.models import thinning
from sea_jax.training import loop, parallel, platform
from sea_jax.training.state import host_data
from sea_jax.training.step import loss_and_gradient

SETTINGS = ("batch_size", "learning_rate", "precision", "propagation", "club_fit", "devices")
BESIDE = ("lightgcn", "freedom", "bm3")  # those that torch_backbones.py has
SAME_LOSS = 1e-4  # largest relative difference between the two implementations' losses


def measure(bundle, config, epochs: int) -> dict:
    """Seconds of an epoch, of a step as its share, and of a ranking, after a first epoch that compiles."""
    run, first = loop.advance(loop.prepare(bundle, config))
    records = []
    for _ in range(epochs):
        run, record = loop.advance(run)
        records.append(record)
    epoch = statistics.median(record["seconds"] for record in records)
    steps = -(-len(bundle.train) // config.batch_size)
    return {
        "device": f"{run.layout.parts} x {jax.devices()[0].device_kind}",
        "first_epoch_s": first["seconds"],
        "epoch_s": epoch,
        "step_ms": 1e3 * epoch / steps,
        "ranking_s": statistics.median(record["eval_seconds"] for record in records),
        "loss": records[-1]["loss/total"],
    }


def torch_step(bundle, config, seconds: float) -> dict:
    """Milliseconds of the eager PyTorch step from the same parameters, its losses checked against ours."""
    import torch

    from benchmarks import torch_backbones

    run = loop.prepare(bundle, config)
    state, data = run.progress.state, run.data
    batch, draws = first_batch(run.model, run.config, data)
    graphs = {"user_item": bundle.adjacency, **host_data(bundle, config).graphs}
    if config.backbone == "freedom":
        pairs = data.interactions
        count = int(len(bundle.train) * (1 - config.freedom_edge_dropout))
        kept = np.asarray(thinning.draw_pairs(jax.random.key(1), pairs, count, bundle.num_items))
        data = thinning.thinned(data, kept, bundle.num_items)
        chosen = np.stack([pairs.users, pairs.items], axis=1)[kept]
        graphs["user_item"] = normalised_adjacency(chosen, bundle.num_users, bundle.num_items)
    one = jax.jit(lambda *given: loss_and_gradient(*given, run.model, config)[0][1][0])
    with jax.default_matmul_precision(parallel.MATMUL[config.precision]):
        ours = {name: float(x) for name, x in one(state, data, batch, draws).items()}

    params = {"/".join(key.key for key in path): x for path, x in jax.tree_util.tree_leaves_with_path(state.params)}
    stepper = torch_backbones.STEPS[config.backbone](
        params,
        graphs,
        layers=config.layers,
        item_layers=config.item_layers,
        reg_weight=config.reg_weight,
        learning_rate=config.learning_rate,
        contrast_weight=config.bm3_contrast_weight,
        dropout=config.bm3_dropout,
    )
    columns = [torch.from_numpy(np.array(x, np.int64)) for x in batch[:3]]
    masks = None
    if config.backbone == "bm3":
        drawn = draws.noise["dropout_mask"].items()
        masks = {name.removesuffix("_target"): torch.from_numpy(np.array(x)) for name, x in drawn}
    theirs = stepper.step(*columns, masks)
    for name, value in theirs.items():
        if abs(value - ours[name]) > SAME_LOSS * abs(value):
            raise SeaError(f"{config.backbone}: {name} is {ours[name]} here and {value} in PyTorch.")
    times, began = [], time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < seconds:
        start = time.perf_counter()
        stepper.step(*columns)
        times.append(time.perf_counter() - start)
    return {"torch_step_ms": 1e3 * statistics.median(times), "torch_threads": torch.get_num_threads()}


def main(argv: list[str]) -> int:
    del argv
    found = {}
    print(f"{'shape':9s}{'backbone':10s}{'epoch_s':>9s}{'step_ms':>9s}{'PyTorch_ms':>11s}")
    how = {name: cli.FLAGS[name].value for name in SETTINGS}
    for shape in cli.FLAGS.shapes:
        bundle = shapes.make(shape, cli.FLAGS.interactions)
        for backbone in cli.FLAGS.backbones:
            # The shapes have no more neighbours than this.
            own = {"smore_knn_k": (shapes.KNN_K,) * 2} if backbone == "smore" else {}
            config = shapes.settings(backbone=backbone, **own, **how)
            platform.prepare_platform(config)
            timed = measure(bundle, config, cli.FLAGS.repeats)
            if cli.FLAGS.torch and backbone in BESIDE:
                timed |= torch_step(bundle, loop.resolved(config), cli.FLAGS.seconds)
            found[f"{shape}/{backbone}"] = timed
            beside = f"{timed['torch_step_ms']:11.1f}" if "torch_step_ms" in timed else ""
            print(f"{shape:9s}{backbone:10s}{timed['epoch_s']:9.2f}{timed['step_ms']:9.1f}{beside}", flush=True)
    if cli.FLAGS.json:
        files.write_json(cli.FLAGS.json, found)
    return 0


if __name__ == "__main__":
    flags.DEFINE_list("shapes", ["tiktok", "baby"], "shapes to time, see benchmarks/shapes.py")
    flags.DEFINE_list("backbones", list(OWN_DEFAULTS), "backbones to time")
    flags.DEFINE_string("interactions", "", "folder of the real interactions; empty: a synthetic topology")
    flags.DEFINE_integer("repeats", 3, "epochs timed after the one that compiles", lower_bound=1)
    flags.DEFINE_float("seconds", 10.0, "how long a PyTorch step is repeated")
    flags.DEFINE_bool("torch", True, "also time the eager PyTorch steps")
    flags.DEFINE_string("json", "", "file to write the numbers into")
    cli.define_config_flags(SETTINGS)
    cli.run(main)
