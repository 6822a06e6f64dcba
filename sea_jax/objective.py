"""The one place where ranking, separation, alignment and a backbone's own terms meet with their weights."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from sea_jax import axis as ax
from sea_jax import losses
from sea_jax.config import Config, modality_pairs
from sea_jax.data import Data
from sea_jax.models.layers import normalise, normalise_above
from sea_jax.models.separation import Representation, Separated

NEEDS_CONDITIONAL = ("club", "club_all_pairs", "l1out")  # separations whose q is fitted in every step


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
    candidates: (n,) int32 distinct items that the alignment compares with, or None for all. noise: the backbone's own.
    """

    permutations: dict[str, Int[Array, " items"]]
    candidates: Int[Array, " n"] | None = None
    noise: Any = None


def mean(total: Array, count: Array, axis: ax.Axis) -> Array:
    """This device's share of a mean over the rows of all devices."""
    return total / ax.psum(count, axis)


def weights_of(data: Data, name: str) -> Float[Array, " items"]:
    """1 for an item that has the modality, 0 for one that lacks it and for padding."""
    return data.item_weights if data.present is None else data.item_weights * data.present[name]


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
        parts["bpr"] = bpr(representation, batch, config, axis)
        total = parts["bpr"]
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


def padded(batch: Batch, axis: ax.Axis) -> Batch:
    """The batch with as many rows as divide evenly over the devices, the further ones weighing nothing."""
    padding = -batch.users.shape[0] % ax.size(axis)
    return Batch(*(jnp.pad(column, (0, padding)) for column in batch))


# Ranking: the score of the positive against that of the negative.


@jax.named_scope("bpr")
def bpr(representation: Representation, batch: Batch, config: Config, axis: ax.Axis) -> Array:
    """This device's share of BPR over the batch."""
    return bpr_of(representation.user, representation.item, batch, config, axis)


def bpr_of(users, items, batch: Batch, config: Config, axis: ax.Axis) -> Array:
    """This device's share of BPR over the batch, of any tables of users and items of one width."""
    user = ax.take_rows(users, batch.users, axis)
    positive = jnp.sum(user * ax.take_rows(items, batch.positives, axis), axis=1)
    negative = jnp.sum(user * ax.take_rows(items, batch.negatives, axis), axis=1)
    total, count = losses.bpr(positive, negative, ax.local_slice(batch.weights, axis), base=config.bpr_base)
    return mean(total, count, axis)


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
    where it has the one. drawn: see Draws. padded: whether some candidates weigh nothing.
    """

    anchors: Float[Array, "items d"]
    candidates: Float[Array, "items d"]
    weights: Float[Array, " items"]
    anchor_weights: Float[Array, " items"]
    candidate_weights: Float[Array, " items"]
    draws: Draws
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
    pair = Pair(anchors, candidates, both, of_anchors, of_candidates, draws, some_weigh_nothing)
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
    count, num_items = draws.candidates.shape[0], next(iter(draws.permutations.values())).shape[0]
    drawn = jnp.pad(draws.candidates, (0, -count % ax.size(axis)))
    candidates = ax.gather_rows(ax.take_rows(pair.candidates, drawn, axis), axis)[:count]
    place = jnp.full(num_items, -1, jnp.int32).at[draws.candidates].set(jnp.arange(count, dtype=jnp.int32))
    return losses.solosim_sampled(
        pair.anchors,
        pair.candidates,
        candidates,
        place[jnp.minimum(index, num_items - 1)],
        pair.weights,
        temperature=config.temperature,
        probability=count / num_items,
        unit_rows=True,
    )


# The backbones' own terms.


def no_terms(representation, batch, data, config, axis):
    """A backbone that is trained by the ranking alone."""
    return {}


def frobenius_norm(total: Array) -> Array:
    """The root of a sum of squares, with gradient 0 where that is 0."""
    return jnp.where(total > 0, jnp.sqrt(jnp.where(total > 0, total, 1.0)), 0.0)


def embedding_norms(representation, batch, data, config, axis):
    """reg = (|users| + |positives| + |negatives|) / rows: Frobenius norms of the batch's rows, repeats counted.

    Of the final rows, or of the tables that the backbone shows as views "user" and "item".
    """
    users = representation.views.get("user", representation.user)
    items = representation.views.get("item", representation.item)
    weights = ax.local_slice(batch.weights, axis)
    norms = [
        frobenius_norm(ax.psum(jnp.sum(ax.take_rows(table, index, axis) ** 2 * weights[:, None]), axis))
        for table, index in ((users, batch.users), (items, batch.positives), (items, batch.negatives))
    ]
    return {"reg": (config.reg_weight, mean(sum(norms), jnp.sum(weights), axis) / ax.size(axis))}


def batch_contrast(anchors, candidates, batch: Batch, temperature: float, axis: ax.Axis) -> Array:
    """This device's share of the mean over the batch's rows of InfoNCE, the candidates being the batch's rows.

    Args:
      anchors, candidates: this device's rows of the batch, of any length; they are made unit rows here.
    """
    weights = batch.weights
    index = ax.row_index(anchors.shape[0], axis)
    found = losses.solosim(
        normalise(anchors),
        ax.gather_rows(normalise(candidates), axis),
        index,
        weights[index],
        temperature=temperature,
        candidate_weights=weights,
        unit_rows=True,
    )
    return mean(*found, axis)


def having(batch: Batch, items, data: Data, name: str, axis: ax.Axis) -> Float[Array, " rows"]:
    """Weights of this device's rows of the batch, 0 for those whose item lacks the modality."""
    weights = ax.local_slice(batch.weights, axis)
    if data.present is None:
        return weights
    return weights * ax.take_rows(data.present[name][:, None], items, axis)[:, 0]


