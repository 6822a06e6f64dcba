"""SMORE: modalities filtered and fused in the spectral domain."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from sea_jax import adjacency
from sea_jax.errors import SeaError
from sea_jax.models.backbones.base import Backbone
from sea_jax.models.backbones.mgcn import Query, content_of, contrasted, with_users
from sea_jax.models.layers import Dense
from sea_jax.models.separation import Representation
from sea_jax.propagation import power


class SMORE(Backbone):
    """SMORE (arXiv 2412.14978), as MMRec computes it. I, U: tables; A, R: user-item graph and its upper right block.

    content = mean of [U; I], A [U; I], ..., A^layers [U; I];
    x^m = X^m W + b; y^m = irfft(rfft(x^m) c^m), y^f = irfft(c^f product over m of rfft(x^m)), along the columns;
    S^m: the cosines of each item's nearest items (--smore_knn_k) over the roots of both row sums; S^f: on the union of
    their patterns the largest value; h = S^item_layers (I * sigmoid(gate(y))), E = [R h; h], each for m and f;
    agg^m = softmax over columns(query^m(E^f)) * E^m; P = dropout(sigmoid(gate'(content))), each for m and f;
    side = (sum over m of P^m * agg^m + P^f * E^f) / (M + 1); final = content + side.

    Drawn in each step: a mask of each P, whose entries are kept with probability 1 - smore_dropout.
    Own terms: as MGCN's, with --smore_contrast_weight.
    Against the paper: as for MGCN. Beyond MMRec: any number of modalities, 3 being M + 1. A filter's imaginary parts at
    the lowest frequency, and at the highest one of an even width, have no effect.

    With the separation, the modality representation that --split=representation splits is h^m, the items' rows of E^m.
    """

    @staticmethod
    def graphs(bundle, config):
        if "fusion" in bundle.modalities:
            raise SeaError("--backbone=smore calls the modalities together fusion; give that modality another name.")
        found = {
            f"{name}_item": adjacency.cosine_graph(bundle.neighbours[name], k)
            for name, k in zip(bundle.modalities, nearest_counts(bundle, config), strict=True)
        }
        return found | {"fusion_item": adjacency.largest_of(list(found.values()))}

    def names(self):
        """The modalities and their fusion."""
        return [name for name, _ in self.widths] + ["fusion"]

    def draw(self, key):
        shape, kept = (self.num_users + self.num_items, self.dim), 1 - self.config.smore_dropout
        keys = jax.random.split(key, len(self.names()))
        masks = {
            f"{name}_preference": jax.random.bernoulli(key, kept, shape)
            for name, key in zip(self.names(), keys, strict=True)
        }
        return {"dropout_mask": masks}

    @nn.compact
    def __call__(self, data, noise=None) -> Representation:
        """data: this device's share. Returns this device's users and items."""
        user, item, content = content_of(self, data)
        encoded = {name: self.encode(data, name, width) for name, width in self.widths}
        with jax.named_scope("spectrum"):
            spectra = {name: jnp.fft.rfft(of.x, norm="ortho") for name, of in encoded.items()}
            fused = 1.0
            for spectrum in spectra.values():
                fused = fused * spectrum
            spectra["fusion"] = fused

        items, parts = [], {}
        for name in self.names():
            h = item * nn.sigmoid(Dense(self.dim, self.dim, name=f"gate_{name}")(self.filtered(name, spectra[name])))
            h = power(data.graphs[f"{name}_item"], h, self.config.item_layers, self.axis)
            items.append(h)
            if name in encoded:
                parts[name] = encoded[name].parts(h)
        nodes = dict(zip(self.names(), with_users(self, data, items), strict=True))

        side = self.preference("fusion", content, noise) * nodes["fusion"]
        for name, _ in self.widths:
            share = jax.nn.softmax(Query(self.dim, self.dim, name=f"query_{name}")(nodes["fusion"]), axis=1)
            side = side + self.preference(name, content, noise) * (share * nodes[name])
        return contrasted(self, content, side / len(nodes), len(user), parts)

    def filtered(self, name, spectrum):
        """The signal of a spectrum times a trained filter."""
        weight = self.param(f"{name}_spectral_weight", nn.initializers.normal(1.0), (1, self.dim // 2 + 1, 2))
        return jnp.fft.irfft(spectrum * jax.lax.complex(weight[..., 0], weight[..., 1]), n=self.dim, norm="ortho")

    def preference(self, name, content, noise):
        """What the nodes prefer of a modality or of the fusion, thinned by this step's mask."""
        found = nn.sigmoid(Dense(self.dim, self.dim, name=f"gate_{name}_preference")(content))
        if noise is None:
            return found
        mask = noise["dropout_mask"][f"{name}_preference"]
        users, items = mask[: self.num_users], mask[self.num_users :]
        mask = jnp.concatenate([self.mine(users, self.num_users), self.mine(items, self.num_items)])
        return found * mask.astype(found.dtype) / (1 - self.config.smore_dropout)


def nearest_counts(bundle, config) -> tuple[int, ...]:
    """How many nearest items each modality's graph has; raises SeaError if the bundle cannot give them."""
    counts = config.smore_knn_k
    if not counts:
        pair = {"image": 10, "text": 15} if set(bundle.modalities) == {"image", "text"} else {}
        counts = tuple(pair.get(name, config.knn_k) for name in bundle.modalities)
    shown, k_max = ",".join(map(str, counts)), bundle.manifest["knn_k_max"]
    if len(counts) != len(bundle.modalities):
        raise SeaError(f"--smore_knn_k={shown} must have one number for each of {', '.join(bundle.modalities)}.")
    if max(counts) > k_max:
        raise SeaError(
            f"--smore_knn_k={shown} exceeds the {k_max} nearest items the bundle keeps; name fewer, or make it again "
            "with a larger --knn_k_max."
        )
    return counts
