"""MGCN: behaviour-guided purification of modalities, fused by the users' preferences."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sea_jax import adjacency
from sea_jax.models.backbones.base import Backbone
from sea_jax.models.layers import Dense, xavier_uniform
from sea_jax.models.separation import Representation
from sea_jax.propagation import light_gcn, power, product


class Query(nn.Module):
    """dense1(tanh(dense0(x))), dense1 without bias."""

    inputs: int
    outputs: int

    @nn.compact
    def __call__(self, x):
        hidden = jnp.tanh(Dense(self.inputs, self.inputs, name="dense0")(x))
        return Dense(self.inputs, self.outputs, has_bias=False, name="dense1")(hidden)


class MGCN(Backbone):
    """MGCN (arXiv 2308.03588), as MMRec computes it. I, U: tables; A, R: user-item graph and its upper right block.

    content = mean of [U; I], A [U; I], ..., A^layers [U; I];
    S^m: the cosines of each item's knn_k nearest items over the roots of both row sums;
    g^m = I * sigmoid(gate(X^m W + b)), h^m = (S^m)^item_layers g^m, E^m = [R h^m; h^m];
    C = sum over m of a^m E^m, a the softmax over m of query(E^m), one number a node, one query for all m;
    side = (sum over m of sigmoid(gate'(content)) * (E^m - C) + C) / (M + 1); final = content + side.

    Own terms: `objective.contrast_with_content`, between side and content of the batch's rows, weighing
    --mgcn_contrast_weight, and the squared final rows, weighing --reg_weight.
    Against the paper: the contrast is against the batch's rows and not all users or items; the penalty is on final rows
    and not on parameters, over the configured batch size. Beyond MMRec: any number of modalities, 3 being M + 1; with
    one, C is E^m and its preference has no effect.

    With the separation, the modality representation that --split=representation splits is h^m, the items' rows of E^m.
    """

    @staticmethod
    def graphs(bundle, config):
        return {
            f"{name}_item": adjacency.cosine_graph(bundle.neighbours[name], config.knn_k) for name in bundle.modalities
        }

    @nn.compact
    def __call__(self, data, noise=None) -> Representation:
        """data: this device's share. Returns this device's users and items."""
        user, item, content = content_of(self, data)
        items, parts = [], {}
        for name, width in self.widths:
            encoded = self.encode(data, name, width)
            h = item * nn.sigmoid(Dense(self.dim, self.dim, name=f"gate_{name}")(encoded.x))
            h = power(data.graphs[f"{name}_item"], h, self.config.item_layers, self.axis)
            items.append(h)
            parts[name] = encoded.parts(h)
        nodes = with_users(self, data, items)

        query = Query(self.dim, 1, name="query_common")
        weights = jax.nn.softmax(jnp.stack([query(x) for x in nodes]), axis=0)
        common = sum(weight * x for weight, x in zip(weights, nodes, strict=True))
        side = common
        for (name, _), x in zip(self.widths, nodes, strict=True):
            preference = nn.sigmoid(Dense(self.dim, self.dim, name=f"gate_{name}_preference")(content))
            side = side + preference * (x - common)
        return contrasted(self, content, side / (len(nodes) + 1), len(user), parts)


def content_of(model: Backbone, data):
    """(users' table, items' table, mean over layers of what the user-item graph makes of both); also of smore."""
    user = model.table("user_embedding_table", model.num_users, model.dim, xavier_uniform)
    item = model.table("item_embedding_table", model.num_items, model.dim, xavier_uniform)
    with jax.named_scope("propagation"):
        content = jnp.concatenate(light_gcn(data.adjacency, user, item, model.config.layers, model.axis))
    return user, item, content


def with_users(model: Backbone, data, items: list) -> list:
    """[R h; h] for each h of items, by one product over their columns side by side."""
    count = data.user_weights.shape[0]
    flat = jnp.concatenate(items, axis=1)
    padded = jnp.concatenate([jnp.zeros((count, flat.shape[1]), flat.dtype), flat])
    users = jnp.split(product(data.adjacency, padded, model.axis)[:count], len(items), axis=1)
    return [jnp.concatenate(pair) for pair in zip(users, items, strict=True)]


def contrasted(model: Backbone, content, side, users: int, parts) -> Representation:
    """content + side, both in view of `objective.contrast_with_content`."""
    final = content + side
    views = {"content_user": content[:users], "content_item": content[users:]}
    views |= {"side_user": side[:users], "side_item": side[users:]}
    return model.represent(final[:users], final[users:], parts, **views)
