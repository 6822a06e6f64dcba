"""One training step, and an epoch of them as one program."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from sea_jax import axis as ax
from sea_jax import losses, sampling
from sea_jax.arrays import Array
from sea_jax.config import Config, modality_pairs
from sea_jax.data import Data
from sea_jax.fitting import fit
from sea_jax.models.backbones import Backbone
from sea_jax.models.conditionals import GaussianConditional, gaussian_columns, merge, unmerge
from sea_jax.models.separation import PART_WIDTH, Separated
from sea_jax.objective import NEEDS_CONDITIONAL, Batch, Draws, objective, weights_of
from sea_jax.training.fit_kernel import nll_sum
from sea_jax.training.state import TrainState, make_optimisers


def fit_pairs(parts: dict[str, Separated], data: Data, config: Config) -> list[tuple[Array, Array, Array]]:
    """(x, y, weights) that the conditional is fitted on.

    within_modality: (generic_m, unique_m), the pairs that CLUB evaluates. across_modalities, as released:
    (generic_m, generic_m') and (unique_m, unique_m') of each Solosim pair, for which CLUB is no bound.
    """
    if config.club_fit_pairs == "within_modality":
        return [(part.generic, part.unique, weights_of(data, name)) for name, part in parts.items()]
    found = []
    for m, n in modality_pairs(tuple(parts), config.solosim_pairs):
        weights = weights_of(data, m) if data.present is None else weights_of(data, m) * weights_of(data, n)
        found += [(parts[m].generic, parts[n].generic, weights), (parts[m].unique, parts[n].unique, weights)]
    return found


def fit_conditional(state: TrainState, parts, data: Data, config: Config, axis: ax.Axis):
    """The inner loop: Adam steps that maximise the log-likelihood of q on this step's detached parts.

    Minimises the sum over pairs of the mean negative log-likelihood (without its constants).
    Returns: parameters, optimiser state, the objective before each inner step.
    """
    pairs = jax.lax.stop_gradient(fit_pairs(parts, data, config))
    x, y, weights = (jnp.concatenate(side) for side in zip(*pairs, strict=True))
    count = ax.psum(weights.sum(), axis) / len(pairs)
    if data.present is not None:  # pairs of unequal counts: each is a mean of its own rows
        counts = ax.psum(jnp.stack([of.sum() for _, _, of in pairs]), axis)
        weights = weights * jnp.repeat(count / jnp.maximum(counts, 1), len(x) // len(pairs))
    # Ones as one more column for the bias; as many samples as a GPU's products of tiles want, the last weighing nothing.
    padding = (0, -len(x) % 256)
    x = jnp.pad(x, (padding, (0, 1)), constant_values=1).T
    y, weights = jnp.pad(y, (padding, (0, 0))).T, jnp.pad(weights, padding)

    def share(merged):
        if config.club_fit == "kernel":
            return nll_sum(merged, x, y, weights) / count
        mean, logvar = gaussian_columns(merged, x)
        return losses.gaussian_nll(mean, logvar, y, weights, samples=1)[0] / count

    optimiser = make_optimisers(config)[1]
    merged, optimiser_state, fitted = fit(
        share, merge(state.club_params), optimiser, state.club_optimiser, config.club_steps, axis=axis
    )
    return unmerge(merged), optimiser_state, fitted


def loss_and_gradient(
    state: TrainState,
    data: Data,
    batch: Batch,
    draws: Draws,
    model: Backbone,
    config: Config,
    axis: ax.Axis = None,
    divided: Any = None,
):
    """((share of the total, (named parts, Representation)), gradient) at the state's parameters."""

    def conditional(x):
        return GaussianConditional(PART_WIDTH).apply({"params": state.club_params}, x)

    def loss(params):
        representation = model.apply({"params": params}, data, draws.noise)
        total, parts = objective(representation, batch, draws, conditional, data, config, axis)
        return total, (parts, representation)

    value, gradient = jax.value_and_grad(loss, has_aux=True)(state.params)
    if axis is not None:  # rows that are divided have their whole gradient already
        gradient = jax.tree.map(lambda leaf, rows: leaf if rows else ax.psum(leaf, axis), gradient, divided.params)
    return value, gradient


