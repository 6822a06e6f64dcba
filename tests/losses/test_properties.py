"""What every loss and bound keeps: order of the samples, jit, vmap, bfloat16, extremes, exact gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from sea_jax import losses
from sea_jax.models.critics import joint_and_independent

ROWS, WIDTH = 12, 4


def mean(pair):
    return pair[0] / pair[1]


# Each from x and y of one shape, rows paired; conditionals are made of x.
def conditional(x):
    return 0.7 * x, jnp.tanh(0.5 * x - 0.2)


def table(x, y):
    return jnp.matmul(x, y.T)


LOSSES = {
    "gaussian_nll": lambda x, y: mean(losses.gaussian_nll(*conditional(x), y)),
    "club_sampled": lambda x, y: mean(losses.club_sampled(*conditional(x), y, jnp.roll(y, 1, axis=0))),
    "club_released": lambda x, y: losses.club_released(*conditional(x), y, jnp.roll(y, 1, axis=0)),
    "club_all_pairs": lambda x, y: mean(losses.club_all_pairs(*conditional(x), y)),
    "l1out": lambda x, y: mean(losses.l1out(*conditional(x), y, block=5)),
    "vub": lambda x, y: mean(losses.vub(*conditional(x))) + 0 * jnp.sum(y),
    "solosim": lambda x, y: mean(losses.solosim(x, y, jnp.arange(x.shape[0]), temperature=0.7, block=5)),
    "info_nce": lambda x, y: losses.info_nce(table(x, y)),
    "nwj": lambda x, y: losses.nwj(*joint_and_independent(table(x, y))),
    "tuba": lambda x, y: losses.tuba(*joint_and_independent(table(x, y)), 0.3),
    "donsker_varadhan": lambda x, y: losses.donsker_varadhan(*joint_and_independent(table(x, y))),
    "smile": lambda x, y: losses.smile(*joint_and_independent(table(x, y)), 5.0),
    "orthogonality": lambda x, y: mean(losses.orthogonality(x, y)),
    "frobenius": losses.frobenius,
    "negative_l2": lambda x, y: mean(losses.negative_l2(x, y)),
    "cosine_alignment": lambda x, y: mean(losses.cosine_alignment(x, y)),
    "bpr": lambda x, y: mean(losses.bpr(x[:, 0], y[:, 0])),
}
SHIFTED = ("club_sampled", "club_released")  # their negatives depend on the order


@pytest.fixture
def pair(rng):
    x = rng.normal(size=(ROWS, WIDTH)).astype(np.float32)
    return jnp.asarray(x), jnp.asarray(0.6 * x + 0.8 * rng.normal(size=x.shape).astype(np.float32))


@pytest.mark.parametrize("name", LOSSES)
def test_jit_vmap_and_bfloat16_change_nothing(name, pair):
    loss = LOSSES[name]
    expected = float(loss(*pair))
    assert float(jax.jit(loss)(*pair)) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    batched = jax.vmap(loss)(*(jnp.stack([x, x[::-1], 2 * x]) for x in pair))
    np.testing.assert_allclose(batched[0], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(batched[2], loss(*(2 * x for x in pair)), rtol=1e-5, atol=1e-6)
    half = loss(*(x.astype(jnp.bfloat16) for x in pair))
    assert half.dtype == jnp.bfloat16
    assert float(half) == pytest.approx(expected, rel=0.06, abs=0.06)


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in SHIFTED])
def test_the_order_of_the_samples_does_not_matter(name, pair, rng):
    order = rng.permutation(ROWS)
    shuffled = LOSSES[name](*(x[order] for x in pair))
    assert float(shuffled) == pytest.approx(float(LOSSES[name](*pair)), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name, pair):
    with jax.enable_x64(True):
        arguments = tuple(jnp.asarray(np.asarray(x), jnp.float64) for x in pair)
        check_grads(LOSSES[name], arguments, order=1, modes=["rev"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("case", ["identical", "zero", "large", "far"])
@pytest.mark.parametrize("name", LOSSES)
def test_extremes_stay_finite(name, case, pair):
    x, y = pair
    if case == "identical":
        x, y = jnp.ones_like(x), jnp.ones_like(y)
    elif case == "zero":
        x, y = jnp.zeros_like(x), jnp.zeros_like(y)
    elif case == "large":  # unit vectors at a temperature of 0.7, and critics, keep within these scores
        x, y = 3 * x, 3 * y
    else:
        y = -y
    value, gradient = jax.value_and_grad(LOSSES[name], argnums=(0, 1))(x, y)
    assert np.isfinite(value)
    for leaf in gradient:
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("limit", [-1.0, 1.0, -20.0, 20.0])
def test_limits_of_the_log_variance_stay_finite(limit, pair):
    x, y = pair

    def total(mean_, logvar, y):
        return (
            mean(losses.gaussian_nll(mean_, logvar, y))
            + mean(losses.club_all_pairs(mean_, logvar, y))
            + mean(losses.l1out(mean_, logvar, y))
            + mean(losses.vub(mean_, logvar))
        )

    found = jax.value_and_grad(total, argnums=(0, 1, 2))(x, jnp.full_like(x, limit), y)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))


def test_one_sample_is_refused_where_two_are_needed(pair):
    one = [x[:1] for x in pair]
    with pytest.raises(ValueError, match="two samples"):
        LOSSES["l1out"](*one)
    with pytest.raises(ValueError, match="two samples"):
        joint_and_independent(table(*one))
    assert float(LOSSES["club_all_pairs"](*one)) == pytest.approx(0.0, abs=1e-6)
    assert float(LOSSES["info_nce"](*one)) == pytest.approx(0.0, abs=1e-6)


def test_a_bpr_far_on_the_wrong_side_neither_overflows_nor_stops_learning():
    value, gradient = jax.value_and_grad(lambda s: losses.bpr(s, jnp.zeros(1))[0])(jnp.array([-1e4]))
    assert float(value) == pytest.approx(1e4 / np.log(2), rel=1e-6)
    assert float(gradient[0]) == pytest.approx(-1 / np.log(2), rel=1e-6)


def test_info_nce_and_solosim_are_one_bound(pair):
    x, y = pair
    assert float(LOSSES["info_nce"](x / 0.7, y)) == pytest.approx(
        np.log(ROWS) - float(LOSSES["solosim"](x, y)), rel=1e-5
    )


def test_joint_and_independent_are_the_diagonal_and_the_rest():
    joint, independent = joint_and_independent(jnp.arange(9.0).reshape(3, 3))
    assert joint.tolist() == [0, 4, 8]
    assert sorted(np.asarray(independent).ravel().tolist()) == [1, 2, 3, 5, 6, 7]
