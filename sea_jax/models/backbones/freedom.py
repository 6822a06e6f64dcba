"""FREEDOM: a frozen item graph and a user-item graph thinned in each epoch."""

import flax.linen as nn
import jax

from sea_jax import adjacency
from sea_jax.data import item_weights
from sea_jax.models import thinning
from sea_jax.models.backbones.base import Backbone
from sea_jax.models.layers import xavier_uniform
from sea_jax.models.separation import Representation
from sea_jax.propagation import light_gcn, light_gcn_basket, power


class FREEDOM(Backbone):
    """FREEDOM (arXiv 2211.06924): LightGCN on a thinned graph, plus the items over a frozen graph of similar items.

    [user; G] = mean over l = 0 .. layers of A_kept^l [U; I]; item = G + S^item_layers I, S the fused item graph.
    A_kept: in each epoch int(n (1 - freedom_edge_dropout)) of the n training pairs, drawn in proportion to
    1 / sqrt(d_u d_i), with degrees counted among those kept; the whole A at evaluation.
    Loss: BPR(user, item) + reg_weight sum over m of BPR(user, C^m), C^m = X^m K^m + b^m: names bpr_MODALITY.

    As MMRec computes it. Against the paper: the features are trained along (the item graph stays), unless
    --notrain_features; the losses are means. Its 1e-7 beside the degrees is left out.
    The modality representation that SEA separates is C^m.
    """

    @staticmethod
    def graphs(bundle, config):
        return {"item": adjacency.fuse_neighbours(bundle.neighbours, config.knn_k, item_weights(bundle, config))}

    def for_epoch(self, key, data):
        pairs = data.interactions
        count = int(pairs.users.shape[0] * (1 - self.config.freedom_edge_dropout))
        return thinning.thinned(data, thinning.draw_pairs(key, pairs, count, self.num_items), self.num_items)

    @nn.compact
    def __call__(self, data, noise=None) -> Representation:
        """data: this device's share. Returns this device's users and items."""
        user = self.table("user_embedding_table", self.num_users, self.dim, xavier_uniform)
        item = self.table("item_embedding_table", self.num_items, self.dim, xavier_uniform)
        encoded = {name: self.encode(data, name, width) for name, width in self.widths}
        with jax.named_scope("propagation"):
            similar = power(data.graphs["item"], item, self.config.item_layers, self.axis)
            basket = light_gcn_basket(data.adjacency, user, item, self.config.layers, self.axis)
            user, item = light_gcn(data.adjacency, user, item, self.config.layers, self.axis)
        content = {name: of.x for name, of in encoded.items()}
        parts = {name: of.parts(of.x) for name, of in encoded.items()}
        return self.represent(user, item + similar, parts, content=content, basket_items=basket)
