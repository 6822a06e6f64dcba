"""PGL: learning on a principal part of the graph, with a contrast of dropped rows."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sea_jax import adjacency
from sea_jax.data import item_weights
from sea_jax.models import thinning
from sea_jax.models.backbones.base import Backbone
from sea_jax.models.layers import normalise, xavier_uniform
from sea_jax.models.separation import Representation
from sea_jax.propagation import light_gcn, light_gcn_basket, power


class PGL(Backbone):
    """PGL (AAAI 2025), its local way: each epoch learns on a part of the graph, all of it ranks.

    X = [unit(X^m K^m + b^m) over m]; [user; G] = mean over l = 0 .. layers of A_kept^l [[U^m over m]; X];
    item = G + S^item_layers X, S the fused item graph. A_kept: int(pgl_kept n) training pairs, drawn as FREEDOM's.
    Loss: BPR + reg_weight (nce(users) + nce(items)) / 2, nce(x) = InfoNCE at pgl_temperature between two copies of the
    batch's users (positive items), each with a share pgl_dropout of its entries zero; candidates are the batch's rows.

    As MMRec computes it; its configuration has reg_weight 0, by which the contrast is off. The paper's global way (a
    truncated SVD of the graph) is left out, and dropout's factor 1 / (1 - share), which no unit row sees.
    The modality representation that SEA separates is unit(X^m K^m + b^m).
    """

    @staticmethod
    def graphs(bundle, config):
        return {"item": adjacency.fuse_neighbours(bundle.neighbours, config.knn_k, item_weights(bundle, config))}

    def for_epoch(self, key, data):
        pairs = data.interactions
        count = int(pairs.users.shape[0] * self.config.pgl_kept)
        return thinning.thinned(data, thinning.draw_pairs(key, pairs, count, self.num_items), self.num_items)

    def draw(self, key):
        """Which entries of the batch's rows are kept in each copy."""
        shape, kept = (self.config.batch_size, self.dim * len(self.widths)), 1 - self.config.pgl_dropout
        names = ("users_view0", "users_view1", "items_view0", "items_view1")
        keys = jax.random.split(key, len(names))
        masks = {name: jax.random.bernoulli(key, kept, shape) for key, name in zip(keys, names, strict=True)}
        return {"dropout_mask": masks}

    def columns(self):
        return self.columns_by_modality()

    @nn.compact
    def __call__(self, data, noise=None) -> Representation:
        """data: this device's share. Returns this device's users and items."""
        tables = [self.table(f"user_{name}_table", self.num_users, self.dim, xavier_uniform) for name, _ in self.widths]
        encoded = {name: self.encode(data, name, width) for name, width in self.widths}
        units = {name: normalise(of.x) for name, of in encoded.items()}
        user, x = jnp.concatenate(tables, axis=1), jnp.concatenate(list(units.values()), axis=1)
        with jax.named_scope("propagation"):
            similar = power(data.graphs["item"], x, self.config.item_layers, self.axis)
            basket = light_gcn_basket(data.adjacency, user, x, self.config.layers, self.axis)
            user, item = light_gcn(data.adjacency, user, x, self.config.layers, self.axis)
        parts = {name: encoded[name].parts(unit) for name, unit in units.items()}
        return self.represent(user, item + similar, parts, basket_items=basket, **(noise or {}))
