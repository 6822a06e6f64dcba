"""Recorded trajectories replayed through the functions that training uses, and how far they are from what was recorded.

Two kinds of file hold one: of the released SEA, and of a model of MMRec (a file that names its `model`). In both,
`stepK/...` has batches, draws, gradients and embeddings, `init/...` and `afterN/...` the parameters, `losses` the parts.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.special

from sea_jax import axis as ax
from sea_jax import bundle as bundles
from sea_jax import data as datas
from sea_jax import files
from sea_jax.config import Config, kind_of
from sea_jax.data import Data
from sea_jax.errors import SeaError
from sea_jax.models import thinning
from sea_jax.models.backbones import BACKBONES
from sea_jax.objective import Batch, Draws
from sea_jax.propagation import product
from sea_jax.training import loop, parallel
from sea_jax.training.state import start
from sea_jax.training.step import loss_and_gradient, step

HOW = ("propagation", "club_fit", "devices")  # settings of how it is computed, which a replay may choose
REMEDY = "--trajectory must name a recorded trajectory"
MODALITIES = ("image", "text")

# MMRec's model: our backbone.
BACKBONE_OF = {
    "BPR": "mf",
    "LightGCN": "lightgcn",
    "VBPR": "vbpr",
    "FREEDOM": "freedom",
    "BM3": "bm3",
    "PGL": "pgl",
    "MGCN": "mgcn",
    "LGMRec": "lgmrec",
    "SMORE": "smore",
    "DRAGON": "dragon",
}
# By backbone, the recorded name of a setting: ours, or a function to {ours: value}; beside those of all.
ALL_HAVE = {"learning_rate": "learning_rate", "batch_size": "batch_size", "embedding_size": "embedding_dim"}
ALL_HAVE |= {"reg_weight": "reg_weight"}
ITEM_GRAPH = {
    "n_ui_layers": "layers",
    "n_mm_layers": "item_layers",
    "knn_k": "knn_k",
    "mm_image_weight": lambda weight: {"knn_weights": (weight, 1 - weight)},
}
CONTENT = {"n_ui_layers": "layers", "n_layers": "item_layers"}  # of mgcn and smore
SETTINGS: dict[str, dict[str, str | Callable]] = {
    "mf": {},
    "lightgcn": {"n_layers": "layers"},
    "vbpr": {},
    "freedom": ITEM_GRAPH | {"dropout": "freedom_edge_dropout"},
    "bm3": {"n_layers": "layers", "dropout": "bm3_dropout", "cl_weight": "bm3_contrast_weight"},
    "pgl": ITEM_GRAPH | {"dropout": "pgl_dropout", "kept_fraction": "pgl_kept", "temperature": "pgl_temperature"},
    "mgcn": CONTENT | {"knn_k": "knn_k", "cl_loss": "mgcn_contrast_weight"},
    "lgmrec": {
        "n_ui_layers": "layers",
        "n_mm_layers": "item_layers",
        "n_hyper_layer": "lgmrec_hyper_layers",
        "hyper_num": "lgmrec_hyperedges",
        "keep_rate": "lgmrec_keep_rate",
        "alpha": "lgmrec_alpha",
        "cl_weight": "lgmrec_contrast_weight",
    },
    "smore": CONTENT | {"dropout_rate": "smore_dropout", "cl_loss": "smore_contrast_weight"},
    "dragon": {name: ITEM_GRAPH[name] for name in ("n_mm_layers", "knn_k", "mm_image_weight")}
    | {"user_neighbours": "dragon_user_neighbours"},
}
# By backbone, what MMRec's model does not read (None), or can be replayed at one value only.
FIXED: dict[str, dict[str, Any]] = {
    "freedom": {"feat_embed_dim": None, "lambda_coeff": None, "cf_model": None},
    "pgl": {"feat_embed_dim": None, "lambda_coeff": None, "mode": "local"},
    "mgcn": {"temperature": 0.2},
    "lgmrec": {"feat_embed_dim": None, "cf_model": "lightgcn", "temperature": 0.2},
    "smore": {"temperature": 0.2, "image_knn_k": None, "text_knn_k": None},  # read as one setting
    "dragon": {"feat_embed_dim": None, "aggr_mode": "add", "leaky_slope": 0.01},
}


def kept_edges(model, data: Data, drawn) -> Data:
    """The data with the recorded pairs alone in the user-item graph."""
    kept = jnp.zeros(data.interactions.users.shape[0], bool).at[drawn["kept_edges"]].set(True)
    return thinning.thinned(data, kept, model.num_items)


# By backbone, (model, data, recorded arrays of the epoch) -> the data of the epoch; for those that draw once an epoch.
EPOCHS: dict[str, Callable] = {
    "freedom": kept_edges,
    "pgl": kept_edges,
}


def users_graph(arrays: "Arrays", number: int, run: loop.Training):
    """DRAGON's users' graph of a step's epoch: the recorded neighbours, with weights of our own.

    Returns: the placed data with it; the weights (U, neighbours); the neighbours that follow the rule, else -1.
    """
    bundle, users = run.bundle, np.arange(run.bundle.num_users)
    name = f"step{first_of_epoch(arrays, number)}/user_graph_neighbours"
    neighbours = arrays.numbers(name, bundle.num_users)
    if neighbours.shape != (bundle.num_users, run.config.dragon_user_neighbours):
        raise SeaError(f"the trajectory's {name} has the shape {neighbours.shape}; a row for each user is expected.")
    graphs = BACKBONES[run.config.backbone].graphs(bundle, run.config)
    chosen = (bundle.adjacency[: bundle.num_users, bundle.num_users :] != 0).astype(np.float64)
    shared = (chosen @ chosen.T).toarray()  # as small as a trajectory is
    np.fill_diagonal(shared, 0)
    nearest, counts = graphs["user"].toarray() > 0, np.take_along_axis(shared, neighbours, axis=1)
    follows = np.zeros(bundle.num_users, bool)
    for user in users:
        known = int(nearest[user].sum())
        head, tail = neighbours[user, :known], neighbours[user, known:]
        most = np.sort(shared[user, nearest[user]])[::-1]  # ties may be broken either way
        follows[user] = np.array_equal(counts[user, :known], most) and len(set(head)) == known
        follows[user] &= known == 0 or set(tail) <= set(head)
    weights = scipy.special.softmax(counts, axis=1) * (counts.sum(axis=1, keepdims=True) > 0)
    index = (np.repeat(users, neighbours.shape[1]), neighbours.ravel())
    graphs["user"] = scipy.sparse.csr_matrix((weights.ravel(), index), shape=shared.shape)
    shares = datas.divide(datas.gather(bundle, run.config, graphs), run.config, run.layout.parts)
    return parallel.place_data(shares, run.layout), weights, np.where(follows[:, None], neighbours, -1)


# By backbone, the name under which one of our parameters was recorded, where it is another.
NAMES: dict[str, Callable[[str], str]] = {
    "sea": lambda name: (
        name.replace("separation/", "").replace("mlp_", "mlp").replace("_user_preference", "/user_preference")
    ),
    "dragon": lambda name: name.replace("_user_preference", "/user_preference"),
}
# By backbone, parameters whose true gradient is zero: what was recorded is rounding.
NO_SIGNAL: dict[str, tuple[str, ...]] = {
    "sea": ("projection_head/dense0/bias", "projection_head/dense1/bias"),  # BatchNorm removes them
    "freedom": ("image_projection/bias", "text_projection/bias"),  # they cancel in the difference of two items
}
STALE_EVALUATION = ("dragon",)  # ranked by the rows of the last training step


class Arrays(dict):
    """Recorded arrays by name; one that is missing is told in a sentence."""

    def __missing__(self, name):
        raise SeaError(f"the trajectory has no array {name!r}; {REMEDY}.")

    def below(self, prefix: str) -> dict:
        """Those whose names begin so, by the rest of their names."""
        return {name.removeprefix(prefix): x for name, x in self.items() if name.startswith(prefix)}

    def numbers(self, name: str, count: int) -> np.ndarray:
        """Numbers of `count` rows; raises SeaError if one is none of them."""
        index = self[name]
        if not np.issubdtype(index.dtype, np.integer) or (index.size and not 0 <= index.min() <= index.max() < count):
            raise SeaError(f"the trajectory's {name} must be whole numbers from 0 to {count - 1}.")
        return index.astype(np.int32)

    def matrix(self, name: str, shape: tuple[int, int]) -> scipy.sparse.csr_matrix:
        """A sparse matrix that was recorded by rows, columns and values."""
        index = self.numbers(f"{name}_rows", shape[0]), self.numbers(f"{name}_cols", shape[1])
        return scipy.sparse.csr_matrix((self[f"{name}_vals"], index), shape=shape)


def read(path: str | os.PathLike) -> Arrays:
    """The recorded arrays; raises SeaError if the file is no trajectory."""
    arrays = Arrays(files.read_npz(path, None, REMEDY))
    for name in ("train", "num_users", "num_items", "losses", *MODALITIES):
        arrays[name]
    return arrays


def config_of(arrays: Arrays, **how) -> Config:
    """The settings under which the trajectory was recorded, with those of how it is computed given by name.

    Raises: SeaError for a model, a setting or a value that cannot be replayed.
    """
    if "model" not in arrays:
        rate = float(arrays["learning_rate"])
        return Config(
            modalities=MODALITIES,
            temperature=float(arrays["temperature"]),
            alpha=float(arrays["alpha_solosim"]),
            ureg=float(arrays["ureg"]),
            learning_rate=rate,
            club_learning_rate=rate,
            club_steps=int(arrays["club_inner_steps"]),
            club_fit_pairs=str(arrays["club_fit_pairs"]),
            **how,
        )
    model = str(arrays["model"])
    if model not in BACKBONE_OF:
        raise SeaError(f"the trajectory's model {model!r} is none of {', '.join(BACKBONE_OF)}.")
    backbone = BACKBONE_OF[model]
    known, fixed = ALL_HAVE | SETTINGS[backbone], {"weight_decay": 0.0} | FIXED.get(backbone, {})
    # VBPR joins the features in the modalities' order, recorded with the text first.
    values = {"backbone": backbone, "modalities": MODALITIES[::-1] if backbone == "vbpr" else MODALITIES}
    for name, value in arrays.below("config/").items():
        value = value.item()
        if name in known:
            ours = known[name]
            values |= ours(value) if callable(ours) else {ours: value}
        elif name not in fixed:
            raise SeaError(f"the trajectory's config/{name} is no setting of {model} that is known.")
        elif fixed[name] not in (None, value):
            raise SeaError(f"the trajectory's config/{name}={value} cannot be replayed; only {fixed[name]} can.")
    width = arrays.get("config/feat_embed_dim")
    if width is not None and width != values.get("embedding_dim"):
        raise SeaError(f"the trajectory's config/feat_embed_dim={width} cannot be replayed; only embedding_size can.")
    whole = {field.name for field in dataclasses.fields(Config) if kind_of(field)[0] is int}
    values |= {name: int(x) for name, x in values.items() if name in whole and float(x).is_integer()}
    if backbone == "smore":
        values["smore_knn_k"] = tuple(int(arrays[f"config/{name}_knn_k"]) for name in MODALITIES)
    return Config(**values, **how)


def prepare(arrays: Arrays, config: Config) -> loop.Training:
    """A training at the recorded start, its graphs made from the recorded pairs and features."""
    num_users, num_items = int(arrays["num_users"]), int(arrays["num_items"])
    features = {name: arrays[name] for name in MODALITIES}
    bundle = bundles.build(
        "trajectory", {"train": arrays["train"]}, num_users, num_items, features, knn_k_max=num_items
    )

    def initial(whole):
        club_params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), whole.club_params)
        if "model" not in arrays:
            club_params = recorded(arrays, "init/club/", club_params, config)
        return start(recorded(arrays, "init/", whole.params, config), club_params, jax.random.key(0), config)

    run = loop.prepare(bundle, config, initial)
    if "model" in arrays:
        return run
    # SEA's item graph is one of the inputs: which items are near was not recorded.
    item = arrays.matrix("item_graph", (num_items, num_items))
    shares = datas.divide(datas.gather(run.bundle, run.config, {"item": item}), run.config, run.layout.parts)
    return run._replace(data=parallel.place_data(shares, run.layout))


def name_of(path, config: Config) -> str:
    """The recorded name of one of our parameters, given its tree path."""
    name = "/".join(key.key for key in path)
    return NAMES.get(config.backbone, str)(name)


def recorded(arrays: Arrays, prefix: str, like, config: Config):
    """Recorded parameters in the shape of our tree."""

    def leaf(path, like):
        name = prefix + name_of(path, config)
        if arrays[name].shape != like.shape:
            raise SeaError(f"the trajectory's {name} has the shape {arrays[name].shape}; {like.shape} is expected.")
        return arrays[name]

    return jax.tree_util.tree_map_with_path(leaf, like)


def recorded_noise(arrays: Arrays, at: str, model, rows: int):
    """What the model draws in a step, or at evaluation, as it was recorded: each array under its own name.

    Rows of a short batch that are missing are zeros, as they weigh nothing.
    """
    like = jax.eval_shape(model.draw, jax.random.key(0))
    if like is None:
        return None
    if not at.startswith("step"):
        like = {kind: of for kind, of in like.items() if arrays.below(f"{at}{kind}/")}

    def leaf(path, like):
        name = at + "/".join(key.key for key in path)
        x = arrays[name].astype(like.dtype)
        if len(x) == rows:
            x = np.pad(x, [(0, like.shape[0] - rows)] + [(0, 0)] * (x.ndim - 1))
        if x.shape != like.shape:
            raise SeaError(f"the trajectory's {name} has the shape {x.shape}; {like.shape} is expected.")
        return x

    return jax.tree_util.tree_map_with_path(leaf, like) or None


def recorded_epoch(arrays: Arrays, number: int) -> dict[str, np.ndarray]:
    """What was drawn for the epoch of a step, from the step itself or from the epoch's first."""
    drawn = arrays.below(f"step{first_of_epoch(arrays, number)}/") | arrays.below(f"step{number}/")
    return {name: drawn[name] for name in PER_EPOCH if name in drawn}


