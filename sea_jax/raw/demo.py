"""A synthetic dataset with planted structure.

Items have factors of three kinds: generic ones, which every modality shows; unique ones, which one modality shows
alone; and hidden ones, which none shows. Users' tastes weigh all of them. `planted_factors.npz` beside the bundle's
files keeps the factors, so that tests and studies can ask how well the learnt parts recover them.
"""

import os
from pathlib import Path

import numpy as np
from sea_jax import bundle as bundles
from sea_jax import files
from sea_jax.errors import SeaError

WIDTHS = {"image": 96, "text": 48}


def render(factors: np.ndarray, width: int, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Features that show the factors: a random two-layer map of them, plus noise, (I, width) float32."""
    hidden = np.tanh(factors @ rng.normal(size=(factors.shape[1], 2 * width)) / np.sqrt(factors.shape[1]))
    shown = hidden @ rng.normal(size=(2 * width, width)) / np.sqrt(2 * width)
    return (shown + noise * shown.std() * rng.normal(size=shown.shape)).astype(np.float32)


def choose_items(scores: np.ndarray, counts: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Each user's items: the counts[u] best of scores plus Gumbel noise, a sample without replacement."""
    noisy = scores + rng.gumbel(size=scores.shape)
    return [np.argpartition(-row, count)[:count] for row, count in zip(noisy, counts, strict=True)]


def split_items(items: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Train, valid, test as MMRec splits a user: under 10 one each, else 20 % held out, the floor half valid."""
    items = rng.permutation(items)
    held = 2 if len(items) < 10 else int(np.ceil(0.2 * len(items)))
    valid = held // 2
    return items[held:], items[:valid], items[valid:held]


def make_demo(
    output: str | os.PathLike,
    *,
    num_users: int = 1200,
    num_items: int = 800,
    mean_interactions: float = 14.0,
    factors: int = 6,
    noise: float = 0.3,
    seed: int = 0,
) -> None:
    """Writes the demo bundle and its planted factors.

    Args:
      output: folder to write.
      num_users, num_items: sizes.
      mean_interactions: per user, at least 5 each.
      factors: of each kind: generic, unique to each modality, hidden.
      noise: standard deviation of the features' noise in that of the signal.
      seed: of every random number.
    """
    if num_users < 10 or num_items < 50 or factors < 1 or not 0 <= noise < np.inf:
        raise SeaError("the demo needs at least 10 users, 50 items and 1 factor, and a finite noise of 0 or more.")
    if not 5 <= mean_interactions <= num_items / 4:
        raise SeaError(f"--mean_interactions={mean_interactions} must lie between 5 and a quarter of the items.")
    if not 0 <= seed < 2**32:
        raise SeaError(f"--seed={seed} must be from 0 to {2**32 - 1}.")
    rng = np.random.default_rng(seed)
    kinds = ("generic", *(f"unique_{name}" for name in WIDTHS), "hidden")
    item = {kind: rng.normal(size=(num_items, factors)) for kind in kinds}
    taste = {kind: rng.normal(size=(num_users, factors)) for kind in kinds}
    features = {
        name: render(np.hstack([item["generic"], item[f"unique_{name}"]]), width, noise, rng)
        for name, width in WIDTHS.items()
    }
    popularity = rng.normal(scale=0.5, size=num_items)
    affinity = sum(taste[kind] @ item[kind].T for kind in kinds) / np.sqrt(len(kinds) * factors)
    counts = 5 + np.minimum(rng.poisson(rng.gamma(1.5, (mean_interactions - 5) / 1.5, num_users)), num_items // 4)
    chosen = choose_items(4.0 * affinity + popularity, counts, rng)
    parts = [split_items(items, rng) for items in chosen]
    splits = {
        name: np.array([(user, i) for user, part in enumerate(parts) for i in part[n]], np.int32)
        for n, name in enumerate(bundles.SPLITS)
    }
    settings = {
        "num_users": num_users, "num_items": num_items, "mean_interactions": mean_interactions,
        "factors": factors, "noise": noise, "seed": seed,
    }  # fmt: skip
    bundle = bundles.build(
        "demo",
        splits,
        num_users,
        num_items,
        features,
        user_ids=np.array([f"user{n}" for n in range(num_users)]),
        item_ids=np.array([f"item{n}" for n in range(num_items)]),
        notes={"split": {"kind": "random per user", "seed": seed}, "sources": {}, "demo": settings},
    )
    bundles.save(bundle, output)
    planted = {f"item_{kind}": x.astype(np.float32) for kind, x in item.items()}
    planted |= {f"taste_{kind}": x.astype(np.float32) for kind, x in taste.items()}
    files.write_npz(Path(output) / "planted_factors.npz", planted)
