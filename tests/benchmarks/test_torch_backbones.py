"""The eager PyTorch steps that the backbones are timed against compute what the recorded trajectories say."""

from pathlib import Path

import numpy as np
import pytest

from sea_jax import replaying
from sea_jax.adjacency import normalised_adjacency

DATA = Path(__file__).parents[1] / "data" / "mmrec"


@pytest.mark.parametrize("name", ["lightgcn", "freedom", "bm3"])
def test_losses_of_the_recorded_trajectory(name):
    torch = pytest.importorskip("torch")
    from benchmarks import torch_backbones

    arrays = replaying.read(DATA / f"{name}.npz")
    users, items, train = int(arrays["num_users"]), int(arrays["num_items"]), arrays["train"]
    config = replaying.config_of(arrays)
    graphs = {"user_item": normalised_adjacency(train, users, items)}
    if name == "freedom":
        graphs["item"] = arrays.matrix("item_graph", (items, items))
    stepper = torch_backbones.STEPS[name](
        arrays.below("init/"), graphs, layers=config.layers, item_layers=config.item_layers,
        reg_weight=config.reg_weight, learning_rate=config.learning_rate, dropout=config.bm3_dropout,
    )  # fmt: skip
    for number, expected in enumerate(arrays["losses"]):
        at = f"step{number}/"
        if name == "freedom":
            kept = normalised_adjacency(train[arrays[f"{at}kept_edges"]], users, items)
            stepper.graphs["user_item"] = torch_backbones.sparse_tensor(kept)
        columns = [torch.from_numpy(arrays[at + x].astype(np.int64)) for x in ("users", "positives", "negatives")]
        masks = {x.removesuffix("_target"): torch.from_numpy(m) for x, m in arrays.below(f"{at}dropout_mask/").items()}
        found = stepper.step(*columns, masks)
        np.testing.assert_allclose([found[x] for x in arrays["loss_names"].tolist()], expected, rtol=1e-5)