def first_of_epoch(arrays: Arrays, number: int) -> int:
    """The first step of a step's epoch."""
    return int(np.argmax(arrays["epoch_of_step"] == arrays["epoch_of_step"][number]))


PER_EPOCH = ("kept_edges",)


class Programs(NamedTuple):
    """What a replay calls, compiled for the layout. drawn: what was recorded of the epoch."""

    step: Callable  # (state, data, drawn, batch, draws) -> what the step returns, gradient, rows, aligned rows
    embed: Callable  # (params, data, noise) -> (user rows, item rows)
    graphs: Callable  # (data, drawn) -> rows of users, rows of items of each graph


def make_programs(run: loop.Training) -> Programs:
    """The functions of training, with what was recorded in the place of what training draws."""
    model, config, layout, divided = run.model, run.config, run.layout, run.divided
    how = {"model": model, "config": config, "axis": layout.axis, "divided": divided}

    def of_epoch(data, drawn) -> Data:
        return EPOCHS[config.backbone](model, data, drawn) if drawn else data

    def train_step(state, data, drawn, batch, draws):
        data = of_epoch(data, drawn)
        # The step computes the same once more, which the compiler notices.
        (_, (_, found)), gradient = loss_and_gradient(state, data, batch, draws, **how)
        rows = found.views.get("propagated", (found.user, found.item))
        aligned = {name: part.aligned for name, part in found.parts.items()}
        return step(state, data, batch, draws, **how), gradient, rows, aligned

    def embed(params, data, noise):
        found = model.apply({"params": params}, data, noise)
        return found.user, found.item

    def graphs(data, drawn):
        users, items = (ax.row_index(x.shape[0], layout.axis) for x in (data.user_weights, data.item_weights))
        real = [users < model.num_users, items < model.num_items]
        nodes = jnp.where(jnp.concatenate(real), jnp.append(users, model.num_users + items), -1)
        rows = product(of_epoch(data, drawn).adjacency, jax.nn.one_hot(nodes, sum(counts)), layout.axis)
        found = {"user_item_graph": (rows[: len(users)], rows[len(users) :])}
        for name, matrix in data.graphs.items():
            of_users = name.startswith("user")
            own = jnp.where(real[1 - of_users], users if of_users else items, -1)
            found[f"{name}_graph"] = product(matrix, jax.nn.one_hot(own, counts[1 - of_users]), layout.axis)
        return found

    counts = model.num_users, model.num_items
    state, params = parallel.axes_of(divided), parallel.axes_of(divided.params)
    ins = (state, datas.AXES, None, None, None)
    return Programs(
        step=parallel.on_devices(train_step, layout, ins, ((state, None, None), params, 0, 0)),
        embed=parallel.on_devices(embed, layout, (params, datas.AXES, None), 0),
        graphs=parallel.on_devices(graphs, layout, (datas.AXES, None), 0),
    )


