"""Backbones on any number of modalities of any width; initial values follow PyTorch's; both carry the separation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sea_jax import bundle as bundles
from sea_jax.config import Config, modality_pairs
from sea_jax.data import divide
from sea_jax.errors import SeaError
from sea_jax.models.layers import normalise
from sea_jax.models.separation import Representation, Separated, Separation
from sea_jax.objective import Batch, Draws, objective
from sea_jax.training import loop
from sea_jax.training.state import host_data, init_state, make_model

USERS, ITEMS = 30, 25


def dataset(widths, seed=0):
    rng = np.random.default_rng(seed)
    pairs = np.unique(rng.integers(0, [USERS, ITEMS], size=(260, 2)), axis=0)
    pairs = pairs[rng.permutation(len(pairs))]
    pairs = pairs[pairs[:, 1] != 7]  # an item without any interaction
    splits = {"train": pairs[:150], "valid": pairs[150:190], "test": pairs[190:]}
    features = {name: rng.normal(size=(ITEMS, width)) for name, width in widths.items()}
    return bundles.build("random", splits, USERS, ITEMS, features, knn_k_max=10)


def one_epoch(bundle, **settings):
    settings = {"separation": "club", "alignment": "solosim"} | settings
    config = Config(batch_size=64, club_steps=2, topk=(20,), **settings)
    return loop.advance(loop.prepare(bundle, config))


@pytest.mark.parametrize(
    ("backbone", "split", "widths"),
    [
        ("sea", "input", {"image": 7, "text": 5}),
        ("sea", "representation", {"image": 6, "audio": 3, "video": 9}),
        ("sea", "input", {"text": 4}),
        ("vbpr", "input", {"image": 6, "audio": 3, "video": 9}),
        ("vbpr", "representation", {"text": 5}),
    ],
)
def test_trains_on_any_modalities(backbone, split, widths):
    run, record = one_epoch(dataset(widths), backbone=backbone, split=split)
    assert np.isfinite(list(record.values())).all()
    assert ("loss/solosim" in record) == (len(widths) > 1)
    assert {f"loss/club_{name}" for name in widths} <= set(record)
    user, item = loop.embeddings(run, run.progress.state.params)
    assert user.shape == (USERS, 64 * len(widths) if backbone == "sea" else 128)
    assert item.shape == (ITEMS, user.shape[1])
    parts = run.programs.separate(run.progress.state.params, run.data)
    for part in parts.values():
        assert {x.shape for x in part} == {(ITEMS, 32)}
        np.testing.assert_allclose(np.linalg.norm(part.aligned, axis=1), 1, rtol=1e-5)


def parts_and_objective(config):
    """Gradient and named parts of the objective on random parts of two modalities, without a model."""
    rng = np.random.default_rng(0)

    def rows(width=32):
        return jnp.asarray(rng.normal(size=(ITEMS, width)), jnp.float32)

    parts = {m: Separated(rows(), rows(), normalise(rows())) for m in ("image", "text")}
    representation = Representation(rows(), rows(), parts, {})
    data = jax.tree.map(jnp.asarray, divide(host_data(dataset({"image": 3, "text": 3}), config), config)[0])
    index = np.arange(20, dtype=np.int32)
    batch = Batch(index, index, index[::-1].copy(), np.ones(20, np.float32))
    draws = Draws({m: jnp.asarray(rng.permutation(ITEMS)) for m in parts})

    def loss(representation):
        conditional = lambda x: (0.5 * x, 0.1 * x)  # noqa: E731
        return objective(representation, batch, draws, conditional, data, config)

    (total, named), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(representation)
    return total, named, gradient


@pytest.mark.parametrize(
    "separation", ["club", "club_all_pairs", "l1out", "orthogonal", "subtraction", "negative_l2", "none"]
)
def test_every_separation_weighs_in(separation):
    total, named, gradient = parts_and_objective(Config(separation=separation, ureg=0.5, alpha=0.25))
    kind = "club" if separation.startswith("club") else separation
    separated = 0.0 if separation == "none" else float(named[kind])
    assert float(total) == pytest.approx(
        float(named["bpr"]) + 0.5 * separated + 0.25 * float(named["solosim"]), rel=1e-5
    )
    moved = float(jnp.abs(gradient.parts["text"].unique).sum())
    assert (moved > 0) == (separation != "none")


@pytest.mark.parametrize("alignment", ["solosim", "infonce_symmetric", "cosine", "none"])
def test_every_alignment_weighs_in(alignment):
    total, named, gradient = parts_and_objective(Config(alignment=alignment, ureg=0.0, alpha=0.25))
    assert float(total) == pytest.approx(float(named["bpr"]) + 0.25 * float(named.get(alignment, 0)), rel=1e-5)
    assert (float(jnp.abs(gradient.parts["text"].aligned).sum()) > 0) == (alignment != "none")


def test_the_generic_part_is_the_larger_half():
    separation = Separation(width=7)
    readers = separation.bind(separation.init(jax.random.key(0), np.ones((3, 7)), np.ones(3), None, method="separate"))
    assert [reader.kernel.shape[0] for reader in readers.readers()] == [4, 4, 3]


def test_named_pairs_are_the_ones_aligned():
    names = ("image", "audio", "video")
    assert modality_pairs(names, ()) == (("audio", "image"), ("video", "image"), ("video", "audio"))
    assert modality_pairs(names, ("image:video",)) == (("image", "video"),)
    for wrong in ("audio:text", "audio", "audio:audio"):
        with pytest.raises(SeaError, match="must name two of the modalities"):
            modality_pairs(names, (wrong,))


def test_initial_values_are_pytorchs():
    bundle = dataset({"image": 400, "text": 5})
    config = Config()
    data = divide(host_data(bundle, config), config)[0]
    params = init_state(make_model(bundle, config), data, config).params
    kernel = np.asarray(params["image"]["item_linear"]["kernel"])
    bound = 400**-0.5
    assert np.abs(kernel).max() <= bound
    assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)
    assert params["image_user_preference"].std() == pytest.approx(np.sqrt(2 / (USERS + 64)), rel=0.06)
    np.testing.assert_allclose(params["user_modality_weight"].sum(axis=1), 1, rtol=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run():
    bundle = dataset({"image": 7, "text": 5})
    run = loop.prepare(bundle, Config(batch_size=64, club_steps=2, topk=(20,), learning_rate=1e30))
    with pytest.raises(SeaError, match=r"loss/\w+ is (nan|inf) in epoch"):
        for _ in range(3):
            run, _ = loop.advance(run)
