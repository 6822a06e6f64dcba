"""What training carries from step to step, and where it starts."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from sea_jax import data as datas
from sea_jax.arrays import Array
from sea_jax.bundle import Bundle
from sea_jax.config import Config
from sea_jax.data import Data, HostData
from sea_jax.models.backbones import BACKBONES, Backbone
from sea_jax.models.conditionals import GaussianConditional, merge
from sea_jax.models.separation import PART_WIDTH


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
    kind = BACKBONES[config.backbone]
    widths = bundle.widths if kind.has_modalities else ()
    return kind(bundle.num_users, bundle.num_items, widths, config, parts, axis)


def host_data(bundle: Bundle, config: Config) -> HostData:
    """The dataset's arrays on the host, with the graphs that the backbone asks for."""
    return datas.gather(bundle, config, BACKBONES[config.backbone].graphs(bundle, config))


def make_optimisers(config: Config) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Adam for the model and Adam for the conditional, as in the paper."""
    return optax.adam(config.learning_rate), optax.adam(config.club_learning_rate)


def init_state(
    model: Backbone, data: Data, config: Config, features: dict[str, Float[Array, "items d"]] | None = None
) -> TrainState:
    """The state before the first epoch, every number of it from the seed.

    Args:
      model: for one device.
      data: its data, or their shapes (`data.blank`).
      config: the settings.
      features: the raw features, where they are trained along (--train_features).
    """
    key, model_key, club_key = jax.random.split(jax.random.key(config.seed), 3)
    params = model.lazy_init(model_key, data).get("params", {})
    if config.train_features:
        params = params | {f"{name}_feature_table": jnp.asarray(features[name]) for name, _ in model.widths}
    club_params = GaussianConditional(PART_WIDTH).init(club_key, jnp.zeros((1, PART_WIDTH)))["params"]
    return start(params, club_params, key, config)


def start(params, club_params, key: Array, config: Config) -> TrainState:
    """The state at these parameters before the first epoch."""
    optimiser, club_optimiser = make_optimisers(config)
    moments = optimiser.init(params), club_optimiser.init(merge(club_params))
    return TrainState(params, moments[0], club_params, moments[1], key, jnp.zeros((), jnp.int32))
