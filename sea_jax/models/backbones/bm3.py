"""BM3: self-supervision by dropout, without negatives."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sea_jax.models.backbones.base import Backbone
from sea_jax.models.layers import Dense, table_init, xavier_uniform
from sea_jax.models.separation import Representation
from sea_jax.propagation import light_gcn


class BM3(Backbone):
    """BM3 (arXiv 2207.05969): users and items attract each other's targets, made by dropout without a gradient.

    [G_u; G_i] = mean over l = 0 .. layers of A^l [U; I]; h_u = G_u, h_i = G_i + I; h_m = X^m K^m + b^m. One affine map q
    for all. drop(x) = stop-gradient of x with a share bm3_dropout of its entries zero, one mask a step for each whole
    table. c(x, y) = 1 - the mean cosine over the batch's rows. user, item = q(h_u), q(h_i), in ranking too.
    Loss: c(q(h_u), drop(h_i)) + c(q(h_i), drop(h_u)) + bm3_contrast_weight sum over m of [c(q(h_m), drop(h_i)) +
    c(q(h_m), drop(h_m))] + reg_weight (|h_u|_F + |h_i|_F) / items, over all users and items. Negatives are not used.

    As MMRec computes it. Against the paper: the weight of the modalities' four terms; norms over the item count and
    not their squares; the features are trained along unless --notrain_features. Dropout's factor 1 / (1 - share), which
    no cosine sees, is left out.
    The modality representation that SEA separates is h_m.
    """

    def draw(self, key):
        """Which entries of each target are kept."""
        rows = {"user": self.num_users, "item": self.num_items} | {name: self.num_items for name, _ in self.widths}
        keys = jax.random.split(key, len(rows))
        kept = 1 - self.config.bm3_dropout
        masks = {
            f"{name}_target": jax.random.bernoulli(key, kept, (count, self.dim))
            for key, (name, count) in zip(keys, rows.items(), strict=True)
        }
        return {"dropout_mask": masks}

    @nn.compact
    def __call__(self, data, noise=None) -> Representation:
        """data: this device's share. Returns this device's users and items."""
        user = self.table("user_embedding_table", self.num_users, self.dim, xavier_uniform)
        item = self.table("item_embedding_table", self.num_items, self.dim, xavier_uniform)
        encoded = {name: self.encode(data, name, width, table_init) for name, width in self.widths}
        with jax.named_scope("propagation"):
            user, propagated = light_gcn(data.adjacency, user, item, self.config.layers, self.axis)
        item = propagated + item
        predictor = Dense(self.dim, self.dim, table_init, name="predictor")
        parts = {name: of.parts(of.x) for name, of in encoded.items()}
        views = {}
        if noise is not None:
            online = {name: predictor(of.x) for name, of in encoded.items()}
            plain = {"user": user, "item": item} | {name: of.x for name, of in encoded.items()}
            targets = {name: self.dropped(x, noise["dropout_mask"][f"{name}_target"]) for name, x in plain.items()}
            views = {"propagated": (user, item), "online": online, "targets": targets}
        return self.represent(predictor(user), predictor(item), parts, **views)

    def dropped(self, x, mask):
        """A target: this device's rows with some entries zero, constant."""
        return jnp.where(self.mine(mask, mask.shape[0]), jax.lax.stop_gradient(x), 0.0)
