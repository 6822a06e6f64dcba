"""The one place where ranking, separation, alignment and a backbone's own terms meet with their weights."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from sea_jax import axis as ax
from sea_jax import losses, own_terms
from sea_jax.arrays import Array
from sea_jax.batch import Batch, Draws, mean, padded, weights_of
from sea_jax.config import Config, modality_pairs
from sea_jax.data import Data
from sea_jax.models.layers import normalise
from sea_jax.models.separation import Representation, Separated
from sea_jax.sampling import Interactions

NEEDS_CONDITIONAL = ("club", "club_all_pairs", "l1out")  # separations whose q is fitted in every step


def objective(
    representation: Representation,
    batch: Batch,
    draws: Draws,
    conditional: Callable,
    data: Data,
    config: Config,
    axis: ax.Axis = None,
) -> tuple[Array, dict[str, Array]]:
    """L_rank + own terms + ureg * mean over m of L_separation^m + alpha * mean over pairs of L_alignment (paper, eq. of L).

    Args:
      representation: of this device's users and items.
      batch, draws: whole, the same on every device.
      conditional: y's mean and logvar given x: (n, 32) -> (n, 32), (n, 32).
      data: this device's share.
      config: the settings.
      axis: the device axis or None.
    Returns: this device's share of the total and of each named part, without its weight; summed over devices they are
      the values.
    """
    batch = padded(batch, axis)
    parts, total = {}, 0.0
    if config.backbone not in RANKED_BY_OWN_TERMS:
        total = RANKINGS[config.ranking_loss](representation, batch, draws, data, config, axis)
        parts[config.ranking_loss] = total
    for name, (weight, term) in OWN_TERMS[config.backbone](representation, batch, data, config, axis).items():
        parts[name] = term
        total = total + weight * term
    if config.separation != "none":
        terms = {
            f"{config.separation}_{name}": separation(
                separated, draws.permutations[name], conditional, weights_of(data, name), config, axis
            )
            for name, separated in representation.parts.items()
        }
        kind = "club" if config.separation.startswith("club") else config.separation
        parts |= terms | {kind: sum(terms.values()) / len(terms)}
        total = total + config.ureg * parts[kind]
    if config.alignment != "none" and len(representation.parts) > 1:
        pairs = modality_pairs(tuple(representation.parts), config.solosim_pairs)
        terms = [alignment(representation, pair, draws, data, config, axis) for pair in pairs]
        parts[config.alignment] = sum(terms) / len(terms)
        total = total + config.alpha * parts[config.alignment]
    return total, parts | {"total": total}


# Ranking: the positive's score against a negative's, or the user's direction against the directions of all items.


@jax.named_scope("bpr")
def bpr(representation: Representation, batch: Batch, draws: Draws, data: Data, config: Config, axis: ax.Axis) -> Array:
    """This device's share of BPR over the batch, a mean over each row's negatives."""
    user = ax.take_rows(representation.user, batch.users, axis)
    weights = ax.local_slice(batch.weights, axis)

    def score(items):
        return jnp.sum(user * ax.take_rows(representation.item, items, axis), axis=1)

    positive, negatives = score(batch.positives), [batch.negatives]
    if batch.further_negatives is not None:
        negatives += list(batch.further_negatives.T)
    found = [losses.bpr(positive, score(items), weights, base=config.bpr_base) for items in negatives]
    return mean(sum(total for total, _ in found), sum(count for _, count in found), axis)


@jax.named_scope("softmax")
def softmax(
    representation: Representation, batch: Batch, draws: Draws, data: Data, config: Config, axis: ax.Axis
) -> Array:
    """This device's share of the softmax ranking: Solosim of the batch's users against all items or those drawn.

    - log( exp(cos(u, i) / t) / sum over items j of exp(cos(u, j) / t) ), j not among the user's other training items
    where --ranking_masks_seen is set. Drawn rivals weigh 1 / their probability.

    Source: Wu et al. 2024 (arXiv 2201.02327), here over all items.
    """
    user = normalise(ax.take_rows(representation.user, batch.users, axis))
    item = normalise(representation.item)
    positives, weights = (ax.local_slice(column, axis) for column in (batch.positives, batch.weights))
    num_items = ax.psum(jnp.sum(data.item_weights), axis)
    rows = item.shape[0] * ax.size(axis)
    seen = seen_items(data.interactions, ax.local_slice(batch.users, axis)) if config.ranking_masks_seen else None
    if draws.rivals is None:
        found = losses.solosim(
            user, ax.gather_rows(item, axis), positives, weights,
            temperature=config.ranking_temperature,
            candidate_weights=None if axis is None else ax.gather_rows(data.item_weights, axis),
            left_out=seen, unit_rows=True,
        )  # fmt: skip
        return mean(*found, axis)
    count = draws.rivals.shape[0]
    drawn = jnp.pad(draws.rivals, (0, -count % ax.size(axis)))
    rivals = ax.gather_rows(ax.take_rows(item, drawn, axis), axis)[:count]
    place = jnp.full(rows + 1, -1, jnp.int32).at[draws.rivals].set(jnp.arange(count, dtype=jnp.int32))
    found = losses.solosim_sampled(
        user, ax.take_rows(item, batch.positives, axis), rivals,
        place[positives], weights,
        temperature=config.ranking_temperature, probability=count / num_items,
        left_out=None if seen is None else place[seen], unit_rows=True,
    )  # fmt: skip
    return mean(*found, axis)


def seen_items(interactions: Interactions, users: Int[Array, " n"]) -> Int[Array, "n e"]:
    """The training items of each user, -1 for padding."""
    start, end = interactions.starts[users], interactions.starts[users + 1]
    place = start[:, None] + jnp.arange(2 ** interactions.rounds.shape[0] - 1)  # at least as many as anybody has
    items = interactions.items[jnp.minimum(place, interactions.items.shape[0] - 1)]
    return jnp.where(place < end[:, None], items, -1)


# Each: (representation, batch, draws, data, config, axis) -> this device's share of the ranking's loss.
RANKINGS: dict[str, Callable] = {"bpr": bpr, "softmax": softmax}


def ranked_rows(representation: Representation, config: Config) -> tuple[Array, Array]:
    """The rows of users and items whose inner products rank; items of length 1 where the loss compares directions."""
    if config.ranking_loss == "softmax" and config.backbone not in RANKED_BY_OWN_TERMS:
        return representation.user, normalise(representation.item)
    return representation.user, representation.item


# SEA's terms: the separation of each modality, the alignment of each pair.


def orthogonal(parts, permutation, conditional, weights, axis):
    return mean(*losses.orthogonality(parts.generic, parts.unique, weights), axis)


def negative_l2(parts, permutation, conditional, weights, axis):
    return mean(*losses.negative_l2(parts.generic, parts.unique, weights), axis)


def club(parts, permutation, conditional, weights, axis):
    """Sampled CLUB halved and clamped, as SEA trains with it; the clamp is of the mean over all devices."""
    # Padding rows have no entry in the permutation; any row will do, they weigh nothing.
    index = jnp.minimum(ax.row_index(weights.shape[0], axis), permutation.shape[0] - 1)
    negative = ax.gather_rows(parts.unique, axis)[permutation[index]]
    both = weights * ax.gather_rows(weights, axis)[permutation[index]]  # the other item may lack the modality
    center, logvar = conditional(parts.generic)
    found = losses.club_sampled(center, logvar, parts.unique, negative, both)
    return jax.nn.relu(ax.psum(mean(*found, axis), axis) / 2) / ax.size(axis)


def club_all_pairs(parts, permutation, conditional, weights, axis):
    count, first, _ = ax.psum(losses.weighted_moments(parts.unique, weights), axis)
    middle = jax.lax.stop_gradient(first / count)  # a variance is made of squares about a place near the mean
    moments = ax.psum(losses.weighted_moments(parts.unique, weights, middle), axis)
    center, logvar = conditional(parts.generic)
    found = losses.club_all_pairs(center, logvar, parts.unique, weights, moments=moments, centre=middle)
    return mean(*found, axis)


def l1out(parts, permutation, conditional, weights, axis):
    center, logvar = conditional(parts.generic)
    index = ax.row_index(weights.shape[0], axis)
    others = (*(ax.gather_rows(x, axis) for x in (center, logvar, weights)), index)
    return mean(*losses.l1out(center, logvar, parts.unique, weights, others=others), axis)


# Each: (parts, permutation, conditional, weights, axis) -> this device's share of one modality's term.
SEPARATIONS: dict[str, Callable] = {
    "club": club,
    "club_all_pairs": club_all_pairs,
    "l1out": l1out,
    "orthogonal": orthogonal,
    "subtraction": orthogonal,  # the unique part is made by subtraction in the model
    "negative_l2": negative_l2,
}


@jax.named_scope("club")
def separation(parts: Separated, permutation, conditional, weights, config: Config, axis: ax.Axis) -> Array:
    """This device's share of one modality's separation term."""
    return SEPARATIONS[config.separation](parts, permutation, conditional, weights, axis)


class Pair(NamedTuple):
    """Two modalities' aligned rows and the weights that go with them, this device's items.

    anchors, candidates: (items, d), unit rows. weights: 1 where an item has both. anchor_weights, candidate_weights: 1
    where it has the one. draws: see Draws. num_items: of the whole dataset. padded: whether some candidates weigh nothing.
    """

    anchors: Float[Array, "items d"]
    candidates: Float[Array, "items d"]
    weights: Float[Array, " items"]
    anchor_weights: Float[Array, " items"]
    candidate_weights: Float[Array, " items"]
    draws: Draws
    num_items: Float[Array, ""]
    padded: bool


def cosine_alignment(pair: Pair, config: Config, axis: ax.Axis):
    return mean(*losses.cosine_alignment(pair.anchors, pair.candidates, pair.weights), axis)


def solosim(pair: Pair, config: Config, axis: ax.Axis):
    """One direction: anchors of this device's items against all candidates."""
    contrast = all_candidates if pair.draws.candidates is None else sampled_candidates
    return mean(*contrast(pair, config, axis), axis)


