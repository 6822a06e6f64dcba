"""LGMRec: local graphs and global hyperedges."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sea_jax import axis as ax
from sea_jax import graph
from sea_jax.models.backbones.base import Backbone
from sea_jax.models.item_map import matmul
from sea_jax.models.layers import Dense, normalise, normalise_above, xavier_uniform
from sea_jax.models.separation import Representation
from sea_jax.propagation import light_gcn, power, product


class LGMRec(Backbone):
    """LGMRec (arXiv 2312.16400), as MMRec computes it. A: user-item graph; R01: users x items, 0 and 1; d: degrees.

    cge = mean of [U; I], A [U; I], ..., A^layers [U; I];
    f^m = X^m W^m, z^m = A^item_layers [R01 f^m / d; f^m]; local = cge + sum over m of unit(z^m);
    h_item^m = X^m V^m, h_user^m = R01 h_item^m; H = dropout(softmax((h + Gumbel noise) / 0.2)) over the hyperedges;
    r = items of cge, then lgmrec_hyper_layers times: l = H_item^T r, r = H_item l; G^m = [H_user l; r];
    final = local + lgmrec_alpha unit(sum over m of G^m).

    Drawn in each step: the noise, and which hyperedges of each node are kept (probability lgmrec_keep_rate). Ranking
    uses neither, where MMRec draws new noise at each evaluation and so ranks at random (that is what `noise` without
    masks gives).
    Own terms: `objective.hypergraph_contrast`, of G between modalities over all users and items, weighing
    --lgmrec_contrast_weight, and the norms of the batch's final rows, weighing --reg_weight.
    Against the paper: the noise at evaluation; the penalty is a norm over the batch. Beyond MMRec: any number of
    modalities, each earlier one against each later one in the contrast; with one alone there is none.

    With the separation, the modality representation that --split=representation splits is unit(z^m) of the items; with
    --split=input the item map stands before W^m, and the hyperedges still read the features.
    """

    def draw(self, key):
        config, noise, masks = self.config, {}, {}
        for number, (name, _) in enumerate(self.widths):
            for side, count in (("items", self.num_items), ("users", self.num_users)):
                own = jax.random.fold_in(key, 2 * number + (side == "users"))
                first, second = jax.random.split(own)
                shape = (count, config.lgmrec_hyperedges)
                noise[f"{name}_{side}"] = jax.random.gumbel(first, shape)
                masks[f"{name}_{side}"] = jax.random.bernoulli(second, config.lgmrec_keep_rate, shape)
        return {"gumbel_noise": noise, "dropout_mask": masks}

    @nn.compact
    def __call__(self, data, noise=None) -> Representation:
        """data: this device's share. Returns this device's users and items."""
        config, edges = self.config, self.config.lgmrec_hyperedges
        user = self.table("user_embedding_table", self.num_users, self.dim, xavier_uniform)
        item = self.table("item_embedding_table", self.num_items, self.dim, xavier_uniform)
        users = user.shape[0]
        with jax.named_scope("propagation"):
            cge = jnp.concatenate(light_gcn(data.adjacency, user, item, config.layers, self.axis))

        encoded = {name: self.encode(data, name, width, xavier_uniform, bias=False) for name, width in self.widths}
        hyper = []
        for name, width in self.widths:
            layer = Dense(width, edges, xavier_uniform, has_bias=False, name=f"{name}_hyperedge")
            hyper.append(matmul(self.features(data, name, width), layer.kernel))
        with jax.named_scope("modalities"):
            # One product with R01 sums the users' items over all these columns, and counts them.
            flat = jnp.concatenate([of.x for of in encoded.values()], axis=1)
            columns = jnp.concatenate([flat, *hyper, data.item_weights[:, None]], axis=1)
            padded = jnp.concatenate([jnp.zeros((users, columns.shape[1]), columns.dtype), columns])
            real = (data.edges < data.interactions.users.shape[0]).astype(columns.dtype)
            sums = product(graph.reweight(data.adjacency, real), padded, self.axis)[:users]
            z = jnp.concatenate([sums[:, : flat.shape[1]] / jnp.maximum(sums[:, -1:], 1), flat])
            z = power(data.adjacency, z, config.item_layers, self.axis)
            local = [normalise(x) for x in jnp.split(z, len(encoded), axis=1)]
            parts = {name: of.parts(x[users:]) for (name, of), x in zip(encoded.items(), local, strict=True)}

        nodes = {}
        with jax.named_scope("hypergraph"):
            for number, (name, _) in enumerate(self.widths):
                start = flat.shape[1] + number * edges
                of_user = self.incidence(f"{name}_users", sums[:, start : start + edges], self.num_users, noise)
                of_item = self.incidence(f"{name}_items", hyper[number], self.num_items, noise)
                of_item = of_item * data.item_weights[:, None]
                rows = cge[users:]
                for _ in range(config.lgmrec_hyper_layers):
                    latent = ax.psum(of_item.T @ rows, self.axis)
                    rows = of_item @ latent
                nodes[name] = jnp.concatenate([of_user @ latent, rows])
        final = cge + sum(local) + config.lgmrec_alpha * normalise_above(sum(nodes.values()))
        views = {
            "hyper_user": {name: x[:users] for name, x in nodes.items()},
            "hyper_item": {name: x[users:] for name, x in nodes.items()},
        }
        return self.represent(final[:users], final[users:], parts, **views)

    def incidence(self, name, logits, count, noise):
        """H: how much of each row each hyperedge takes."""
        if noise is not None:
            logits = logits + self.mine(noise["gumbel_noise"][name], count)
        found = jax.nn.softmax(logits / 0.2, axis=1)
        if noise is not None and "dropout_mask" in noise:
            mask = self.mine(noise["dropout_mask"][name], count).astype(found.dtype)
            found = found * mask / self.config.lgmrec_keep_rate
        return found
