"""A synthetic dataset with planted structure.

Items have factors of three kinds: generic ones, which every modality shows; unique ones, which one modality shows
alone; and hidden ones, which none shows. Users' tastes weigh all of them. `planted_factors.npz` beside the bundle's
files keeps the factors, so that tests and studies can ask how well the learnt parts recover them. `make_raw` shows the
same factors as titles, descriptions and pictures, for the whole way from tables to recommendations.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np

from sea_jax import bundle as bundles
from sea_jax import files
from sea_jax.errors import SeaError
from sea_jax.raw import tables

MOST, MOST_FACTORS = 10**9, 1000
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


@dataclasses.dataclass(frozen=True)
class Planted:
    """Factors of items and users by kind, each user's items, and the generator that goes on drawing."""

    item: dict[str, np.ndarray]
    taste: dict[str, np.ndarray]
    features: dict[str, np.ndarray]
    chosen: list[np.ndarray]
    rng: np.random.Generator

    def shown_in(self, modality: str) -> np.ndarray:
        """(I, 2 * factors) what a modality shows of each item."""
        return np.hstack([self.item["generic"], self.item[f"unique_{modality}"]])

    def save(self, path: Path) -> None:
        """Writes the factors."""
        planted = {f"item_{kind}": x.astype(np.float32) for kind, x in self.item.items()}
        planted |= {f"taste_{kind}": x.astype(np.float32) for kind, x in self.taste.items()}
        files.write_npz(path, planted)


def plant(num_users: int, num_items: int, mean_interactions: float, factors: int, noise: float, seed: int) -> Planted:
    """Draws everything; see `make_demo` for the arguments. Raises SeaError for what cannot be."""
    if num_users < 10 or num_items < 50 or factors < 1 or not 0 <= noise < np.inf:
        raise SeaError("the demo needs at least 10 users, 50 items and 1 factor, and a finite noise of 0 or more.")
    if num_users * num_items > MOST or factors > MOST_FACTORS:
        raise SeaError(f"the demo has at most {MOST} users times items and {MOST_FACTORS} factors, all held in memory.")
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
    return Planted(item, taste, features, choose_items(4.0 * affinity + popularity, counts, rng), rng)


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
    planted = plant(num_users, num_items, mean_interactions, factors, noise, seed)
    parts = [split_items(items, planted.rng) for items in planted.chosen]
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
        planted.features,
        user_ids=np.array([f"user{n}" for n in range(num_users)]),
        item_ids=np.array([f"item{n}" for n in range(num_items)]),
        notes={"split": {"kind": "random per user", "seed": seed}, "sources": {}, "demo": settings},
    )
    bundle.save(output)
    planted.save(Path(output) / "planted_factors.npz")


def make_raw(
    output: str | os.PathLike,
    *,
    num_users: int = 1200,
    num_items: int = 800,
    mean_interactions: float = 14.0,
    factors: int = 6,
    noise: float = 0.3,
    seed: int = 0,
) -> None:
    """Writes the demo as raw data: interactions.csv, items.parquet (titles, descriptions, paths), pictures/*.png.

    Words and colours show what the features of `make_demo` show: the generic factors and the modality's own. The arguments
    are those of `make_demo`.
    """
    polars = tables.polars()
    if not os.fspath(output):
        raise SeaError("--output is empty; name a folder to write into.")
    output, ours = Path(output), Path(output) / "interactions.csv"
    if output.exists() and not ours.is_file() and (not output.is_dir() or any(output.iterdir())):
        raise SeaError(f"--output={output} exists and is no raw demo; name another folder.")
    planted = plant(num_users, num_items, mean_interactions, factors, noise, seed)
    rng = planted.rng
    (output / "pictures").mkdir(parents=True, exist_ok=True)
    times = 1_600_000_000 + np.sort(rng.integers(0, 10**8, sum(map(len, planted.chosen))))
    pairs = [(user, item) for user, items in enumerate(planted.chosen) for item in rng.permutation(items)]
    rows = [pairs[n] for n in rng.permutation(len(pairs))]
    files.write_table(
        output / "interactions.csv",
        ("user_id", "item_id", "timestamp"),
        ((f"user{user}", f"item{item}", time) for (user, item), time in zip(rows, times.tolist(), strict=True)),
    )
    seen, said = planted.shown_in("image"), planted.shown_in("text")
    described = [describe(row, noise, rng) for row in said]
    for n, row in enumerate(seen):
        with files.whole(output / "pictures" / f"item{n}.png") as aside:
            picture(row, noise, rng).save(aside, format="png")
    items = polars.DataFrame({
        "item_id": [f"item{n}" for n in range(num_items)],
        "title": [title for title, _ in described],
        "description": [text for _, text in described],
        "image": [f"pictures/item{n}.png" for n in range(num_items)],
    })  # fmt: skip
    with files.whole(output / "items.parquet") as aside:
        items.write_parquet(aside)
    planted.save(output / "planted_factors.npz")