def infonce_symmetric(pair: Pair, config: Config, axis: ax.Axis):
    turned = pair._replace(
        anchors=pair.candidates, candidates=pair.anchors,
        anchor_weights=pair.candidate_weights, candidate_weights=pair.anchor_weights,
    )  # fmt: skip
    return (solosim(pair, config, axis) + solosim(turned, config, axis)) / 2


# Each: (pair, config, axis) -> this device's share of one pair's term.
ALIGNMENTS: dict[str, Callable] = {
    "solosim": solosim,
    "infonce_symmetric": infonce_symmetric,
    "cosine": cosine_alignment,
}


@jax.named_scope("solosim")
def alignment(
    representation: Representation, names: tuple[str, str], draws: Draws, data: Data, config: Config, axis: ax.Axis
) -> Array:
    """This device's share of one pair's alignment term."""
    anchors, candidates = (representation.parts[name].aligned for name in names)
    of_anchors, of_candidates = (weights_of(data, name) for name in names)
    both = of_anchors if data.present is None else of_anchors * of_candidates
    some_weigh_nothing = axis is not None or data.present is not None
    num_items = ax.psum(jnp.sum(data.item_weights), axis)
    pair = Pair(anchors, candidates, both, of_anchors, of_candidates, draws, num_items, some_weigh_nothing)
    return ALIGNMENTS[config.alignment](pair, config, axis)