def replay(arrays: Arrays, config: Config) -> dict[str, np.ndarray]:
    """What our functions compute on the recorded batches and draws, under the recorded names.

    Args:
      arrays: the trajectory.
      config: its settings; on one device under jit, on more under pmap.
    """
    run = prepare(arrays, config)
    programs, counts = make_programs(run), (run.bundle.num_users, run.bundle.num_items)
    state, found, last = run.progress.state, {}, len(arrays["losses"]) - 1
    names = arrays["loss_names"].tolist() if "model" in arrays else SEA_LOSSES

    def whole(rows):
        return [parallel.whole_rows(x, count, run.layout) for x, count in zip(rows, counts, strict=True)]

    def note_graphs(drawn, at=""):
        for name, rows in programs.graphs(run.data, drawn).items():
            if isinstance(rows, tuple):
                rows = np.concatenate(whole(rows))
                name = "masked_graph" if drawn else name
            else:
                rows = parallel.whole_rows(rows, rows.shape[-1], run.layout)
            if f"{at}{name}_rows" in arrays:
                found[at + name] = rows

    def note_evaluation(at, rows=None):
        if f"{at}scores" in arrays:
            if rows is None:
                noise = recorded_noise(arrays, at, run.model, 0)
                embed = run.programs.embed if noise is None else programs.embed
                rows = whole(embed(state.params, run.data, *([] if noise is None else [noise])))
            found[f"{at}user_embedding"], found[f"{at}item_embedding"] = rows
            found[f"{at}scores"] = rows[0] @ rows[1].T

    if "model" in arrays:
        note_graphs({})
        if "edge_weights" in arrays:
            pairs = run.data.interactions
            weigh = jax.jit(lambda pairs: thinning.pair_weights(pairs, thinning.first_of_pair(pairs), counts[1]))
            found["edge_weights"] = np.asarray(weigh(pairs))
        if config.backbone not in STALE_EVALUATION:
            note_evaluation("eval_init/")
    rows, losses = None, []
    for number in range(last + 1):
        at = f"step{number}/"
        batch, draws = recorded_step(arrays, number, run)
        drawn = recorded_epoch(arrays, number) if config.backbone in EPOCHS else {}
        if f"{at}user_graph_neighbours" in arrays:
            data, *drawn_anew = users_graph(arrays, number, run)
            run = run._replace(data=data)
            found[f"{at}user_graph_weights"], found[f"{at}user_graph_neighbours"] = drawn_anew
        (state, parts, fitted), gradient, rows, aligned = programs.step(state, run.data, drawn, batch, draws)
        rows = whole(rows)
        if f"{at}user_embedding" in arrays:
            found[f"{at}user_embedding"], found[f"{at}item_embedding"] = rows
        if arrays.below(f"{at}grad/"):
            for name, x in aligned.items():
                found[f"{at}projection/{name}"] = parallel.whole_rows(x, counts[1], run.layout)
            note_parameters(found, f"{at}grad/", gradient, run)
        if f"{at}masked_graph_rows" in arrays:
            note_graphs(drawn, at)
        missing = set(names) - set(parts)
        if missing:
            raise SeaError(f"the trajectory's loss {min(missing)!r} is none of {', '.join(parts)}.")
        losses.append([float(parts[name]) for name in names])
        if f"{at}club_nll" in arrays:
            found[f"{at}club_nll"] = np.asarray(fitted)
    note_parameters(found, f"after{last + 1}/", state.params, run)
    if "model" in arrays:
        note_evaluation(f"eval_after{last + 1}/", rows if config.backbone in STALE_EVALUATION else None)
    else:
        for path, leaf in jax.tree_util.tree_leaves_with_path(state.club_params):
            found[f"after{last + 1}/club/{name_of(path, run.config)}"] = np.asarray(leaf)
    return found | {"losses": np.array(losses)}


