"""VBPR: matrix factorisation with content."""

import flax.linen as nn
import jax.numpy as jnp

from sea_jax.models.backbones.base import Backbone
from sea_jax.models.item_map import matmul
from sea_jax.models.layers import Dense, table_init, xavier_uniform
from sea_jax.models.separation import Representation


class VBPR(Backbone):
    """VBPR (arXiv 1510.01784) over all modalities: score = <p_u, q_i> + <t_u, C_i>, C = [X^m over m] K + b.

    As MMRec computes it: a bias in the projection, and a penalty that is a norm over the batch's joined rows, by which K
    is penalised through its outputs only. Against the paper: no biases of items, unless --vbpr_biases (then one of each
    item and a linear one of its content, beta_i + <beta', x_i>; those of users and the global one cancel in a ranking).

    With the separation, each modality has an encoder of its own and C is their sum; the modality representation is its
    share of C.
    """

    def columns(self):
        found = {"id": slice(0, self.dim), "content": slice(self.dim, 2 * self.dim)}
        return found | ({"bias": slice(2 * self.dim, 2 * self.dim + 1)} if self.config.vbpr_biases else {})

    @nn.compact
    def __call__(self, data, noise=None) -> Representation:
        """data: this device's share. Returns this device's users and items."""
        user = self.table("user_embedding_table", self.num_users, 2 * self.dim, xavier_uniform)
        item = self.table("item_embedding_table", self.num_items, self.dim, xavier_uniform)
        parts = {}
        if self.separated:
            encoded = {name: self.encode(data, name, width) for name, width in self.widths}
            content = sum(of.x for of in encoded.values())
            parts = {name: of.parts(of.x) for name, of in encoded.items()}
        else:
            content = self.project(data, "feature_projection", self.dim, table_init)
        item = jnp.concatenate([item, content], axis=1)
        if self.config.vbpr_biases:
            bias = self.table("item_bias_table", self.num_items, 1, nn.initializers.zeros)
            visual = self.project(data, "content_bias", 1, nn.initializers.zeros)
            item = jnp.concatenate([item, bias + visual], axis=1)
            user = jnp.concatenate([user, jnp.ones_like(user[:, :1])], axis=1)
        return self.represent(user, item, parts)

    def project(self, data, name, outputs, init):
        """[X^m over m] K + b, without joining the features."""
        layer, start, total = Dense(sum(width for _, width in self.widths), outputs, init, name=name), 0, 0.0
        for modality, width in self.widths:
            total = total + matmul(self.features(data, modality, width), layer.kernel[start : start + width])
            start += width
        return total + layer.bias
