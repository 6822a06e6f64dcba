"""Solosim over drawn candidates: exact with all of them, an unbiased sum with some, a loss that is too small."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sea_jax import losses

ITEMS = 12


@pytest.fixture
def rows(rng):
    x = rng.normal(size=(2, ITEMS, 5))
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def sampled(anchors, positives, drawn, temperature=0.5, block=5):
    place = jnp.full(ITEMS, -1).at[drawn].set(jnp.arange(drawn.shape[0]))
    return losses.solosim_sampled(
        anchors, positives, positives[drawn], place,
        temperature=temperature, probability=drawn.shape[0] / ITEMS, block=block,
    )  # fmt: skip


def dense(anchors, positives, drawn, temperature=0.5):
    """By the definition."""
    logits = anchors @ positives.T / temperature
    own = jnp.diag(logits)
    others = jnp.zeros(ITEMS).at[drawn].set(ITEMS / len(drawn)) * (1 - jnp.eye(ITEMS))
    return jnp.sum(jnp.log(jnp.exp(own) + jnp.sum(others * jnp.exp(logits), axis=1)) - own)


@pytest.mark.parametrize("drawn", [(3,), (0, 7, 2, 11), tuple(range(ITEMS))])
def test_equals_its_definition(rows, drawn):
    anchors, positives = map(jnp.asarray, rows)
    drawn = np.array(drawn)
    expected, expected_gradient = jax.value_and_grad(dense, argnums=(0, 1))(anchors, positives, drawn)
    found, gradient = jax.value_and_grad(lambda *x: sampled(*x, drawn)[0], argnums=(0, 1))(anchors, positives)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-5)
    assert float(sampled(anchors, positives, drawn)[0]) == pytest.approx(float(found), rel=1e-6)


def test_all_candidates_give_solosim_itself(rows):
    anchors, positives = map(jnp.asarray, rows)
    expected = losses.solosim(anchors, positives, jnp.arange(ITEMS), temperature=0.5)
    np.testing.assert_allclose(sampled(anchors, positives, jnp.arange(ITEMS)), expected, rtol=1e-5)


def test_the_sum_is_unbiased_and_the_loss_too_small(rows):
    anchors, positives = map(jnp.asarray, rows)
    whole = float(losses.solosim(anchors, positives, jnp.arange(ITEMS), temperature=0.5)[0])
    partition = np.exp(anchors @ positives.T / 0.5).sum(axis=1)

    def draw(key):
        drawn = jax.random.permutation(key, ITEMS)[:4]
        one = jax.vmap(lambda a, p, i: sampled_row(a, p, i, drawn, positives))(anchors, positives, jnp.arange(ITEMS))
        return one, sampled(anchors, positives, drawn)[0]

    def sampled_row(anchor, positive, number, drawn, positives):
        """exp of one anchor's loss times exp(own): its inner sum."""
        place = jnp.full(ITEMS, -1).at[drawn].set(jnp.arange(4))[number]
        loss = losses.solosim_sampled(
            anchor[None], positive[None], positives[drawn], place[None], temperature=0.5, probability=4 / ITEMS
        )[0]
        return jnp.exp(loss + anchor @ positive / 0.5)

    sums, total = jax.vmap(draw)(jax.random.split(jax.random.key(0), 4000))
    error = np.std(sums, axis=0) / np.sqrt(4000)
    assert (np.abs(np.mean(sums, axis=0) - partition) < 4.5 * error).all()
    assert np.mean(total) < whole - 4 * np.std(total) / np.sqrt(4000)
