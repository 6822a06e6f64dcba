"""Datasets of the published sizes with random features (real interactions where given, else a synthetic topology), and
the paper's settings for them."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from sea_jax import adjacency
from sea_jax.bundle import Bundle
from sea_jax.config import Config
from sea_jax.errors import SeaError

KNN_K = 10


class Shape(NamedTuple):
    """Counts of a dataset and the widths of its features, in order; pairs: train, valid, test interactions."""

    users: int
    items: int
    pairs: tuple[int, int, int]
    widths: dict[str, int]


AMAZON = {"image": 4096, "text": 384}
SHAPES = {
    "tiktok": Shape(9_308, 6_710, (59_541, 3_051, 6_130), {"image": 128, "audio": 128}),
    "baby": Shape(19_445, 7_050, (118_551, 20_559, 21_682), AMAZON),
    "sports": Shape(35_598, 18_357, (218_409, 37_899, 40_029), AMAZON),
    "clothing": Shape(39_387, 23_033, (197_338, 40_150, 41_189), AMAZON),
    # Elec's split is not published with its counts; the shares are those of Clothing's held-out users.
    "elec": Shape(192_403, 63_001, (1_254_441, 214_000, 220_747), AMAZON),
}


def settings(precision: str = "float32", **others) -> Config:
    """The paper's settings but for those given."""
    return Config(knn_k=KNN_K, knn_weights=(0.1, 0.9), seed=0, precision=precision, **others)


def read_interactions(folder: Path, name: str) -> list[np.ndarray] | None:
    """train, valid and test pairs of `name.inter` in the folder or one below it, or None if there is no such file."""
    for path in (folder / f"{name}.inter", *sorted(folder.glob(f"*/{name}.inter"))):
        if path.exists():
            header = path.read_text().partition("\n")[0].split("\t")
            columns = [header.index(field) for field in ("userID", "itemID", "x_label")]
            table = np.loadtxt(path, dtype=np.float64, skiprows=1, delimiter="\t", usecols=columns).astype(np.int32)
            return [np.unique(table[table[:, 2] == label, :2], axis=0) for label in (0, 1, 2)]
    return None


def power_law_pairs(rng: np.random.Generator, users: int, items: int, count: int) -> np.ndarray:
    """`count` distinct pairs, every user at least once; users and items both of falling popularity."""
    user_weights, item_weights = (np.arange(1, n + 1) ** -power for n, power in ((users, 0.5), (items, 0.8)))
    user_cumulative, item_cumulative = (np.cumsum(w / w.sum()) for w in (user_weights, item_weights))

    def draw(cumulative, n):
        return np.minimum(np.searchsorted(cumulative, rng.random(n)), len(cumulative) - 1)

    codes = np.arange(users, dtype=np.int64) * items + draw(item_cumulative, users)
    while len(codes) < count:
        more = draw(user_cumulative, count) * np.int64(items) + draw(item_cumulative, count)
        more = np.setdiff1d(more, codes)
        codes = np.append(codes, rng.permutation(more)[: count - len(codes)])
    return np.stack([codes // items, codes % items], axis=1).astype(np.int32)


def make(name: str, interactions: str = "", seed: int = 0) -> Bundle:
    """The dataset `name`, its features random and its item graph of random neighbours, the item itself first.

    Which neighbours an item has moves no time that is measured here; finding real ones would.

    Raises: SeaError for an unknown name or interactions that do not fit the shape.
    """
    if name not in SHAPES:
        raise SeaError(f"--shapes={name} is not one of {', '.join(SHAPES)}.")
    shape, rng = SHAPES[name], np.random.default_rng(seed)
    if interactions and not Path(interactions).is_dir():
        raise SeaError(f"--interactions={interactions} is no folder; leave it out for a synthetic topology.")
    splits = read_interactions(Path(interactions), name) if interactions else None
    real = splits is not None
    if not real:
        splits = [power_law_pairs(rng, shape.users, shape.items, count) for count in shape.pairs]
    for pairs in splits:
        if (pairs.max(axis=0) >= (shape.users, shape.items)).any():
            raise SeaError(f"--interactions={interactions}: {name}.inter has ids beyond {shape.users}, {shape.items}.")
    features = {key: rng.standard_normal((shape.items, width), np.float32) for key, width in shape.widths.items()}
    neighbours = {}
    for key in shape.widths:
        index = rng.integers(0, shape.items, (shape.items, KNN_K)).astype(np.int32)
        index[:, 0] = np.arange(shape.items)
        neighbours[key] = (index, np.ones(index.shape, np.float32))
    manifest = {"name": name, "num_users": shape.users, "num_items": shape.items, "knn_k_max": KNN_K, "real": real}
    return Bundle(
        manifest=manifest,
        train=splits[0], valid=splits[1], test=splits[2],
        adjacency=adjacency.normalised_adjacency(splits[0], shape.users, shape.items),
        neighbours=neighbours,
        features=features,
    )  # fmt: skip