def bpr_by_modality(representation, batch, data, config, axis):
    """FREEDOM's: bpr_MODALITY, BPR of the final users with each modality's content."""
    user = ax.take_rows(representation.user, batch.users, axis)
    terms = {}
    for name, content in representation.views["content"].items():
        positive, negative = (ax.take_rows(content, index, axis) for index in (batch.positives, batch.negatives))
        weights = having(batch, batch.positives, data, name, axis)
        if data.present is not None:
            weights = weights * having(batch, batch.negatives, data, name, axis)
        scores = [jnp.sum(user * x, axis=1) for x in (positive, negative)]
        total, count = losses.bpr(*scores, weights, base=config.bpr_base)
        terms[f"bpr_{name}"] = config.reg_weight, total / jnp.maximum(ax.psum(count, axis), 1.0)
    return terms


def attraction(representation, batch, data, config, axis):
    """BM3's: user_to_item, item_to_user, MODALITY_to_item, MODALITY_to_MODALITY, reg."""
    online, targets = representation.views["online"], representation.views["targets"]
    plain = ax.local_slice(batch.weights, axis)

    def apart(anchors, of_anchors, target, of_target, weights=plain):
        a, b = ax.take_rows(anchors, of_anchors, axis), ax.take_rows(targets[target], of_target, axis)
        total, count = losses.cosine_alignment(a, b, weights)
        return total / jnp.maximum(ax.psum(count, axis), 1.0)

    users, items = batch.users, batch.positives
    terms = {
        "user_to_item": (1.0, apart(representation.user, users, "item", items)),
        "item_to_user": (1.0, apart(representation.item, items, "user", users)),
    }
    for name, x in online.items():
        weights = having(batch, items, data, name, axis)
        for target in ("item", name):
            term = apart(x, items, target, items, weights)
            terms[f"{name}_to_{target}"] = config.bm3_contrast_weight, term
    weights = data.user_weights, data.item_weights
    squares = [jnp.sum(w[:, None] * x**2) for w, x in zip(weights, representation.views["propagated"], strict=True)]
    norms = sum(frobenius_norm(ax.psum(total, axis)) for total in squares) / ax.size(axis)
    terms["reg"] = config.reg_weight, mean(norms, jnp.sum(data.item_weights), axis)
    return terms


def contrast_of_copies(representation, batch, data, config, axis):
    """PGL's: contrast_users, contrast_items, InfoNCE between two dropped copies of the batch's rows."""
    masks, terms = representation.views["dropout_mask"], {}
    for name, table, index in (
        ("users", representation.user, batch.users),
        ("items", representation.item, batch.positives),
    ):
        rows = ax.take_rows(table, index, axis)
        copies = []
        for view in ("view0", "view1"):
            mask = masks[f"{name}_{view}"]
            mask = jnp.pad(mask, [(0, index.shape[0] - mask.shape[0]), (0, 0)])
            copies.append(jnp.where(ax.local_slice(mask, axis), rows, 0.0))
        terms[f"contrast_{name}"] = config.reg_weight / 2, batch_contrast(*copies, batch, config.pgl_temperature, axis)
    return terms


