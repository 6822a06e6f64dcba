"""A training step and its parts: a batch for it, timing through the package's own functions, and counts by formula."""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sea_jax import objective as objectives
from sea_jax import sampling
from sea_jax.config import Config
from sea_jax.data import Data
from sea_jax.models.backbones import Backbone
from sea_jax.models.conditionals import GaussianConditional
from sea_jax.models.item_map import Reader, item_map, reassociation_pays
from sea_jax.models.layers import normalise
from sea_jax.models.separation import PART_WIDTH, ProjectionHead
from sea_jax.objective import Batch, Draws
from sea_jax.propagation import product, propagate
from sea_jax.training.state import make_optimisers
from sea_jax.training.step import draw, fit_conditional

HIDDEN = 8  # of the conditional


def timed(function: Callable, arguments: tuple, repeats: int = 5, seconds: float = 10.0) -> float:
    """Median seconds of a call after one that compiles and warms up."""
    jax.block_until_ready(function(*arguments))
    found, began = [], time.perf_counter()
    while len(found) < repeats and (not found or time.perf_counter() - began < seconds):
        start = time.perf_counter()
        jax.block_until_ready(function(*arguments))
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def first_batch(model: Backbone, config: Config, data: Data) -> tuple[Batch, Draws]:
    """A batch and draws, the same for every implementation that is given them."""
    keys = jax.random.split(jax.random.key(1), 3)
    batches = sampling.epoch_batches(keys[0], data.interactions, config.batch_size)
    users = batches["users"][0]
    negatives = sampling.sample_negatives(keys[1], data.interactions, users)
    batch = Batch(users, batches["positives"][0], negatives, batches["weights"][0])
    return batch, draw(keys[2], model, config)


def readers_of(params) -> list[Reader]:
    """The linear layers that read one modality's item map."""
    separation = params["separation"]
    layers = [
        params["mlp_0"],
        separation["projection_head"]["dense0"],
        separation["generic_map"],
        separation["unique_map"],
    ]
    width = layers[0]["kernel"].shape[0]
    half = (width + 1) // 2
    columns = [slice(None), slice(0, half), slice(0, half), slice(half, width)]
    return [Reader(layer["kernel"], layer["bias"], at) for layer, at in zip(layers, columns, strict=True)]


def squares(tree):
    """A scalar whose gradient reaches every number of the tree."""
    return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)) / 2


def programs(model, data, config, state, batch, draws) -> dict[str, tuple]:
    """(function, arguments) of each part, forward and backward where training does both."""
    representation = jax.jit(lambda params, data: model.apply({"params": params}, data))(state.params, data)
    names = [name for name, _ in model.widths]
    width = len(names) * config.embedding_dim
    nodes = jax.random.normal(jax.random.key(0), (model.num_users + model.num_items, width))
    pair = (names[1], names[0])
    first = {name: (nodes[model.num_users :, :64], jnp.tile(nodes[model.num_users :, :64], 4)) for name in names}

    def conditional(x):
        return GaussianConditional(PART_WIDTH).apply({"params": state.club_params}, x)

    def item_maps(params, features):
        def outputs(params):
            found = []
            for name in names:
                readers = [Reader(r.kernel, r.bias, r.columns) for r in readers_of(params[name])]
                linear = params[name]["item_linear"]
                found.append(item_map(features[name], linear["kernel"], linear["bias"], readers))
            return squares(found)

        return jax.grad(outputs)(params)

    def heads(params, first):
        def outputs(params, first):
            found = []
            for name in names:
                head, dense = params[name]["separation"]["projection_head"], params[name]["mlp_1"]
                read, hidden = first[name]
                found.append(ProjectionHead(1).apply({"params": head}, read, data.item_weights, None))
                found.append(jax.nn.leaky_relu(hidden, 0.01) @ dense["kernel"] + dense["bias"])
            return squares(found)

        return jax.grad(outputs, argnums=(0, 1))(params, first)

    def propagation(nodes, data):
        def outputs(nodes):
            x = propagate(data.adjacency, normalise(nodes), config.layers)
            item = x[model.num_users :]
            return squares((x, item + product(data.graphs["item"], item, None)))

        return jax.grad(outputs)(nodes)

    def loss(function):
        return lambda representation, *rest: jax.grad(function)(representation, *rest)

    def optimiser(state, gradient):
        updates, moments = make_optimisers(config)[0].update(gradient, state.optimiser, state.params)
        return optax.apply_updates(state.params, updates), moments

    weights = data.item_weights
    # The head's first layer is read with the item map. Each program is given only what it differentiates by, or it
    # would spend its time on writing zeros.
    only = {name: {k: v for k, v in state.params[name].items() if k != "mlp_1"} for name in names}
    behind = {name: {k: v for k, v in state.params[name].items() if k != "item_linear"} for name in names}
    return {
        "item_maps": (item_maps, (only, data.features)),
        "heads": (heads, (behind, first)),
        "propagation": (propagation, (nodes, data)),
        "bpr": (loss(lambda r, batch: objectives.bpr(r, batch, draws, data, config, None)), (representation, batch)),
        "solosim": (
            loss(lambda r, draws: objectives.alignment(r, pair, draws, data, config, None)),
            (representation, draws),
        ),
        "club": (
            loss(
                lambda r, draws: sum(
                    objectives.separation(r.parts[n], draws.permutations[n], conditional, weights, config, None)
                    for n in names
                )
            ),
            (representation, draws),
        ),
        "club_fit": (
            lambda state, parts: fit_conditional(state, parts, data, config, None),
            (state, representation.parts),
        ),
        "optimiser": (optimiser, (state, state.params)),
    }