SEA_LOSSES = ["bpr", "solosim", "club_text", "club_image", "total"]


def recorded_step(arrays: Arrays, number: int, run: loop.Training) -> tuple[Batch, Draws]:
    """A step's batch, padded to the batch size as an epoch's last one is, and its draws."""
    at, bundle = f"step{number}/", run.bundle
    counts = {"users": bundle.num_users, "positives": bundle.num_items, "negatives": bundle.num_items}
    columns = [arrays.numbers(at + name, count) for name, count in counts.items()]
    rows = len(columns[0])
    if "model" not in arrays:
        of = {name: arrays.numbers(f"{at}club_negative_permutation/{name}", bundle.num_items) for name in MODALITIES}
        return Batch(*columns, np.ones(rows, np.float32)), Draws(of)
    if rows > run.config.batch_size:
        raise SeaError(f"the trajectory's {at}users has {rows} rows, more than config/batch_size.")
    padded = [np.pad(x, (0, run.config.batch_size - rows)) for x in (*columns, np.ones(rows, np.float32))]
    return Batch(*padded), Draws({}, None, recorded_noise(arrays, at, run.model, rows))


def note_parameters(found: dict, prefix: str, tree, run: loop.Training) -> None:
    """Notes every leaf of parameters or gradients, undivided, under its recorded name."""
    whole = parallel.undivide(tree, run.divided.params, run.whole.params, run.layout)
    for path, leaf in jax.tree_util.tree_leaves_with_path(whole):
        found[prefix + name_of(path, run.config)] = np.asarray(leaf)