def contrast_with_content(representation, batch, data, config, axis):
    """MGCN's and SMORE's: contrast_items, contrast_users, InfoNCE of the batch's side rows against its content rows,
    temperature 0.2; reg = (|u|^2 + |p|^2 + |n|^2) / 2 / batch_size, of the batch's final rows.
    """
    views, weights = representation.views, ax.local_slice(batch.weights, axis)
    user, item, squares = representation.user, representation.item, 0.0
    for table, index in ((user, batch.users), (item, batch.positives), (item, batch.negatives)):
        squares = squares + jnp.sum(ax.take_rows(table, index, axis) ** 2 * weights[:, None])
    terms = {"reg": (config.reg_weight, squares / 2 / config.batch_size)}
    for name, of, index in (("contrast_items", "item", batch.positives), ("contrast_users", "user", batch.users)):
        rows = (ax.take_rows(views[f"{part}_{of}"], index, axis) for part in ("side", "content"))
        weight = getattr(config, f"{config.backbone}_contrast_weight")
        terms[name] = weight, batch_contrast(*rows, batch, 0.2, axis)
    return terms


def hypergraph_contrast(representation, batch, data, config, axis):
    """LGMRec's: contrast_users, contrast_items, sums over the batch of InfoNCE between modalities, each earlier one's
    row of the hypergraph against every later one's of all users (items), temperature 0.2; reg as `embedding_norms`.
    """
    terms, views = {}, representation.views
    sides = ("user", batch.users, data.user_weights), ("item", batch.positives, data.item_weights)
    for side, index, of_all in sides:
        rows = {name: normalise_above(x) for name, x in views[f"hyper_{side}"].items()}
        pairs = [(earlier, later) for n, later in enumerate(rows) for earlier in list(rows)[:n]]
        total = 0.0
        for anchor, other in pairs:
            weights, candidates = ax.local_slice(batch.weights, axis), of_all
            if side == "item":  # an item that lacks one of the two has nothing to compare
                weights = having(batch, index, data, anchor, axis) * having(batch, index, data, other, axis)
                candidates = weights_of(data, other)
            total += losses.solosim(
                ax.take_rows(rows[anchor], index, axis), ax.gather_rows(rows[other], axis),
                ax.local_slice(index, axis), weights, candidate_weights=ax.gather_rows(candidates, axis),
                temperature=0.2, unit_rows=True,
            )[0]  # fmt: skip
        if pairs:
            terms[f"contrast_{side}s"] = config.lgmrec_contrast_weight, total
    return terms | embedding_norms(representation, batch, data, config, axis)


def dragon_penalties(representation, batch, data, config, axis):
    """DRAGON's: reg_MODALITY, mean square of the batch users' preferences; reg_user_weight, of all users' weights."""
    weights, of_users, terms = ax.local_slice(batch.weights, axis), data.user_weights, {}
    for name, table in representation.views["user_preferences"].items():
        squares = ax.take_rows(table, batch.users, axis) ** 2
        terms[f"reg_{name}"] = mean(weights @ jnp.mean(squares, axis=1), jnp.sum(weights), axis)
    squares = representation.views["user_modality_weight"] ** 2  # [users, modalities, 1]
    terms["reg_user_weight"] = mean(of_users @ jnp.mean(squares, axis=(1, 2)), jnp.sum(of_users), axis)
    return {name: (config.reg_weight, term) for name, term in terms.items()}


# Each: (representation, batch, data, config, axis) -> {name: (weight, this device's share of the term)}.
OWN_TERMS: dict[str, Callable] = {
    "sea": no_terms,
    "mf": embedding_norms,
    "lightgcn": embedding_norms,
    "vbpr": embedding_norms,
    "freedom": bpr_by_modality,
    "bm3": attraction,
    "pgl": contrast_of_copies,
    "mgcn": contrast_with_content,
    "lgmrec": hypergraph_contrast,
    "smore": contrast_with_content,
    "dragon": dragon_penalties,
}
RANKED_BY_OWN_TERMS: tuple[str, ...] = ("bm3",)  # backbones whose own terms stand in for the ranking of pairs
