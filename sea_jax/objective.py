"""The one place where BPR, separation and alignment meet with their weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sea_jax import axis as ax
from sea_jax import losses
from sea_jax.config import Config, modality_pairs
from sea_jax.models.separation import Representation, Separated


class Batch(NamedTuple):
    """Training triples; every device holds the whole batch and works on its share.

    users, positives, negatives: (n,) int32. weights: (n,) float32, 0 for padding.
    """

    users: Int[Array, " n"]
    positives: Int[Array, " n"]
    negatives: Int[Array, " n"]
    weights: Float[Array, " n"]


class Draws(NamedTuple):
    """What a step draws besides the batch.

    permutations: by modality, (I,) int32, the CLUB negatives: row i is compared with row permutations[m][i].
    candidates: (n,) int32 distinct items that the alignment compares with, or None for all.
    """

    permutations: dict[str, Int[Array, " items"]]
    candidates: Int[Array, " n"] | None = None


def mean(total: Array, count: Array, axis: ax.Axis) -> Array:
    """This device's share of a mean over the rows of all devices."""
    return total / ax.psum(count, axis)


def objective(
    representation: Representation,
    batch: Batch,
    draws: Draws,
    conditional,
    item_weights: Float[Array, " items"],
    config: Config,
    axis: ax.Axis = None,
) -> tuple[Array, dict[str, Array]]:
    """L_bpr + ureg * mean over m of L_separation^m + alpha * mean over pairs of L_alignment (paper, eq. of L).

    Args:
      representation: of this device's users and items.
      batch, draws: whole, the same on every device.
      conditional: y's mean and logvar given x: (n, 32) -> (n, 32), (n, 32).
      item_weights: 1 for an item, 0 for padding.
      config: the settings.
      axis: the device axis or None.
    Returns: this device's share of the total and of each named part; summed over devices they are the values.
    """
    parts = {"bpr": bpr(representation, batch, config, axis)}
    total = parts["bpr"]
    if config.separation != "none":
        terms = {
            f"{config.separation}_{name}": separation(
                separated, draws.permutations[name], conditional, item_weights, config, axis
            )
            for name, separated in representation.parts.items()
        }
        kind = "club" if config.separation.startswith("club") else config.separation
        parts |= terms | {kind: sum(terms.values()) / len(terms)}
        total = total + config.ureg * parts[kind]
    if config.alignment != "none" and len(representation.parts) > 1:
        pairs = modality_pairs(tuple(representation.parts), config.solosim_pairs)
        terms = [alignment(representation, pair, draws, item_weights, config, axis) for pair in pairs]
        parts[config.alignment] = sum(terms) / len(terms)
        total = total + config.alpha * parts[config.alignment]
    return total, parts | {"total": total}


@jax.named_scope("bpr")
def bpr(representation: Representation, batch: Batch, config: Config, axis: ax.Axis) -> Array:
    """This device's share of BPR over the batch."""
    padding = -batch.users.shape[0] % ax.size(axis)
    users, positives, negatives, weights = (jnp.pad(column, (0, padding)) for column in batch)
    user = ax.take_rows(representation.user, users, axis)
    positive = jnp.sum(user * ax.take_rows(representation.item, positives, axis), axis=1)
    negative = jnp.sum(user * ax.take_rows(representation.item, negatives, axis), axis=1)
    total, count = losses.bpr(positive, negative, ax.local_slice(weights, axis), base=config.bpr_base)
    return mean(total, count, axis)


@jax.named_scope("club")
def separation(parts: Separated, permutation, conditional, weights, config: Config, axis: ax.Axis) -> Array:
    """This device's share of one modality's separation term."""
    generic, unique = parts.generic, parts.unique
    if config.separation in ("orthogonal", "subtraction"):
        return mean(*losses.orthogonality(generic, unique, weights), axis)
    if config.separation == "negative_l2":
        return mean(*losses.negative_l2(generic, unique, weights), axis)
    center, logvar = conditional(generic)
    index = ax.row_index(weights.shape[0], axis)
    if config.separation == "club_all_pairs":
        count, first, _ = ax.psum(losses.weighted_moments(unique, weights), axis)
        middle = jax.lax.stop_gradient(first / count)  # a variance is made of squares about a place near the mean
        moments = ax.psum(losses.weighted_moments(unique, weights, middle), axis)
        found = losses.club_all_pairs(center, logvar, unique, weights, moments=moments, centre=middle)
    elif config.separation == "l1out":
        others = (*(ax.gather_rows(x, axis) for x in (center, logvar, weights)), index)
        found = losses.l1out(center, logvar, unique, weights, others=others)
    else:
        # Padding rows have no entry in the permutation; any row will do, they weigh nothing.
        negative = ax.gather_rows(unique, axis)[permutation[jnp.minimum(index, permutation.shape[0] - 1)]]
        found = losses.club_sampled(center, logvar, unique, negative, weights)
        # Halved and clamped, as SEA trains with it; the clamp is of the mean over all devices.
        return jax.nn.relu(ax.psum(mean(*found, axis), axis) / 2) / ax.size(axis)
    return mean(*found, axis)


@jax.named_scope("solosim")
def alignment(
    representation: Representation, pair: tuple[str, str], draws: Draws, weights, config: Config, axis: ax.Axis
) -> Array:
    """This device's share of one pair's alignment term, anchors of its own items against all candidates."""
    anchors, candidates = (representation.parts[name].aligned for name in pair)
    index = ax.row_index(weights.shape[0], axis)
    if config.alignment == "cosine":
        return mean(*losses.cosine_alignment(anchors, candidates, weights), axis)
    directions = [(anchors, candidates)]
    if config.alignment == "infonce_symmetric":
        directions.append((candidates, anchors))
    contrast = all_candidates if draws.candidates is None else sampled_candidates
    terms = [contrast(ours, theirs, draws, index, weights, config, axis) for ours, theirs in directions]
    return sum(mean(*term, axis) for term in terms) / len(terms)


def all_candidates(ours, theirs, draws: Draws, index, weights, config: Config, axis: ax.Axis):
    """Sum and count of Solosim of this device's anchors against every item."""
    return losses.solosim(
        ours,
        ax.gather_rows(theirs, axis),
        index,
        weights,
        temperature=config.temperature,
        candidate_weights=None if axis is None else ax.gather_rows(weights, axis),  # one device pads nothing
        unit_rows=True,
    )


def sampled_candidates(ours, theirs, draws: Draws, index, weights, config: Config, axis: ax.Axis):
    """Sum and count of Solosim of this device's anchors against the items drawn; only their rows move."""
    count, num_items = draws.candidates.shape[0], next(iter(draws.permutations.values())).shape[0]
    drawn = jnp.pad(draws.candidates, (0, -count % ax.size(axis)))
    candidates = ax.gather_rows(ax.take_rows(theirs, drawn, axis), axis)[:count]
    place = jnp.full(num_items, -1, jnp.int32).at[draws.candidates].set(jnp.arange(count, dtype=jnp.int32))
    return losses.solosim_sampled(
        ours,
        theirs,
        candidates,
        place[jnp.minimum(index, num_items - 1)],
        weights,
        temperature=config.temperature,
        probability=count / num_items,
        unit_rows=True,
    )
