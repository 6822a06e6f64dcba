"""Items that came after training: vectors from their features alone, by the trained model's own maps."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float

from sea_jax import adjacency
from sea_jax import data as datas
from sea_jax.bundle import Bundle
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.models.backbones import BACKBONES
from sea_jax.objective import ranked_rows
from sea_jax.recommender_file import listed
from sea_jax.training import loop, parallel
from sea_jax.training.state import host_data, init_state, make_model


def embed(
    training: loop.Training, params: Any, features: Mapping[str, Any], exclude: Any = ()
) -> Float[np.ndarray, "n d"]:
    """Vectors of new items, to be compared with the item vectors of these parameters.

    Each is what the model gives an item without interactions: its neighbours are found among the catalogue, whose own
    neighbours stay as they are. Of tables with a row per item it has the mean of the rows of its neighbours in the fused
    item graph; of trained features its own.

    Args:
      training: the trained model and its dataset.
      params: as the devices hold them.
      features: by modality, (n, width), finite, as the encoders that made the dataset's gave them. A row that is all zeros,
        and a modality left out, count as lacking: the mean of the catalogue stands in.
      exclude: an id or several, of items that are nobody's neighbours.
    Returns: (n, d) float32.
    Raises: SeaError for features that do not fit, or a backbone that reads none.
    """
    bundle, config = training.bundle, training.config
    check(config)
    whole = parallel.undivide(params, training.divided.params, training.whole.params, training.layout)
    known = bundle.num_items
    grown = extended(bundle, features, _numbers(bundle, exclude))
    config = dataclasses.replace(config, devices="1", parallel="auto", features="device")
    host = host_data(grown, config)
    data = datas.divide(host, config)[0]
    model = make_model(grown, config)
    whole = _grow(whole, grown, config, host)

    def items(params, data):
        return ranked_rows(model.apply({"params": params}, data), config)[1]

    with jax.default_matmul_precision(parallel.MATMUL[config.precision]):
        return np.asarray(jax.jit(items)(whole, data))[known:]


def check(config: Config | None) -> None:
    """Raises SeaError if a run of these settings, None of one without training, has no vectors for new items."""
    if config is None:
        raise SeaError(
            "new items need a trained run of one model, as closed forms and blends have no vectors for them."
        )
    if not BACKBONES[config.backbone].has_modalities:
        raise SeaError(
            f"--backbone={config.backbone} knows items by their interactions alone and has no vector for a new one; "
            "train a backbone that reads features."
        )


def _numbers(bundle: Bundle, ids: Any) -> Bool[np.ndarray, " items"]:
    """(I,) bool: which items these ids name."""
    own = range(bundle.num_items) if bundle.item_ids is None else bundle.item_ids.tolist()
    number, found = {one: n for n, one in enumerate(own)}, np.zeros(bundle.num_items, bool)
    for one in listed(ids):
        if one not in number:
            raise SeaError(f"exclude names item {one!r}, which the dataset does not have.")
        found[number[one]] = True
    return found


def extended(bundle: Bundle, features: Mapping[str, Any], barred: Bool[np.ndarray, " items"]) -> Bundle:
    """The dataset with further items without interactions, whose neighbours are old items that are not barred."""
    strange = [name for name in features if name not in bundle.modalities]
    if strange or not features:
        what = f"has {strange[0]!r}" if strange else "is empty"
        raise SeaError(f"features {what}; the modalities are {', '.join(bundle.modalities)}.")
    given = {name: _rows(name, features.get(name), width) for name, width in bundle.widths}
    count = max(len(x) for x in given.values() if x is not None)
    similarity = bundle.manifest.get("similarity", "cosine")
    apart = bundle.manifest.get("honour_missing", False) or similarity != "cosine"
    tables, missing, neighbours = {}, {}, {}
    for name, width in bundle.widths:
        x = np.zeros((count, width), np.float32) if given[name] is None else given[name]
        if len(x) != count:
            raise SeaError(
                f"features[{name!r}] has {len(x)} rows and another modality {count}; give one for each item."
            )
        old, lacking = bundle.features[name], bundle.missing.get(name, np.zeros(bundle.num_items, bool))
        having, absent = old[~lacking], ~x.any(axis=1)
        x = np.where(absent[:, None], having.mean(axis=0, dtype=np.float64), x).astype(np.float32)
        tables[name], missing[name] = np.concatenate([old, x]), np.concatenate([lacking, absent])
        indices, similarities = bundle.neighbours[name]
        new, known = (adjacency.comparable(rows, having, similarity) for rows in (x, old))
        nearest = adjacency.nearest_of_new(new, known, indices.shape[1], absent & apart, barred | (lacking & apart))
        neighbours[name] = tuple(np.concatenate(pair) for pair in zip((indices, similarities), nearest, strict=True))
    items = bundle.num_items + count
    return dataclasses.replace(
        bundle,
        manifest={**bundle.manifest, "num_items": items},
        adjacency=adjacency.normalised_adjacency(bundle.train, bundle.num_users, items),
        neighbours=neighbours,
        features=tables,
        missing={name: mask for name, mask in missing.items() if mask.any()},
        item_ids=None,
        shown={},
    )


def _rows(name: str, x: Any, width: int) -> np.ndarray | None:
    if x is None:
        return None
    x = np.asarray(x)
    if x.ndim == 2 and x.shape[1] == 1 and width == 2:  # as for the dataset: features are split in two
        x = np.pad(x, ((0, 0), (0, 1)))
    if x.ndim != 2 or x.shape[1] != width or x.dtype.kind not in "fiu" or not len(x):
        raise SeaError(
            f"features[{name!r}] must be numbers of shape (n, {width}), as trained on; it is {x.dtype} {x.shape}."
        )
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    finite = np.isfinite(x).all(axis=1)
    if not finite.all():
        raise SeaError(
            f"features[{name!r}] must be finite and row {int(finite.argmin())} (from 0) is not; zeros stand for what is missing."
        )
    return x


def _grow(params: Any, grown: Bundle, config: Config, host) -> Any:
    """Parameters with rows for the new items, wherever the grown model's shapes have such."""
    tables = grown.features if config.train_features else {}
    wanted = jax.eval_shape(
        lambda features: init_state(make_model(grown, config), datas.blank(host, config), config, features), tables
    ).params
    graph = adjacency.fuse_neighbours(grown.neighbours, config.knn_k, datas.item_weights(grown, config))

    def leaf(path, x, like):
        known, more = x.shape[0] if x.ndim else 0, like.shape[0] - x.shape[0] if x.ndim else 0
        if not more:
            return x
        name = path[-1].key.removesuffix("_feature_table")
        if path[-1].key.endswith("_feature_table") and name in grown.features:
            return np.concatenate([x, grown.features[name][known:]])
        nearest = graph[known:, :known]
        sums = np.asarray(nearest.sum(axis=1))
        rows = (nearest @ x.reshape(known, -1)) / np.where(sums > 0, sums, 1)
        return np.concatenate([x, rows.reshape(more, *x.shape[1:]).astype(x.dtype)])

    return jax.tree_util.tree_map_with_path(leaf, params, wanted)
