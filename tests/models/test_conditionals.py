"""q(y | x) in its merged form against the formula in NumPy; the fit with it against a plain one."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sea_jax.config import Config
from sea_jax.data import Data
from sea_jax.models.conditionals import GaussianConditional, gaussian_columns, merge, unmerge
from sea_jax.models.separation import PART_WIDTH, Separated
from sea_jax.training.state import TrainState, make_optimisers
from sea_jax.training.step import fit_conditional

ROWS = 37


def parameters(rng, width=PART_WIDTH):
    shapes = jax.eval_shape(GaussianConditional(width).init, jax.random.key(0), jnp.zeros((1, width)))["params"]
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), jnp.float32), shapes)


def test_merging_can_be_undone(rng):
    params = parameters(rng)
    jax.tree.map(np.testing.assert_array_equal, unmerge(merge(params)), params)


@pytest.mark.usefixtures("either_platform")
def test_columns_equal_the_formula(rng):
    params, x = parameters(rng), rng.normal(size=(ROWS, PART_WIDTH)).astype(np.float32)
    columns = np.append(x, np.ones((ROWS, 1), np.float32), axis=1).T
    mean, logvar = gaussian_columns(merge(params), columns)

    def network(name):
        first, second = (jax.tree.map(np.float64, params[f"{name}{layer}"]) for layer in (0, 1))
        return np.maximum(x @ first["kernel"] + first["bias"], 0) @ second["kernel"] + second["bias"]

    np.testing.assert_allclose(mean.T, network("mu"), atol=1e-4)
    np.testing.assert_allclose(logvar.T, np.tanh(network("logvar")), atol=1e-5)


@pytest.mark.parametrize("some_missing", [False, True])
@pytest.mark.parametrize("fitted_on", ["within_modality", "across_modalities"])
def test_the_fit_equals_a_plain_one_pair_by_pair(rng, fitted_on, some_missing):
    """Twice five steps from one state, Adam's moments carried over, some items weighing nothing or lacking a modality.

    In double precision, as Adam enlarges the rounding of a gradient near 0.
    """
    config = Config(club_steps=5, club_fit_pairs=fitted_on, club_learning_rate=1e-2)
    optimiser = make_optimisers(config)[1]
    with jax.enable_x64(True):
        image, text = (
            Separated(*(jnp.asarray(rng.normal(size=(ROWS, PART_WIDTH))) for _ in range(3))) for _ in range(2)
        )
        real = jnp.asarray(np.arange(ROWS) < ROWS - 3, jnp.float64)
        present = {name: jnp.asarray(rng.random(ROWS) < 0.7, jnp.float64) for name in ("image", "text")}
        has = present if some_missing else dict.fromkeys(present, 1.0)
        of_image, of_text, of_both = (real * has["image"], real * has["text"], real * has["image"] * has["text"])
        pairs = {
            "within_modality": [(image.generic, image.unique, of_image), (text.generic, text.unique, of_text)],
            "across_modalities": [(text.generic, image.generic, of_both), (text.unique, image.unique, of_both)],
        }[fitted_on]
        data = Data(*[None] * len(Data._fields))
        data = data._replace(item_weights=real, present=present if some_missing else None)
        params = jax.tree.map(jnp.float64, parameters(rng))

        def objective(params):
            total = 0.0
            for x, y, weights in pairs:
                mean, logvar = GaussianConditional(PART_WIDTH).apply({"params": params}, x)
                total += jnp.sum(weights[:, None] * ((y - mean) ** 2 / jnp.exp(logvar) + logvar)) / 2 / weights.sum()
            return total

        expected, adam, values = params, optimiser.init(params), []
        for _ in range(10):
            value, gradient = jax.value_and_grad(objective)(expected)
            updates, adam = optimiser.update(gradient, adam)
            expected = optax.apply_updates(expected, updates)
            values.append(value)

        state = TrainState(None, None, params, optimiser.init(merge(params)), None, None)
        found = []
        for _ in range(2):
            club_params, adam_found, fitted = fit_conditional(state, {"image": image, "text": text}, data, config, None)
            state = state._replace(club_params=club_params, club_optimiser=adam_found)
            found.append(fitted)
    np.testing.assert_allclose(np.concatenate(found), values, rtol=1e-12)
    moments = [merge(tree) for tree in (adam[0].mu, adam[0].nu)]
    found, expected = (club_params, adam_found[0].mu, adam_found[0].nu), (expected, *moments)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-8)
