"""How well strangers are served: `python benchmarks/baskets.py --data_dir=DIR --json=FILE`.

Takes --strangers training users out, trains each backbone without them, folds them in from their training items, and
compares the Recall@20 and NDCG@20 of their held-out items with those that a run which was trained with them gives the same
users. Popularity beside them says what knowing nothing gives.
"""

import dataclasses

import numpy as np
from absl import flags

from sea_jax import bundle as bundles
from sea_jax import cli, files
from sea_jax.baselines import popularity
from sea_jax.bundle import Bundle, build
from sea_jax.config import OWN_DEFAULTS, Config
from sea_jax.evaluation import by_user
from sea_jax.recommender import Recommender
from sea_jax.training import platform, runs

METRICS = ("recall@20", "ndcg@20")
MOST_EPOCHS = {"sea": 15, "lgmrec": 25, "smore": 25, "dragon": 25, "pgl": 25, "mgcn": 25}  # the slow ones
OWN = {  # of TikTok, from docs/backbones.md
    "sea": {"knn_k": 20, "knn_weights": (0.9, 0.1), "alpha": 0.1, "club_learning_rate": 1e-3},
    "lightgcn": {"reg_weight": 1e-4},
    "freedom": {"reg_weight": 1e-4},
    "vbpr": {"reg_weight": 2.0},
}


def without(bundle: Bundle, users: np.ndarray) -> Bundle:
    """The dataset without the training interactions of some users; nobody of them counts in validation either."""
    kept = {
        split: pairs[~np.isin(pairs[:, 0], users)]
        for split, pairs in (("train", bundle.train), ("valid", bundle.valid))
    }
    return build("without", kept, bundle.num_users, bundle.num_items, bundle.features,
        knn_k_max=bundle.manifest["knn_k_max"], missing=bundle.missing,
        honour_missing=bundle.manifest.get("honour_missing", False),
    )  # fmt: skip


def measured(bundle: Bundle, users: np.ndarray, scores) -> dict[str, float]:
    """Means over some users of the metrics of test."""
    test = bundle.test[np.isin(bundle.test[:, 0], users)]
    found_users, found = by_user(scores, bundle.train, test[:0], test, bundle.num_users, bundle.num_items, (20,))
    counted = np.isin(found_users, test[:, 0])
    return {name: float(found["test"][name][counted].mean()) for name in METRICS}


def folded(made: Recommender, bundle: Bundle):
    """Scores of users from their training items alone."""
    own = [bundle.train[bundle.train[:, 0] == user, 1] for user in range(bundle.num_users)]
    ids = made.item_ids

    def scores(rows):
        vectors = [
            made.basket_vector(ids[own[row]].tolist()) if len(own[row]) else made.item_vectors[0] * 0 for row in rows
        ]
        return np.array(vectors, np.float32) @ made.item_vectors.T

    return scores


def main(argv: list[str]) -> int:
    del argv
    values = cli.FLAGS
    bundle = bundles.load(values.data_dir)
    trained = np.bincount(bundle.train[:, 0], minlength=bundle.num_users) > 0
    able = np.intersect1d(np.flatnonzero(trained), bundle.test[:, 0])
    users = np.sort(np.random.default_rng(values.seed).choice(able, values.strangers, replace=False))
    rest = without(bundle, users)
    counts = popularity(rest.train, bundle.num_items)
    found = {
        "strangers": len(users),
        "popularity": measured(bundle, users, lambda rows: np.tile(counts, (len(rows), 1))),
    }
    print(f"{'popularity':12s}", found["popularity"])
    for backbone in values.backbones:
        epochs = min(values.epochs, MOST_EPOCHS.get(backbone, values.epochs))
        config = Config(backbone=backbone, epochs=epochs, learning_rate=1e-3, patience=10, **OWN.get(backbone, {}))
        platform.prepare_platform(config)
        known = runs.fit(dataclasses.replace(bundle, test=bundle.test[:0]), config).recommender()
        strange = runs.fit(rest, config).recommender()
        how = "propagation" if "basket_items" in strange.extras else "ridge"
        found[backbone] = {
            "how": how,
            "epochs": epochs,
            "trained with them": measured(
                bundle, users, lambda rows, made=known: made.user_vectors[rows] @ made.item_vectors.T
            ),
            "folded in": measured(bundle, users, folded(strange, bundle)),
        }
        print(f"{backbone:12s}", found[backbone], flush=True)
        if values.json:
            files.write_json(values.json, found)
    return 0


if __name__ == "__main__":
    flags.DEFINE_string("data_dir", None, "folder of the bundle", required=True)
    flags.DEFINE_list("backbones", list(OWN_DEFAULTS), "backbones to train")
    flags.DEFINE_integer("strangers", 500, "users taken out", lower_bound=1)
    flags.DEFINE_integer("epochs", 60, "of each training, at most", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "of which users are taken out", lower_bound=0)
    flags.DEFINE_string("json", "", "file to write the numbers into")
    cli.run(main)