def count(
    model, edges: int, item_edges: int, config, batch: int, parameters: int, devices: int = 1
) -> dict[str, dict[str, float]]:
    """Floating-point operations and bytes of each part of one device's step by formula.

    A multiplication and addition are two operations. Bytes are what must cross memory once if every array that a
    product reads or writes is read or written once.

    Args:
      edges, item_edges: of the device's rows of the user-item matrix and of the item graph.
      batch: interactions in a step.
      parameters: numbers in the model that the device holds.
      devices: that share the users, the items and the batch.
    """
    all_items, all_nodes = model.num_items, model.num_users + model.num_items
    items, nodes, batch = (-(-rows // devices) for rows in (all_items, all_nodes, batch))
    modalities = len(model.widths)
    width = modalities * config.embedding_dim
    map_flops = map_bytes = 0
    for _, d in model.widths:
        half, rest = (d + 1) // 2, d // 2
        shapes = [(d, 256), (half, 64), (half, PART_WIDTH), (rest, PART_WIDTH)]
        area, outputs = sum(a * b for a, b in shapes), sum(b for _, b in shapes)
        if reassociation_pays(all_items, d, d, shapes):
            map_flops += 2 * (3 * d * d * outputs / devices + 2 * items * d * outputs)
            map_bytes += 4 * (2 * items * d + 3 * d * d / devices + 2 * items * outputs)
        else:
            map_flops += 2 * (2 * items * d * d + 3 * items * area)
            map_bytes += 4 * (2 * items * d + 3 * d * d + 4 * items * d + 2 * items * outputs)
    products = 2 * config.layers  # forward and backward
    rows = items * modalities
    row_products = PART_WIDTH * 2 * HIDDEN + 2 * HIDDEN * PART_WIDTH
    return {
        "item_maps": {"flops": map_flops, "bytes": map_bytes},
        # Two layers of the head and the second of the encoder, each forward and for both gradients.
        "heads": {"flops": 6 * rows * (64 * 64 + 64 * PART_WIDTH + 256 * 64), "bytes": 4 * 3 * rows * (256 + 5 * 64)},
        "propagation": {
            "flops": 2 * width * (products * edges + 2 * item_edges),
            "bytes": products * (8 * edges + 4 * (nodes + all_nodes) * width)
            + 2 * (8 * item_edges + 4 * (items + all_items) * width),
        },
        "bpr": {"flops": 10 * batch * width, "bytes": 4 * (6 * batch * width + nodes * width)},
        # The logits, and the two products of their gradient.
        "solosim": {"flops": 6 * items * all_items * PART_WIDTH, "bytes": 4 * 3 * (items + all_items) * PART_WIDTH},
        "club": {"flops": 6 * rows * row_products, "bytes": 4 * 6 * rows * PART_WIDTH},
        "club_fit": {
            "flops": config.club_steps * rows * 2 * (2 * row_products + 2 * HIDDEN * PART_WIDTH),
            "bytes": config.club_steps * 4 * 2 * rows * PART_WIDTH,
        },
        "optimiser": {"flops": 12 * parameters, "bytes": 28 * parameters},
    }


def machine_limits() -> dict[str, float]:
    """What this machine reaches on a plain matrix product (FLOP/s) and copy (bytes/s)."""
    a = jnp.asarray(np.random.default_rng(0).standard_normal((2048, 2048), np.float32))
    x = jnp.zeros(1 << 25, jnp.float32)
    passes = 20  # inside one call, so that the memory of its result is made ready once

    def copies(x):
        return jax.lax.fori_loop(0, passes, lambda _, x: x + 1, x)

    return {
        "flops_per_s": 2 * 2048**3 / timed(jax.jit(jnp.matmul), (a, a)),
        "bytes_per_s": passes * 2 * 4 * x.size / timed(jax.jit(copies), (x,)),
    }
