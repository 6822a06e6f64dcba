"""What a training step reads (Data) and what it carries (TrainState)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from sea_jax import adjacency, graph
from sea_jax.bundle import Bundle
from sea_jax.config import Config
from sea_jax.models.backbones import BACKBONES, Backbone
from sea_jax.models.conditionals import GaussianConditional, merge
from sea_jax.models.separation import PART_WIDTH
from sea_jax.sampling import Interactions, interactions


class Data(NamedTuple):
    """What a step reads, one device's share of it (all of it on one device).

    adjacency: user-item graph. item_graph: fused nearest items. features: by modality (items, d_m).
    item_weights: (items,) 1, or 0 for padding. interactions: training interactions, whole on every device.
    """

    adjacency: graph.Matrix
    item_graph: graph.Matrix
    features: dict[str, Float[Array, "items d"]]
    item_weights: Float[Array, " items"]
    interactions: Interactions


class TrainState(NamedTuple):
    """Everything that training changes, in one pytree that is saved and restored whole.

    club_optimiser: of the merged conditional (models/conditionals.py), as the inner fit updates it.
    """

    params: Any
    optimiser: optax.OptState
    club_params: Any
    club_optimiser: optax.OptState
    key: Array
    epoch: Array


def make_model(bundle: Bundle, config: Config, parts: int = 1, axis: str | None = None) -> Backbone:
    """The backbone for this dataset, for one of `parts` devices."""
    widths = tuple((name, bundle.features[name].shape[1]) for name in bundle.modalities)
    return BACKBONES[config.backbone](
        num_users=bundle.num_users,
        num_items=bundle.num_items,
        widths=widths,
        dim=config.embedding_dim,
        layers=config.layers,
        split=config.split,
        subtraction=config.separation == "subtraction",
        parts=parts,
        axis=axis,
    )


def make_data(bundle: Bundle, config: Config, parts: int = 1) -> list[Data]:
    """The dataset for each of `parts` devices, its item graph fused as the settings say."""
    weights = adjacency.default_weights(bundle.modalities)
    if config.knn_weights:
        weights = dict(zip(bundle.modalities, config.knn_weights, strict=True))
    item_graph = adjacency.fuse_neighbours(bundle.neighbours, config.knn_k, weights)
    train = interactions(bundle.train, bundle.num_users)
    return divide_data(bundle.adjacency, item_graph, bundle.features, train, config, parts)


def divide_data(user_item, item_graph, features, train: Interactions, config: Config, parts: int = 1) -> list[Data]:
    """One Data per device, users and items padded to equal shares; padding has no edges and weighs nothing.

    Args:
      user_item: (U + I, U + I) normalised adjacency, users first, scipy CSR.
      item_graph: (I, I) scipy CSR.
      features: by modality (I, d_m).
      train: the training interactions.
      config: the settings.
      parts: number of devices.
    """
    num_items = item_graph.shape[0]
    num_users = user_item.shape[0] - num_items
    users, items = -(-num_users // parts), -(-num_items // parts)
    order = graph.bipartite_order(num_users, num_items, parts)
    user_item = graph.relabel(user_item, order, (users + items) * parts)
    item_graph = graph.relabel(item_graph, np.arange(num_items), items * parts)
    form = graph.resolve_propagation(config.propagation)
    dtype = jnp.bfloat16 if config.precision == "bfloat16" else np.float32

    def rows(array, part):
        share = array[part * items : (part + 1) * items]
        return np.pad(share, [(0, items - len(share))] + [(0, 0)] * (array.ndim - 1))

    return [
        Data(
            adjacency=user_item_rows,
            item_graph=item_rows,
            features={name: rows(x, part).astype(dtype) for name, x in features.items()},
            item_weights=rows(np.ones(num_items, np.float32), part),
            interactions=train,
        )
        for part, (user_item_rows, item_rows) in enumerate(
            zip(
                graph.divide(user_item, parts, form, symmetric=True),
                graph.divide(item_graph, parts, form, symmetric=False),
                strict=True,
            )
        )
    ]


def make_optimisers(config: Config) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Adam for the model and Adam for the conditional, as in the paper."""
    return optax.adam(config.learning_rate), optax.adam(config.club_learning_rate)


def init_state(model: Backbone, data: Data, config: Config) -> TrainState:
    """The state before the first epoch, every number of it from the seed."""
    key, model_key, club_key = jax.random.split(jax.random.key(config.seed), 3)
    params = jax.jit(model.init)(model_key, data)["params"]
    club_params = GaussianConditional(PART_WIDTH).init(club_key, jnp.zeros((1, PART_WIDTH)))["params"]
    return start(params, club_params, key, config)


def start(params, club_params, key: Array, config: Config) -> TrainState:
    """The state at these parameters before the first epoch."""
    optimiser, club_optimiser = make_optimisers(config)
    moments = optimiser.init(params), club_optimiser.init(merge(club_params))
    return TrainState(params, moments[0], club_params, moments[1], key, jnp.zeros((), jnp.int32))