def step(
    state: TrainState,
    data: Data,
    batch: Batch,
    draws: Draws,
    *,
    model: Backbone,
    config: Config,
    axis: ax.Axis = None,
    divided: Any = None,
) -> tuple[TrainState, dict[str, Array], Array]:
    """One training step, in the released order: gradient, then the inner fit of q, then the model's Adam step.

    Args:
      state, data: one device's share.
      batch, draws: whole, the same on every device.
      model, config: static.
      axis: the device axis or None.
      divided: with an axis, a TrainState of bools: which leaves have their rows divided over the devices.
    Returns: the new state; the losses of all devices together; the inner objective (club_steps,).
    """
    (_, (parts, representation)), gradient = loss_and_gradient(state, data, batch, draws, model, config, axis, divided)
    club_params, club_state, fitted = state.club_params, state.club_optimiser, jnp.zeros((0,))
    if config.separation in NEEDS_CONDITIONAL:
        with jax.named_scope("club_fit"):
            club_params, club_state, fitted = fit_conditional(state, representation.parts, data, config, axis)
    with jax.named_scope("optimiser"):
        updates, optimiser = make_optimisers(config)[0].update(gradient, state.optimiser, state.params)
        params = optax.apply_updates(state.params, updates)
    state = state._replace(params=params, optimiser=optimiser, club_params=club_params, club_optimiser=club_state)
    return state, ax.psum(parts, axis), fitted


def draw(key: Array, model: Backbone, config: Config) -> Draws:
    """What a step draws besides its batch; the same on every number of devices."""
    modalities = tuple(name for name, _ in model.widths)
    permutations = sampling.permutations(key, len(modalities), model.num_items) if model.separated else ()
    candidates = None
    if 0 < config.solosim_candidates < model.num_items:
        own_key = jax.random.fold_in(key, len(modalities))
        candidates = sampling.permutations(own_key, 1, model.num_items)[0, : config.solosim_candidates]
    # fold_in repeats what split gives at the same number, so that the numbers from here on are further ones.
    noise = model.draw(jax.random.fold_in(key, len(modalities) + 1))
    rivals = None
    if config.ranking_loss == "softmax" and 0 < config.ranking_candidates < model.num_items:
        own_key = jax.random.fold_in(key, len(modalities) + 2)
        rivals = sampling.permutations(own_key, 1, model.num_items)[0, : config.ranking_candidates]
    return Draws(dict(zip(modalities, permutations, strict=False)), candidates, noise, rivals)


def draw_batch(key: Array, data: Data, config: Config, users, positives, weights) -> Batch:
    """The batch with its negatives."""
    further = None
    if config.negatives > 1:
        keys = [jax.random.fold_in(key, number) for number in range(1, config.negatives)]
        further = jnp.stack([sampling.sample_negatives(one, data.interactions, users) for one in keys], axis=1)
    return Batch(users, positives, sampling.sample_negatives(key, data.interactions, users), weights, further)


def epoch(
    state: TrainState, data: Data, *, model: Backbone, config: Config, axis: ax.Axis = None, divided: Any = None
) -> tuple[TrainState, dict[str, Array]]:
    """All steps of one epoch as one program: shuffle, draw, train.

    Returns: the new state; the mean over steps of each loss.
    """
    key = jax.random.fold_in(state.key, state.epoch)
    shuffle_key, step_key = jax.random.split(key)
    data = model.for_epoch(jax.random.fold_in(key, 2), data)
    batches = sampling.epoch_batches(shuffle_key, data.interactions, config.batch_size)

    def body(state, inputs):
        number, (users, positives, weights) = inputs
        negative_key, draw_key = jax.random.split(jax.random.fold_in(step_key, number))
        draws = draw(draw_key, model, config)
        batch = draw_batch(negative_key, data, config, users, positives, weights)
        state, parts, _ = step(state, data, batch, draws, model=model, config=config, axis=axis, divided=divided)
        return state, parts

    columns = (batches["users"], batches["positives"], batches["weights"])
    numbers = jnp.arange(columns[0].shape[0])
    state, parts = jax.lax.scan(body, state, (numbers, columns))
    return state._replace(epoch=state.epoch + 1), jax.tree.map(jnp.mean, parts)
