"""The code that the documents show runs, and says what the package computes."""

import dataclasses
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import sea_jax
from sea_jax import objective
from sea_jax.config import Config
from sea_jax.models.backbones import BACKBONES
from sea_jax.objective import Batch
from sea_jax.training import loop, step

ROOT = Path(__file__).parent.parent


def code_of(path: str, heading: str = "") -> str:
    """The first Python block of a document, after a heading."""
    text = (ROOT / path).read_text(encoding="utf-8").partition(heading)[2] if heading else (ROOT / path).read_text()
    return re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)


def test_sea_in_sixty_lines_is_the_package(demo):
    names: dict = {}
    exec(code_of("docs/sea.md"), names)
    config = Config(alpha=0.3, ureg=0.2, temperature=0.3, batch_size=64, club_learning_rate=1e-2, topk=(20,))
    run, _ = loop.advance(loop.prepare(sea_jax.load(demo), config))  # an epoch in which q learns something
    state, bundle, rng = run.progress.state, run.bundle, np.random.default_rng(0)
    u, pos = (jnp.asarray(column) for column in bundle.train[rng.permutation(len(bundle.train))[:40]].T)
    batch = Batch(u, pos, jnp.asarray(rng.integers(0, 50, 40), jnp.int32), jnp.ones(40))
    compute = jax.jit(lambda state, draws: step.loss_and_gradient(state, run.data, batch, draws, run.model, run.config))
    for seed in range(20):  # CLUB is clamped at 0, where there would be little to compare
        draws = step.draw(jax.random.key(seed), run.model, config)
        (total, (parts, representation)), gradient = compute(state, draws)
        if min(parts["club_image"], parts["club_text"]) > 0:
            break
    A = jnp.asarray(bundle.adjacency.toarray())
    S = jnp.asarray(step_graph(bundle, config))

    def plain(params):
        arguments = params, state.club_params, bundle.features, A, S, batch.users, batch.positives, batch.negatives
        return names["loss"](*arguments, draws.permutations, config.alpha, config.ureg, config.temperature)

    value, expected = jax.jit(jax.value_and_grad(plain))(state.params)
    np.testing.assert_allclose(total, value, rtol=1e-5)
    assert min(parts["club_image"], parts["club_text"]) > 0
    users, items, _ = names["forward"](state.params, bundle.features, A, S)
    for found, wanted in ((representation.user, users), (representation.item, items)):
        assert np.linalg.norm(found - wanted) < 1e-5 * np.linalg.norm(wanted)
    whole = np.sqrt(sum(float(jnp.vdot(x, x)) for x in jax.tree.leaves(expected)))
    apart = jax.tree.map(lambda a, b: float(jnp.linalg.norm(a - b)), gradient, expected)
    assert max(jax.tree.leaves(apart)) < 1e-5 * whole
    assert len(code_of("docs/sea.md").splitlines()) < 80


def step_graph(bundle, config):
    """The fused item graph by its definition: 0.1 of the image's neighbours, 0.9 of the text's, 1 / k each."""
    graph = np.zeros((bundle.num_items, bundle.num_items), np.float32)
    for name, weight in (("image", 0.1), ("text", 0.9)):
        for item, nearest in enumerate(bundle.neighbours[name][0][:, : config.knn_k]):
            graph[item, nearest] += weight / config.knn_k
    return graph


def test_the_readmes_ten_lines_run():
    names: dict = {}
    code = code_of("README.md", "## From Python")
    exec(code, names)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    items, scores = names["items"], names["scores"]
    assert items.shape == scores.shape == (2, 5)
    assert set(items.ravel()) <= set(names["toys"])
    assert (np.diff(scores, axis=1) <= 0).all()
    known = {item for user, item in names["clicks"] if user == "user-7"}
    assert not known & set(items[0])


def test_the_recipe_of_a_baseline_runs(demo):
    names: dict = {}
    exec(code_of("docs/extending.md"), names)
    bundle = sea_jax.load(demo)
    made = names["popularity"](bundle)
    counts = np.bincount(bundle.train[:, 1], minlength=bundle.num_items)
    found = []
    for user in range(bundle.num_users):
        held_out = set(bundle.test[bundle.test[:, 0] == user, 1].tolist())
        seen = set(bundle.train[bundle.train[:, 0] == user, 1].tolist())
        listed = [item for item in np.argsort(-counts, kind="stable").tolist() if item not in seen][:20]
        found.append(len(held_out & set(listed)) / len(held_out))
    np.testing.assert_allclose(names["recall"](bundle, made), np.mean(found), rtol=1e-6)


def test_tables_have_the_keys_of_their_settings():
    """objective's tables, the registry and config's choices are one list each."""
    choices = {field.name: set(field.metadata["choices"]) for field in dataclasses.fields(Config)}
    assert set(objective.RANKINGS) == choices["ranking_loss"]
    assert set(objective.SEPARATIONS) == choices["separation"] - {"none"}
    assert set(objective.ALIGNMENTS) == choices["alignment"] - {"none"}
    assert set(objective.OWN_TERMS) == choices["backbone"] == set(BACKBONES)
    assert set(objective.RANKED_BY_OWN_TERMS) <= set(BACKBONES)
