"""The epoch, the embeddings and the ranking under jit on one device or pmap on several, behind one signature.

pmap is implemented as jit of shard_map today. The day it goes, `several` becomes shard_map over a mesh with one
axis named AXIS, the leading device axis of divided leaves becomes a sharding, and nothing else changes.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.training.state import Data, init_state, make_model
from sea_jax.training.step import epoch, is_divided

AXIS = "devices"


class Layout(NamedTuple):
    """Where arrays live: how many devices, and the shapes of the undivided state."""

    parts: int
    axis: str | None
    whole: Any


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
    return asked


def layout(config: Config, model, data: Data) -> Layout:
    """The layout for these settings; `model` and `data` are the undivided ones."""
    parts = device_count(config)
    several = config.parallel == "pmap" or (config.parallel == "auto" and parts > 1)
    whole = jax.eval_shape(partial(init_state, model, config=config), data)
    return Layout(parts, AXIS if several else None, whole)


def divide(state, layout: Layout):
    """State as the devices hold it: rows of divided leaves padded with zeros, `[rows, ..] -> [parts, rows / parts, ..]`."""

    def leaf(path, x):
        if layout.axis is None or not is_divided(path):
            return x
        x = np.asarray(x)
        x = np.pad(x, [(0, -x.shape[0] % layout.parts)] + [(0, 0)] * (x.ndim - 1))
        return x.reshape(layout.parts, -1, *x.shape[1:])

    return jax.tree_util.tree_map_with_path(leaf, state)


def undivide(state, whole):
    """The inverse: padding cut off; `whole` has the undivided shapes."""

    def leaf(path, x, like):
        if x.shape == like.shape:
            return x
        return np.asarray(x).reshape(-1, *x.shape[2:])[: like.shape[0]]

    return jax.tree_util.tree_map_with_path(leaf, state, whole)


def axes_of(state) -> Any:
    """pmap's axes of a state or a part of it: 0 for divided leaves, None for replicated ones."""
    return jax.tree_util.tree_map_with_path(lambda path, _: 0 if is_divided(path) else None, state)


DATA_AXES = Data(adjacency=0, item_graph=0, features=0, item_weights=0, interactions=None)


def on_devices(function: Callable, layout: Layout, in_axes, out_axes, donate: tuple[int, ...] = ()) -> Callable:
    """`function` compiled for the layout: plain jit on one device, pmap on several."""
    if layout.axis is None:
        return jax.jit(function, donate_argnums=donate)
    return jax.pmap(function, axis_name=layout.axis, in_axes=in_axes, out_axes=out_axes, donate_argnums=donate)


def place(tree, axes, layout: Layout):
    """Arrays moved to the devices once, so that no call moves them again."""
    if layout.axis is None:
        return jax.device_put(tree)
    return jax.pmap(lambda x: x, axis_name=layout.axis, in_axes=(axes,), out_axes=axes)(tree)


def place_state(state, layout: Layout):
    """An undivided state, or a part of one, on the devices."""
    return place(divide(state, layout), axes_of(state), layout)


def place_data(shares: list[Data], layout: Layout) -> Data:
    """Each device's share on its device; the training interactions on all."""
    if layout.axis is None:
        return jax.device_put(shares[0])
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *shares)
    return place(stacked._replace(interactions=shares[0].interactions), DATA_AXES, layout)


class Programs(NamedTuple):
    """What the loop calls. Each takes and returns arrays as the devices hold them."""

    train_epoch: Callable  # (state, data) -> (state, losses)
    embed: Callable  # (params, data) -> (user rows, item rows)
    separate: Callable  # (params, data) -> Separated by modality


def make_programs(bundle, config: Config, layout: Layout) -> Programs:
    """The compiled programs of a run."""
    model = make_model(bundle, config, layout.parts, layout.axis)

    def embed(params, data):
        representation = model.apply({"params": params}, data)
        return representation.user, representation.item

    def separate(params, data):
        return model.apply({"params": params}, data).parts

    state_axes, params_axes = axes_of(layout.whole), axes_of(layout.whole.params)
    return Programs(
        train_epoch=on_devices(
            partial(epoch, model=model, config=config, axis=layout.axis),
            layout,
            (state_axes, DATA_AXES),
            (state_axes, None),
            donate=(0,),
        ),
        embed=on_devices(embed, layout, (params_axes, DATA_AXES), 0),
        separate=on_devices(separate, layout, (params_axes, DATA_AXES), 0),
    )


def whole_rows(rows, count: int) -> np.ndarray:
    """Rows of all devices in one host array, `[parts, rows, d] -> [count, d]`."""
    rows = np.asarray(rows, np.float32)
    return rows.reshape(-1, rows.shape[-1])[:count]
