"""What a step reads: graphs, features and interactions, one device's share of them."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Float, Int

from sea_jax import adjacency, graph
from sea_jax import config as configs
from sea_jax.arrays import Array
from sea_jax.bundle import Bundle
from sea_jax.config import Config
from sea_jax.sampling import Interactions, interactions


class Data(NamedTuple):
    """What a step reads, one device's share of it (all of it on one device).

    adjacency: user-item graph. edges: for each entry of it the training interaction that it stands for, their number
    for padding. graphs: by name, what the backbone asks for besides (between items, "item" being the fused one, or
    between users). features: by modality (items, d_m); those that are trained are parameters instead. user_weights,
    item_weights: 1, or 0 for padding. present: by modality, 1 or 0 for items that lack it; None where none does.
    interactions: training interactions, whole on every device. arguments: `config.arguments`, on every device.
    """

    adjacency: graph.Matrix
    edges: Int[Array, " edges"]
    graphs: dict[str, graph.Matrix]
    features: dict[str, Float[Array, "items d"]]
    user_weights: Float[Array, " users"]
    item_weights: Float[Array, " items"]
    present: dict[str, Float[Array, " items"]] | None
    interactions: Interactions
    arguments: dict[str, Float[Array, ""]]


class HostData(NamedTuple):
    """A dataset's arrays on the host, undivided; fields as in Data.

    adjacency: (U + I, U + I) scipy CSR, users first. graphs: by name, square scipy CSR over items or over users.
    """

    num_users: int
    num_items: int
    adjacency: scipy.sparse.csr_matrix
    graphs: dict[str, scipy.sparse.csr_matrix]
    features: dict[str, Float[np.ndarray, "items d"]]
    present: dict[str, Float[np.ndarray, " items"]] | None
    interactions: Interactions


AXES = Data(
    adjacency=0,
    edges=0,
    graphs=0,
    features=0,
    user_weights=0,
    item_weights=0,
    present=0,
    interactions=None,
    arguments=None,
)  # which leaves are divided over the devices


def item_weights(bundle: Bundle, config: Config) -> dict[str, float]:
    """The weight of each modality in the fused item graph."""
    if config.knn_weights:
        return dict(zip(bundle.modalities, config.knn_weights, strict=True))
    return adjacency.default_weights(bundle.modalities)


def gather(bundle: Bundle, config: Config, graphs: dict[str, scipy.sparse.csr_matrix]) -> HostData:
    """The dataset as the settings want it, with the graphs that the backbone asked for."""
    present = None
    if bundle.missing and bundle.manifest.get("honour_missing", False):
        absent = {name: bundle.missing.get(name, np.zeros(bundle.num_items, bool)) for name in bundle.modalities}
        present = {name: (~mask).astype(np.float32) for name, mask in absent.items()}
    return HostData(
        num_users=bundle.num_users,
        num_items=bundle.num_items,
        adjacency=bundle.adjacency,
        graphs=graphs,
        features={} if config.train_features else bundle.features,
        present=present,
        interactions=interactions(bundle.train, bundle.num_users),
    )


def arguments(config: Config) -> dict[str, Float[np.ndarray, ""]]:
    """The numbers that compiled programs take as arguments, float32."""
    return {name: np.asarray(value, np.float32) for name, value in configs.arguments(config).items()}


def divide(host: HostData, config: Config, parts: int = 1) -> list[Data]:
    """One Data per device, users and items padded to equal shares; padding has no edges and weighs nothing.

    Args:
      host: the dataset.
      config: how it is computed: the form of the sparse product, the precision of stored features.
      parts: number of devices.
    """
    num_users, num_items = host.num_users, host.num_items
    users, items = -(-num_users // parts), -(-num_items // parts)
    order = graph.bipartite_order(num_users, num_items, parts)
    form = graph.resolve_propagation(config.propagation)
    dtype = jnp.bfloat16 if config.precision == "bfloat16" else np.float32
    numbered = graph.relabel(number_edges(host), order, (users + items) * parts)
    user_item = graph.relabel(host.adjacency, order, (users + items) * parts)
    shares = {"": graph.divide(user_item, parts, form, symmetric=True)}
    for name, matrix in host.graphs.items():
        rows = users if matrix.shape[0] == num_users and name.startswith("user") else items
        grown = graph.relabel(matrix, np.arange(matrix.shape[0]), rows * parts)
        shares[name] = graph.divide(grown, parts, form, symmetric=False)

    def part_of(array, part, count):
        share = array[part * count : (part + 1) * count]
        return np.pad(share, [(0, count - len(share))] + [(0, 0)] * (array.ndim - 1))

    def data(part):
        return Data(
            adjacency=shares[""][part],
            edges=graph.entries(numbered, parts, part, padding=len(host.interactions.users)),
            graphs={name: shares[name][part] for name in host.graphs},
            features={name: part_of(x, part, items).astype(dtype) for name, x in host.features.items()},
            user_weights=part_of(np.ones(num_users, np.float32), part, users),
            item_weights=part_of(np.ones(num_items, np.float32), part, items),
            present=None if host.present is None else {m: part_of(x, part, items) for m, x in host.present.items()},
            interactions=host.interactions,
            arguments=arguments(config),
        )

    return [data(part) for part in range(parts)]


def number_edges(host: HostData) -> scipy.sparse.csr_matrix:
    """The adjacency's pattern, each entry being one more than its training interaction's number."""
    users, items = host.interactions.users, host.interactions.items + host.num_users
    numbers, size = np.arange(1, len(users) + 1), host.adjacency.shape[0]
    _, first = np.unique(users.astype(np.int64) * size + items, return_index=True)  # a pair listed twice is one edge
    users, items, numbers = users[first], items[first], numbers[first]
    index = np.concatenate([users, items]), np.concatenate([items, users])
    return scipy.sparse.csr_matrix((np.concatenate([numbers, numbers]), index), shape=(size, size))


def blank(host: HostData, config: Config, parts: int = 1) -> Data:
    """The shapes of one of `parts` devices' shares, but for the number of edges, at no cost: what parameters need."""
    empty = {name: scipy.sparse.csr_matrix(matrix.shape, dtype=np.float32) for name, matrix in host.graphs.items()}
    bare = host._replace(
        adjacency=scipy.sparse.csr_matrix(host.adjacency.shape, dtype=np.float32),
        graphs=empty,
        features={name: x[:0] for name, x in host.features.items()},
    )
    data = divide(bare, dataclasses.replace(config, propagation="jraph"), parts)[0]
    rows = -(-host.num_items // parts)
    features = {name: jax.ShapeDtypeStruct((rows, x.shape[1]), x.dtype) for name, x in data.features.items()}
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(np.shape(x), np.asarray(x).dtype), data._replace(features={}))
    return shapes._replace(features=features, edges=jax.ShapeDtypeStruct((0,), np.int32))
