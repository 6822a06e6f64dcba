"""What backbones add to the loss: each function gives {name: (weight, this device's share of the term)}."""

import jax.numpy as jnp
from jaxtyping import Float

from sea_jax import axis as ax
from sea_jax import losses
from sea_jax.arrays import Array
from sea_jax.batch import Batch, mean, weights_of
from sea_jax.data import Data
from sea_jax.models.layers import normalise, normalise_above


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


def batch_contrast(anchors, candidates, batch: Batch, temperature: float | Array, axis: ax.Axis) -> Array:
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