# Two words for each factor, one for its high and one for its low values.
ADJECTIVES = (
    ("warm", "cool"), ("heavy", "light"), ("modern", "classic"), ("quiet", "loud"), ("soft", "hard"), ("small", "large"),
    ("outdoor", "indoor"), ("simple", "ornate"), ("fast", "slow"), ("rough", "smooth"), ("cheap", "precious"),
    ("round", "square"),
)  # fmt: skip
NOUNS = (
    ("blanket", "glass"), ("anvil", "kite"), ("screen", "ledger"), ("pillow", "drum"), ("sponge", "hammer"),
    ("thimble", "crate"), ("tent", "lamp"), ("stool", "mirror"), ("skate", "kettle"), ("brush", "tile"), ("peg", "ring"),
    ("ball", "box"),
)  # fmt: skip


def describe(factors: np.ndarray, noise: float, rng: np.random.Generator, length: int = 24) -> tuple[str, str]:
    """A title and a description: words are the likelier the more they say of the item."""
    places = np.arange(len(factors))
    words = [pair[side] for place in places for pair in (ADJECTIVES[place % 12],) for side in (0, 1)]
    nouns = [pair[side] for place in places for pair in (NOUNS[place % 12],) for side in (0, 1)]
    score = np.stack([factors, -factors], axis=1).ravel()
    likely = np.exp(1.5 * score / (0.5 + noise))
    drawn = rng.choice(2 * len(words), length, p=np.tile(likely, 2) / (2 * likely.sum()))
    text = " ".join([*words, *nouns][n] for n in drawn)
    return (
        f"{words[int(score.argmax())].capitalize()} {nouns[int(rng.choice(len(nouns), p=likely / likely.sum()))]}",
        text,
    )


def picture(factors: np.ndarray, noise: float, rng: np.random.Generator, size: int = 48):
    """A picture of a disc on stripes whose colours, place, size and stripes say what the item is."""
    try:
        from PIL import Image
    except ImportError as error:
        raise SeaError("drawing pictures needs Pillow; pip install pillow.") from error
    value = 1 / (1 + np.exp(-1.5 * np.resize(factors, 12)))
    y, x = np.mgrid[:size, :size] / size
    angle, waves = np.pi * value[7], 1 + 9 * value[6]
    stripes = 0.5 + 0.5 * np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)))
    disc = (x - 0.2 - 0.6 * value[9]) ** 2 + (y - 0.2 - 0.6 * value[10]) ** 2 < (0.1 + 0.3 * value[8]) ** 2
    back = value[0:3] * (0.4 + 0.6 * stripes[..., None] * value[11])
    pixels = np.where(disc[..., None], value[3:6], back) + 0.1 * noise * rng.normal(size=(size, size, 3))
    return Image.fromarray((255 * np.clip(pixels, 0, 1)).astype(np.uint8))
