"""LightGCN: propagation on the user-item graph alone."""

import flax.linen as nn

from sea_jax.models.backbones.base import Backbone
from sea_jax.models.layers import xavier_uniform
from sea_jax.models.separation import Representation
from sea_jax.propagation import light_gcn, light_gcn_basket


class LightGCN(Backbone):
    """LightGCN (arXiv 2002.02126): [user; item] = mean over l = 0 .. layers of A^l [U; I].

    Loss: BPR + reg_weight (|U_u|_F + |I_p|_F + |I_n|_F) / rows, of the batch's rows of the tables, before propagation.
    As MMRec computes it: norms and not their squares. It reads no features and cannot carry the separation.
    """

    has_modalities = False

    @nn.compact
    def __call__(self, data, noise=None) -> Representation:
        """data: this device's share. Returns this device's users and items."""
        tables = {
            "user": self.table("user_embedding_table", self.num_users, self.dim, xavier_uniform),
            "item": self.table("item_embedding_table", self.num_items, self.dim, xavier_uniform),
        }
        propagated = light_gcn(data.adjacency, *tables.values(), self.config.layers, self.axis)
        basket = light_gcn_basket(data.adjacency, *tables.values(), self.config.layers, self.axis)
        return self.represent(*propagated, basket_items=basket, **tables)