class Worst(dict):
    """The worst deviation of each kind as a fraction of its tolerance."""

    def note(self, kind: str, error, tolerance) -> None:
        """One deviation or an array of them; what is not finite is worse than everything."""
        fraction = float(np.max(error / tolerance))
        self[kind] = max(self.get(kind, 0.0), fraction if np.isfinite(fraction) else np.inf)

    def norm(self, kind: str, found, expected, relative: float, absolute: float = 0.0) -> None:
        """|found - expected| against relative |expected| + absolute, in the L2 norm."""
        error = np.linalg.norm(found - expected) if found.shape == expected.shape else np.inf
        self.note(kind, error, max(relative * np.linalg.norm(expected) + absolute, 1e-30))


def deviations(arrays: Arrays, found: dict) -> dict[str, float]:
    """The worst deviation of each kind as a fraction of its tolerance; at most 1 passes."""
    return dict((of_mmrec if "model" in arrays else of_sea)(arrays, found))


def of_sea(arrays: Arrays, found: dict) -> Worst:
    """Deviations from the released SEA.

    Tolerances: bpr, solosim, total 1e-5 relative; CLUB terms 1e-3 relative (1e-2 across modalities) plus 1e-4;
    embeddings and projections 1e-4 in norm; gradients 1e-3 of the norm plus 1e-7; the inner objective 1e-3 of
    max(1, |reference|); parameters at the end 5e-3 in norm, their change from the start 1 %.
    """
    worst, across = Worst(), str(arrays["club_fit_pairs"]) == "across_modalities"
    for column, kind in enumerate(("bpr", "solosim", "club", "club", "total")):
        expected, error = arrays["losses"][:, column], np.abs(found["losses"] - arrays["losses"])[:, column]
        if kind == "club":
            worst.note(kind, error, (1e-2 if across else 1e-3) * np.abs(expected) + 1e-4)
        else:
            worst.note(kind, error, 1e-5 * np.abs(expected))
    last = len(arrays["losses"]) - 1
    for name, value in found.items():
        kind = name.split("/")[1] if "/" in name else name
        if kind in ("user_embedding", "item_embedding", "projection"):
            worst.norm("projection" if kind == "projection" else "embedding", value, arrays[name], 1e-4)
        elif kind == "grad" and not name.endswith(NO_SIGNAL["sea"]):
            near_clamp = across and name.startswith(f"step{last}/") and ("generic_map" in name or "unique_map" in name)
            worst.norm("gradient", value, arrays[name], 1e-2 if near_clamp else 1e-3, 1e-7)
        elif kind == "club_nll":
            expected = arrays[name]
            worst.note("club_nll", np.abs(value - expected), 1e-3 * np.maximum(1, np.abs(expected)))
        elif name.startswith("after") and not name.endswith(NO_SIGNAL["sea"]):
            expected, first = arrays[name], arrays[f"init/{name.partition('/')[2]}"]
            worst.norm("parameters", value, expected, 5e-3)
            worst.norm("change", value - first, expected - first, 1e-2)
    return worst