def all_candidates(pair: Pair, config: Config, axis: ax.Axis):
    """Sum and count of Solosim of this device's anchors against every item."""
    return losses.solosim(
        pair.anchors,
        ax.gather_rows(pair.candidates, axis),
        ax.row_index(pair.weights.shape[0], axis),
        pair.weights,
        temperature=config.temperature,
        candidate_weights=ax.gather_rows(pair.candidate_weights, axis) if pair.padded else None,
        unit_rows=True,
    )


def sampled_candidates(pair: Pair, config: Config, axis: ax.Axis):
    """Sum and count of Solosim of this device's anchors against the items drawn; only their rows move."""
    draws, index = pair.draws, ax.row_index(pair.weights.shape[0], axis)
    count, rows = draws.candidates.shape[0], pair.weights.shape[0] * ax.size(axis)
    drawn = jnp.pad(draws.candidates, (0, -count % ax.size(axis)))
    candidates = ax.gather_rows(ax.take_rows(pair.candidates, drawn, axis), axis)[:count]
    of_drawn = None
    if pair.padded:
        of_drawn = ax.gather_rows(ax.take_rows(pair.candidate_weights[:, None], drawn, axis), axis)[:count, 0]
    place = jnp.full(rows, -1, jnp.int32).at[draws.candidates].set(jnp.arange(count, dtype=jnp.int32))
    return losses.solosim_sampled(
        pair.anchors,
        pair.candidates,
        candidates,
        place[index],
        pair.weights,
        temperature=config.temperature,
        probability=count / pair.num_items,
        candidate_weights=of_drawn,
        unit_rows=True,
    )


# Each: (representation, batch, data, config, axis) -> {name: (weight, this device's share of the term)}.
OWN_TERMS: dict[str, Callable] = {
    "sea": own_terms.no_terms,
    "mf": own_terms.embedding_norms,
    "lightgcn": own_terms.embedding_norms,
    "vbpr": own_terms.embedding_norms,
    "freedom": own_terms.bpr_by_modality,
    "bm3": own_terms.attraction,
    "pgl": own_terms.contrast_of_copies,
    "mgcn": own_terms.contrast_with_content,
    "lgmrec": own_terms.hypergraph_contrast,
    "smore": own_terms.contrast_with_content,
    "dragon": own_terms.dragon_penalties,
}
RANKED_BY_OWN_TERMS: tuple[str, ...] = ("bm3",)  # backbones whose own terms stand in for the ranking of pairs
