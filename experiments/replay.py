"""Replays a recorded trajectory of the released implementation through the functions that training uses.

`python experiments/replay.py --trajectory=FILE.npz` prints one JSON object with the worst deviation of each kind,
as a fraction of its tolerance where it has one, and exits 1 if any tolerance is exceeded.
"""

import json
from pathlib import Path

import jax
import numpy as np
import scipy.sparse
from absl import flags

from experiments import program
from sea_jax import adjacency
from sea_jax.config import Config
from sea_jax.errors import SeaError
from sea_jax.models.backbones import SEA
from sea_jax.objective import Batch, Draws
from sea_jax.sampling import interactions
from sea_jax.training import loop, parallel
from sea_jax.training.state import divide_data, start
from sea_jax.training.step import loss_and_gradient, step

MODALITIES = ("image", "text")
HOW = ("propagation", "club_fit", "devices")  # settings of how it is computed, which a replay may choose
NO_SIGNAL = ("projection_head/dense0/bias", "projection_head/dense1/bias")  # BatchNorm removes them: pure rounding


def load(path: Path) -> dict[str, np.ndarray]:
    """The recorded arrays; raises SeaError if the file is no trajectory."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as recorded:
            arrays = dict(recorded)
    except OSError:
        raise
    except Exception as error:
        raise SeaError(
            f"{path} cannot be read as an npz file; --trajectory must name a recorded trajectory."
        ) from error
    for name in ("train", "num_users", "num_items", "losses", "club_fit_pairs", *MODALITIES):
        if name not in arrays:
            raise SeaError(f"{path} has no array {name!r}; --trajectory must name a recorded trajectory.")
    return arrays


def parameter_name(path) -> str:
    """The recorded name of one of our parameters, given its tree path."""
    name = "/".join(key.key for key in path).replace("separation/", "").replace("mlp_", "mlp")
    return name.replace("_user_preference", "/user_preference")


def parameters(arrays: dict[str, np.ndarray], prefix: str, like):
    """Recorded parameters (or gradients) in the shape of our tree."""
    return jax.tree_util.tree_map_with_path(lambda path, _: arrays[prefix + parameter_name(path)], like)


def config_of(arrays: dict[str, np.ndarray], **how) -> Config:
    """The settings under which the trajectory was recorded, with those of how it is computed given by name."""
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


def replay(arrays: dict[str, np.ndarray], config: Config) -> dict[str, dict]:
    """What our functions compute on the recorded batches, under the recorded names.

    Args:
      arrays: the trajectory.
      config: its settings; on one device under jit, on more under pmap.
    """
    num_users, num_items = int(arrays["num_users"]), int(arrays["num_items"])
    features = {name: arrays[name] for name in MODALITIES}
    widths = tuple((name, x.shape[1]) for name, x in features.items())

    user_item = adjacency.normalised_adjacency(arrays["train"], num_users, num_items)
    index = (arrays["item_graph_rows"], arrays["item_graph_cols"])
    item_graph = scipy.sparse.csr_matrix((arrays["item_graph_vals"], index), shape=(num_items, num_items))
    train = interactions(arrays["train"], num_users)

    whole_model = SEA(num_users, num_items, widths)
    whole_data = divide_data(user_item, item_graph, features, train, config, 1)[0]
    like = jax.eval_shape(whole_model.init, jax.random.key(0), whole_data)["params"]
    params = parameters(arrays, "init/", like)
    club_like = {name: {"kernel": 0, "bias": 0} for name in ("mu0", "mu1", "logvar0", "logvar1")}
    club_params = parameters(arrays, "init/club/", club_like)
    state = start(params, club_params, jax.random.key(0), config)

    layout = parallel.layout(config, state)
    shares = divide_data(user_item, item_graph, features, train, config, layout.parts)
    model = SEA(num_users, num_items, widths, parts=layout.parts, axis=layout.axis)
    axes = parallel.axes_of(state)

    def gradient_of(state, data, batch, draws):
        (_, (_, representation)), gradient = loss_and_gradient(state, data, batch, draws, model, config, layout.axis)
        aligned = {name: part.aligned for name, part in representation.parts.items()}
        return gradient, (representation.user, representation.item, aligned)

    def train_step(state, data, batch, draws):
        return step(state, data, batch, draws, model=model, config=config, axis=layout.axis)

    ins = (axes, parallel.DATA_AXES, None, None)
    probe = parallel.on_devices(gradient_of, layout, ins, (parallel.axes_of(params), 0))
    run_step = parallel.on_devices(train_step, layout, ins, (axes, None, None))
    data, state = parallel.place_data(shares, layout), parallel.place_state(state, layout)

    found = {"losses": []}
    for number in range(len(arrays["losses"])):
        at = f"step{number}/"
        columns = [arrays[at + name] for name in ("users", "positives", "negatives")]
        batch = Batch(*columns, np.ones(len(columns[0]), np.float32))
        draws = Draws({name: arrays[f"{at}club_negative_permutation/{name}"] for name in MODALITIES})
        if f"{at}user_embedding" in arrays:
            gradient, (user, item, aligned) = probe(state, data, batch, draws)
            found[at + "user_embedding"] = parallel.whole_rows(user, num_users, layout)
            found[at + "item_embedding"] = parallel.whole_rows(item, num_items, layout)
            for name, rows in aligned.items():
                found[f"{at}projection/{name}"] = parallel.whole_rows(rows, num_items, layout)
            for path, leaf in jax.tree_util.tree_leaves_with_path(parallel.undivide(gradient, layout, params)):
                found[f"{at}grad/{parameter_name(path)}"] = np.asarray(leaf)
        state, losses, fitted = run_step(state, data, batch, draws)
        names = ("bpr", "solosim", "club_text", "club_image", "total")
        found["losses"].append([float(losses[name]) for name in names])
        found[at + "club_nll"] = np.asarray(fitted)
    for path, leaf in jax.tree_util.tree_leaves_with_path(parallel.undivide(state.params, layout, params)):
        found[f"after/{parameter_name(path)}"] = np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.club_params):
        found[f"after/club/{parameter_name(path)}"] = np.asarray(leaf)
    found["losses"] = np.array(found["losses"])
    return found


def relative_norm(found, expected) -> float:
    """|found - expected| / |expected| in the L2 norm."""
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-30))


def deviations(arrays: dict[str, np.ndarray], found: dict) -> dict[str, float]:
    """The worst deviation of each kind as a fraction of its tolerance; at most 1 passes.

    Tolerances: bpr, solosim, total 1e-5 relative; CLUB terms 1e-3 relative (1e-2 across modalities) plus 1e-4;
    embeddings and projections 1e-4 in norm; gradients 1e-3 of the norm plus 1e-7; the inner objective 1e-3 of
    max(1, |reference|); parameters at the end 5e-3 in norm, their change from the start 1 %.
    """
    across = str(arrays["club_fit_pairs"]) == "across_modalities"
    worst: dict[str, float] = {}

    def note(kind, error, tolerance):
        fraction = float(np.max(error / tolerance))
        worst[kind] = max(worst.get(kind, 0.0), fraction if np.isfinite(fraction) else np.inf)

    for column, kind in enumerate(("bpr", "solosim", "club", "club", "total")):
        expected, error = arrays["losses"][:, column], np.abs(found["losses"] - arrays["losses"])[:, column]
        if kind == "club":
            note(kind, error, (1e-2 if across else 1e-3) * np.abs(expected) + 1e-4)
        else:
            note(kind, error, 1e-5 * np.abs(expected))
    last = len(arrays["losses"]) - 1
    for name, value in found.items():
        kind = name.split("/")[1] if "/" in name else name
        if kind in ("user_embedding", "item_embedding", "projection"):
            note("projection" if kind == "projection" else "embedding", relative_norm(value, arrays[name]), 1e-4)
        elif kind == "grad" and not name.endswith(NO_SIGNAL):
            near_clamp = across and name.startswith(f"step{last}/") and ("generic_map" in name or "unique_map" in name)
            norm = np.linalg.norm(arrays[name])
            note("gradient", np.linalg.norm(value - arrays[name]), (1e-2 if near_clamp else 1e-3) * norm + 1e-7)
        elif kind == "club_nll" and name in arrays:
            expected = arrays[name]
            note("club_nll", np.abs(value - expected), 1e-3 * np.maximum(1, np.abs(expected)))
        elif name.startswith("after/"):
            parameter = name.removeprefix("after/")
            expected, start = arrays[f"after{last + 1}/{parameter}"], arrays[f"init/{parameter}"]
            if not parameter.endswith(NO_SIGNAL):
                note("parameters", relative_norm(value, expected), 5e-3)
                moved = np.linalg.norm(expected - start)
                note("change", np.linalg.norm(value - expected), 1e-2 * max(moved, 1e-30))
    return worst


def main(argv: list[str]) -> int:
    del argv
    arrays = load(Path(flags.FLAGS.trajectory))
    config = config_of(arrays, **{name: flags.FLAGS[name].value for name in HOW})
    program.prepare_platform(config)
    config = loop.resolved(config)
    with jax.default_matmul_precision("float32"):
        worst = deviations(arrays, replay(arrays, config))
    passed = all(fraction <= 1 for fraction in worst.values())
    print(json.dumps({"passed": passed, "worst_fraction_of_tolerance": worst}))
    return 0 if passed else 1


if __name__ == "__main__":
    flags.DEFINE_string("trajectory", None, "the recorded trajectory, an npz file", required=True)
    program.define_config_flags(HOW)
    program.run(main)
