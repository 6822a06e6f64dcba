"""SEA's own graph network."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sea_jax import adjacency
from sea_jax import axis as ax
from sea_jax.data import item_weights
from sea_jax.models.backbones.base import Backbone, softmax_init
from sea_jax.models.layers import normalise
from sea_jax.models.separation import Representation
from sea_jax.propagation import propagate


class SEA(Backbone):
    """SEA (arXiv 2406.08270): propagation per modality, then over the fused item graph; carries the separation.

    H0^m = unit rows of [P^m ; MLP(Z^m)], Z^m the item map; H^m = H0 + A H0 + ... + A^layers H0, a sum;
    user = [w_u^m H_u^m over m], h = [H_i^m over m], item = h + S h + ... (item_layers times).
    The modality representation that --split=representation splits is H_i^m.
    """

    @staticmethod
    def graphs(bundle, config):
        return {"item": adjacency.fuse_neighbours(bundle.neighbours, config.knn_k, item_weights(bundle, config))}

    def columns(self):
        return self.columns_by_modality()

    @nn.compact
    def __call__(self, data, noise=None) -> Representation:
        """data: this device's share. Returns this device's users and items."""
        tables, encoded = [], {}
        for name, width in self.widths:
            encoded[name] = self.encode_split_input(data, name, width, (256, self.dim))
            tables.append(self.table(f"{name}_user_preference", self.num_users, self.dim))

        items = [of.x for of in encoded.values()]
        nodes = jnp.stack([jnp.concatenate(pair) for pair in zip(tables, items, strict=True)], axis=1)
        with jax.named_scope("propagation"):
            # The modalities share the graph: one product over their columns side by side.
            flat = normalise(nodes).reshape(nodes.shape[0], -1)
            users, layers = tables[0].shape[0], self.config.layers
            basket = (
                propagate(data.adjacency, flat, layers - 1, self.axis)[users:]
                if layers
                else jnp.zeros_like(flat[users:])
            )
            flat = propagate(data.adjacency, flat, layers, self.axis)
            user, item = flat[:users].reshape(users, -1, self.dim), flat[users:]
            enriched = propagate(data.graphs["item"], item, self.config.item_layers, self.axis)

        weight = self.param("user_modality_weight", softmax_init, (users, len(self.widths)))
        with jax.named_scope("separation"):
            halves = jnp.split(item, len(self.widths), axis=1)
            parts = {name: of.parts(x) for (name, of), x in zip(encoded.items(), halves, strict=True)}
        # A stranger weighs the modalities as users do on average.
        shares = ax.psum(data.user_weights @ weight, self.axis) / ax.psum(data.user_weights.sum(), self.axis)
        basket = basket * jnp.repeat(shares, self.dim)
        user = (user * weight[..., None]).reshape(users, -1)
        return self.represent(user, enriched, parts, basket_items=basket)
