"""The epoch, the embeddings and the ranking under jit on one device or pmap on several, behind one signature.

pmap is implemented as jit of shard_map today. The day it goes, `on_devices` becomes shard_map over a mesh with one
axis named AXIS, the leading device axis of divided leaves becomes a sharding, and nothing else changes.
With several processes each one names its own devices' shares; pmap joins them.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from sea_jax import data as datas
from sea_jax.config import Config, with_arguments
from sea_jax.data import Data
from sea_jax.errors import SeaError
from sea_jax.evaluation import RankingData, factors, metric_sums
from sea_jax.models.backbones import Backbone
from sea_jax.objective import ranked_rows
from sea_jax.training import hosts
from sea_jax.training.step import epoch

AXIS = "devices"
MATMUL = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}


class Layout(NamedTuple):
    """Where arrays live and how they are multiplied.

    parts: number of devices. local: those of this process among them. axis: their name, None for one device. precision:
    of matrix products, as JAX names it.
    """

    parts: int
    local: slice
    axis: str | None
    precision: str


def device_count(config: Config) -> int:
    """How many devices the settings ask for; raises SeaError if they cannot be had."""
    present = jax.device_count()
    asked = present if config.devices == "all" else int(config.devices)
    if asked > present:
        raise SeaError(f"--devices={asked} asks for more devices than the {present} present ({jax.default_backend()}).")
    if config.batch_size < asked:
        raise SeaError(f"--batch_size={config.batch_size} is smaller than the {asked} devices that would share it.")
    if config.parallel == "single" and asked > 1:
        raise SeaError(f"--parallel=single uses one device; leave --devices={config.devices} out or choose pmap.")
    if config.features == "host" and (asked > 1 or config.parallel == "pmap"):
        raise SeaError("--features=host is for one device under plain jit; several divide the features between them.")
    if jax.process_count() > 1 and asked != present:
        raise SeaError(f"{jax.process_count()} processes use all their {present} devices; give --devices=all.")
    return asked


def layout(config: Config) -> Layout:
    """The layout for these settings."""
    parts = device_count(config)
    several = config.parallel == "pmap" or (config.parallel == "auto" and parts > 1)
    mine = jax.local_device_count() if jax.process_count() > 1 else parts
    local = slice(jax.process_index() * mine, (jax.process_index() + 1) * mine)
    return Layout(parts, local, AXIS if several else None, MATMUL[config.precision])


def shapes_of(function: Callable, parts: int) -> Any:
    """Shapes of what `function()` returns on one of `parts` devices."""
    return jax.make_jaxpr(function, axis_env=[(AXIS, parts)], return_shape=True)()[1]


def differing(one, two) -> Any:
    """By leaf, whether its rows are divided over the devices: its shape for 1 part differs from that for 2."""
    return jax.tree.map(lambda a, b: a.shape != b.shape, one, two)


def divide(state, divided, layout: Layout):
    """State as this process's devices hold it, rows padded with zeros: `[rows, ..] -> [local parts, rows / parts, ..]`."""

    def leaf(x, rows):
        if layout.axis is None or not rows:
            return x
        x = np.asarray(x)
        x = np.pad(x, [(0, -x.shape[0] % layout.parts)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(layout.parts, -1, *x.shape[1:])[layout.local]

    return jax.tree.map(leaf, state, divided)


def undivide(state, divided, whole, layout: Layout):
    """The inverse, on the host of every process: padding cut off; `whole` has the undivided shapes."""

    def leaf(x, rows, like):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            return np.asarray(jax.random.key_data(x))
        return whole_rows(x, like.shape[0], layout) if rows else np.asarray(x)

    return jax.tree.map(leaf, state, divided, whole)


def host_shapes(whole):
    """Empty host arrays of what `undivide` returns."""

    def leaf(x):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x = jax.eval_shape(jax.random.key_data, x)
        return np.zeros(x.shape, x.dtype)  # not what memory held: orbax compares it

    return jax.tree.map(leaf, whole)


def axes_of(divided) -> Any:
    """pmap's axes: 0 for leaves whose rows are divided, None for replicated ones."""
    return jax.tree.map(lambda rows: 0 if rows else None, divided)


def flat_axes(axes, tree) -> list[int | None]:
    """The axis of each leaf of `tree`, of which `axes` is a prefix."""
    found = []
    jax.tree.map(
        lambda axis, part: found.extend([axis] * len(jax.tree.leaves(part))), axes, tree, is_leaf=lambda x: x is None
    )
    return found


@partial(jax.tree_util.register_dataclass, data_fields=["leaves"], meta_fields=["structure", "axes"])
@dataclasses.dataclass
class Half:
    """The leaves of a result that lie on one axis, with the structure of the whole.

    With several processes pmap cannot hash output axes that are a tree with dicts; those of two Halves it can.
    """

    leaves: list
    structure: Any
    axes: tuple


def on_devices(function: Callable, layout: Layout, in_axes, out_axes, donate: tuple[int, ...] = ()) -> Callable:
    """`function` compiled for the layout: plain jit on one device, pmap on several; products at its precision."""

    def precise(*arguments):
        with jax.default_matmul_precision(layout.precision):
            return function(*arguments)

    precise.__name__ = getattr(function, "__name__", None) or function.func.__name__  # what a trace calls it
    if layout.axis is None:
        return jax.jit(precise, donate_argnums=donate)

    def halves(*arguments):
        out = precise(*arguments)
        leaves, structure = jax.tree.flatten(out)
        axes = tuple(flat_axes(out_axes, out))
        return tuple(
            Half([x for x, a in zip(leaves, axes, strict=True) if a == axis], structure, axes) for axis in (0, None)
        )

    mapped = jax.pmap(halves, axis_name=layout.axis, in_axes=in_axes, out_axes=(0, None), donate_argnums=donate)

    def call(*arguments):
        divided, replicated = mapped(*arguments)
        left = {0: iter(divided.leaves), None: iter(replicated.leaves)}
        return jax.tree.unflatten(divided.structure, [next(left[axis]) for axis in divided.axes])

    return call


def place(tree, axes, layout: Layout):
    """Arrays moved to the devices once, so that no call moves them again."""
    if layout.axis is None:
        return jax.device_put(tree, jax.local_devices()[0])
    return on_devices(lambda x: x, layout, (axes,), axes)(tree)


def place_arguments(values: dict, layout: Layout) -> dict:
    """What every device has whole, where `place` put it; pmap spreads what the host gives, and cannot place that alone."""
    return jax.device_put(values, jax.local_devices()[0]) if layout.axis is None else values


def place_state(state, divided, layout: Layout):
    """An undivided state, or a part of one, on the devices."""
    return place(divide(state, divided, layout), axes_of(divided), layout)


def stack_local(shares: list, layout: Layout):
    """The shares of this process's devices side by side, `[...] -> [local parts, ...]`."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *shares[layout.local])


def place_ranking(shares: list[RankingData], layout: Layout) -> RankingData:
    """Each device's users on that device."""
    return jax.device_put(shares[0]) if layout.axis is None else place(stack_local(shares, layout), 0, layout)


def place_data(shares: list[Data], layout: Layout, features: str = "device") -> Data:
    """Each device's share on that device, one device's features on the host if `features` says so."""
    if layout.axis is None:
        if features == "device":
            return place(shares[0], datas.AXES, layout)
        memory = jax.sharding.SingleDeviceSharding(jax.local_devices()[0], memory_kind="pinned_host")
        data = place(shares[0]._replace(features={}), datas.AXES, layout)
        return data._replace(features=jax.device_put(shares[0].features, memory))
    whole = {name: getattr(shares[0], name) for name, axis in datas.AXES._asdict().items() if axis is None}
    divided = stack_local([share._replace(**dict.fromkeys(whole)) for share in shares], layout)
    return place(divided._replace(**whole), datas.AXES, layout)


class Programs(NamedTuple):
    """What the loop calls. Each takes and returns arrays as the devices hold them."""

    train_epoch: Callable  # (state, data) -> (state, losses)
    rank: Callable  # (params, data, ranking) -> sums of metrics by split, over all users
    embed: Callable  # (params, data) -> (user rows, item rows)
    baskets: Callable  # (params, data) -> what items give strangers, see Backbone; None where the backbone does not say
    separate: Callable  # (params, data) -> Separated by modality


def make_programs(model: Backbone, config: Config, divided, layout: Layout) -> Programs:
    """The compiled programs of a run; `divided` says which leaves of the state have their rows divided.

    Of `config` they know all but its arguments, which come with the data.
    """

    def given(data):
        own = with_arguments(config, data.arguments)
        return model.clone(config=own), own

    def train_epoch(state, data):
        model, config = given(data)
        return epoch(state, data, model=model, config=config, axis=layout.axis, divided=divided)

    def embed(params, data):
        model, config = given(data)
        return ranked_rows(model.apply({"params": params}, data), config)

    def baskets(params, data):
        return given(data)[0].apply({"params": params}, data).views.get("basket_items")

    def rank(params, data, ranking: RankingData):
        score = factors(*embed(params, data), model.num_items, layout.axis)
        return metric_sums(score, model.num_items, ranking, config.topk, layout.axis)

    def separate(params, data):
        return given(data)[0].apply({"params": params}, data).parts

    state, params = axes_of(divided), axes_of(divided.params)
    return Programs(
        train_epoch=on_devices(train_epoch, layout, (state, datas.AXES), (state, None), donate=(0,)),
        rank=on_devices(rank, layout, (params, datas.AXES, 0), None),
        embed=on_devices(embed, layout, (params, datas.AXES), 0),
        baskets=on_devices(baskets, layout, (params, datas.AXES), 0),
        separate=on_devices(separate, layout, (params, datas.AXES), 0),
    )


def whole_rows(rows, count: int, layout: Layout) -> np.ndarray:
    """Rows of all devices in one host array, `[parts, rows, ...] -> [count, ...]`."""
    if layout.axis is None:
        return np.asarray(rows)
    rows = hosts.all_rows(rows)
    return rows.reshape(-1, *rows.shape[2:])[:count]
