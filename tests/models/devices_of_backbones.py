"""Prints two epochs' losses of each backbone on one and more emulated devices; a program for a test to run."""

import json

import jax
import numpy as np

from sea_jax import bundle as bundles
from sea_jax.config import Config
from sea_jax.training import loop

USERS, ITEMS = 31, 25


def random_bundle(widths, seed=0):
    """Random interactions; the last user, user 3 and item 7 have none, and item 4's features are zero."""
    rng = np.random.default_rng(seed)
    pairs = np.unique(rng.integers(0, [USERS - 1, ITEMS], size=(170, 2)), axis=0)
    pairs = pairs[(pairs[:, 1] != 7) & (pairs[:, 0] != 3)]
    features = {name: rng.normal(size=(ITEMS, width)) for name, width in widths.items()}
    for x in features.values():
        x[4] = 0
    return bundles.build("random", {"train": pairs}, USERS, ITEMS, features, knn_k_max=20)


SETTINGS = {
    "mgcn": {},
    "lgmrec": {"separation": "orthogonal", "split": "representation"},
    "smore": {},
    "dragon": {"separation": "orthogonal", "alignment": "solosim", "dragon_user_neighbours": 12},
}
DEVICES = {"mgcn": (1, 3), "lgmrec": (1, 3), "smore": (1, 2), "dragon": (1, 2, 3)}


def losses_of(backbone, devices, bundle):
    """The losses of two epochs of this backbone on so many devices, those of the second under names of their own."""
    settings = {"batch_size": 50, "club_steps": 1, "embedding_dim": 16, "learning_rate": 1e-2, "reg_weight": 0.1}
    own = {"lgmrec": {"lgmrec_contrast_weight": 0.1}}.get(backbone, {})
    config = Config(backbone=backbone, devices=str(devices), **settings, **own, **SETTINGS[backbone])
    run = loop.prepare(bundle, config)
    state, found = run.progress.state, {}
    for number in range(2):
        state, losses = run.programs.train_epoch(state, run.data)
        found |= {f"{name} {number}": float(value) for name, value in jax.device_get(losses).items()}
    return found


if __name__ == "__main__":
    bundle = random_bundle({"image": 7, "text": 5})
    print(json.dumps({name: [losses_of(name, count, bundle) for count in DEVICES[name]] for name in SETTINGS}))