def of_mmrec(arrays: Arrays, found: dict) -> Worst:
    """Deviations from MMRec's model.

    Tolerances: graphs 1e-6 in norm, with the same entries; each loss part 1e-5 relative, of float32 and float64;
    embeddings and scores 1e-5 in norm (dragon 1e-4); gradients 1e-3 of the norm plus 1e-10; the parameters' change
    1 %. Where the true gradient is zero, that found is below 1e-9 and moves its parameter by less than 1e-5.
    """
    worst, backbone = Worst(), BACKBONE_OF[str(arrays["model"])]
    for precision in ("losses", "losses_float64"):
        for name, value, expected in zip(arrays["loss_names"], found["losses"].T, arrays[precision].T, strict=True):
            worst.note(str(name), np.abs(value - expected), 1e-5 * np.maximum(np.abs(expected), 1e-30))
    for name, value in found.items():
        place, _, rest = name.partition("/")
        if name.endswith("_graph"):
            expected = arrays.matrix(name, value.shape).toarray()
            worst.norm("graph", value, expected, 1e-6)
            worst.note("graph", float(np.any((value != 0) != (expected != 0))), 0.5)
        elif name.endswith("user_graph_neighbours"):
            worst.note("graph", float(not np.array_equal(value, arrays[name])), 0.5)
        elif name.endswith(("edge_weights", "user_graph_weights")):
            worst.norm("graph", value, arrays[name], 1e-6)
        elif rest.startswith("grad/"):
            if rest.endswith(NO_SIGNAL.get(backbone, ("-",))):
                worst.note("gradient", np.abs(value), 1e-9)
            else:
                worst.norm("gradient", value, arrays[name], 1e-2 if rest in IMPRECISE else 1e-3, 1e-10)
        elif place.startswith("after"):
            first = arrays[f"init/{rest}"]
            if rest.endswith(NO_SIGNAL.get(backbone, ("-",))):
                worst.note("change", np.abs(value - first), 1e-5)
            else:
                worst.norm("change", value - first, arrays[name] - first, 1e-2)
        elif rest in ("user_embedding", "item_embedding", "scores"):
            kind = "evaluation" if place.startswith("eval") else "embedding"
            worst.norm(kind, value, arrays[name], 1e-4 if backbone in STALE_EVALUATION else 1e-5)
    return worst


IMPRECISE = ("grad/query_common/dense0/bias",)  # of mgcn: tiny by cancellation
