"""Every public loss checks the rank and shape of every argument at its door."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from sea_jax import losses

N, M, D, E = 5, 6, 3, 4
ROWS, OTHER_ROWS, WEIGHTS, SCALAR = np.ones((N, D)), np.ones((M, D)), np.ones(N), np.float32(1)
PLACES = np.zeros(N, np.int32)
GAUSSIAN = {"mean": ROWS, "logvar": ROWS, "y": ROWS}
SCORES = {"joint": WEIGHTS, "independent": np.ones((N - 1, N))}

# What each accepts, every argument given.
ACCEPTED = {
    "bpr": {"positive": WEIGHTS, "negative": WEIGHTS, "weights": WEIGHTS},
    "club_all_pairs": GAUSSIAN
    | {"weights": WEIGHTS, "moments": (SCALAR, np.ones(D), np.ones(D)), "centre": np.ones(D)},
    "club_released": GAUSSIAN | {"y_negative": ROWS, "weights": WEIGHTS},
    "club_sampled": GAUSSIAN | {"y_negative": ROWS, "weights": WEIGHTS},
    "cosine": {"a": ROWS, "b": ROWS},
    "cosine_alignment": {"a": ROWS, "b": ROWS, "weights": WEIGHTS},
    "donsker_varadhan": SCORES,
    "frobenius": {"a": ROWS, "b": np.ones((N, E)), "weights": WEIGHTS},
    "gaussian_nll": GAUSSIAN | {"weights": WEIGHTS},
    "info_nce": {"scores": np.ones((N, N))},
    "l1out": GAUSSIAN | {"weights": WEIGHTS, "others": (OTHER_ROWS, OTHER_ROWS, np.ones(M), PLACES)},
    "logsumexp_sum": {
        "anchors": ROWS,
        "candidates": OTHER_ROWS,
        "candidate_weights": np.ones(M),
        "weights": WEIGHTS,
        "excluded": np.zeros((N, E), np.int32),
        "own": WEIGHTS,
    },
    "mine": SCORES | {"log_average": SCALAR},
    "negative_l2": {"a": ROWS, "b": ROWS, "weights": WEIGHTS},
    "nwj": SCORES,
    "off_diagonal": {"critic": lambda x, y: jnp.sum(x, axis=1), "x": ROWS, "y": np.ones((N, E))},
    "orthogonality": {"a": ROWS, "b": ROWS, "weights": WEIGHTS},
    "smile": SCORES,
    "solosim": {
        "anchors": ROWS,
        "candidates": OTHER_ROWS,
        "positives": PLACES,
        "weights": WEIGHTS,
        "temperature": 1.0,
        "candidate_weights": np.ones(M),
        "left_out": np.zeros((N, E), np.int32),
    },
    "solosim_sampled": {
        "anchors": ROWS,
        "positives": ROWS,
        "candidates": OTHER_ROWS,
        "place": PLACES,
        "weights": WEIGHTS,
        "temperature": 1.0,
        "probability": 0.5,
        "candidate_weights": np.ones(M),
        "left_out": np.zeros((N, E), np.int32),
    },
    "tuba": SCORES | {"log_baseline": SCALAR},
    "vub": {"mean": ROWS, "logvar": ROWS, "weights": WEIGHTS},
    "weighted_moments": {"y": ROWS, "weights": WEIGHTS, "centre": np.ones(D)},
}
OPTIONS = {"base", "samples", "temperature", "probability", "unit_rows", "block", "bound", "clip"}
FREE = {"independent"}  # scores of any shape
# The axis whose size is the argument's own affair.
OWN_AXIS = {
    ("frobenius", "a"): 1,
    ("frobenius", "b"): 1,
    ("off_diagonal", "x"): 1,
    ("off_diagonal", "y"): 1,
    ("logsumexp_sum", "excluded"): 1,
    ("solosim", "left_out"): 1,
    ("solosim_sampled", "candidates"): 0,
    ("solosim_sampled", "left_out"): 1,
} | {(name, "joint"): 0 for name in ("donsker_varadhan", "mine", "nwj", "smile", "tuba")}


def as_jax(value):
    if isinstance(value, np.ndarray | np.generic):
        return jnp.asarray(value, np.int32 if value.dtype == np.int32 else np.float32)
    return value


def accepted(name):
    return {argument: jax.tree.map(as_jax, value) for argument, value in ACCEPTED[name].items()}


def call(name, arguments):
    loss = getattr(losses, name)
    if name == "logsumexp_sum":  # its derivative's rule takes places, not names
        return loss(*arguments.values())
    return loss(**arguments)


def wrong(array, own_axis):
    """Of other shapes: longer and shorter by one along each axis, ranks more and less."""
    for axis in range(array.ndim):
        if axis != own_axis:
            yield jnp.concatenate([array, jnp.take(array, jnp.array([0]), axis)], axis)
            yield jnp.take(array, jnp.arange(array.shape[axis] - 1), axis)
            yield jnp.take(array, jnp.array([0]), axis)  # of size 1, as broadcasting would have it
            yield jnp.take(array, 0, axis)
    yield array[..., None]
    yield array[None]


CASES = [
    pytest.param(name, argument, place, id=f"{name}-{argument}" + ("" if place is None else str(place)))
    for name, arguments in ACCEPTED.items()
    for argument, value in arguments.items()
    if argument not in OPTIONS | FREE and not callable(value)
    for place in (range(len(value)) if isinstance(value, tuple) else [None])
]


@pytest.mark.parametrize("name", losses.__all__)
def test_the_table_gives_every_argument_and_is_accepted(name):
    assert set(inspect.signature(getattr(losses, name)).parameters) - OPTIONS == set(ACCEPTED[name]) - OPTIONS
    for leaf in jax.tree.leaves(call(name, accepted(name))):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize(("name", "argument", "place"), CASES)
def test_a_wrong_shape_is_one_sentence(name, argument, place):
    good = accepted(name)
    value = good[argument] if place is None else good[argument][place]
    for other in wrong(value, OWN_AXIS.get((name, argument))):
        given = other if place is None else tuple(other if n == place else x for n, x in enumerate(good[argument]))
        with pytest.raises((ValueError, TypeCheckError)) as caught:
            call(name, good | {argument: given})
        if caught.type is ValueError:
            assert str(caught.value).startswith(f"{name}: ")
            assert "has shape" in str(caught.value)
            assert "\n" not in str(caught.value)


def test_bpr_of_a_row_and_a_column_is_no_number():
    with pytest.raises((ValueError, TypeCheckError)):
        losses.bpr(jnp.ones(4), jnp.ones((4, 1)))


def test_columns_as_samples():
    columns = jnp.ones((D, N))
    losses.gaussian_nll(columns, columns, columns, jnp.ones(N), samples=1)
    with pytest.raises((ValueError, TypeCheckError)):
        losses.gaussian_nll(columns, columns, columns, jnp.ones(D), samples=1)
    with pytest.raises(ValueError, match="axis 0 or 1, not 2"):
        losses.gaussian_nll(columns, columns, columns, samples=2)


def test_a_critic_that_gives_no_score_a_row_is_refused():
    with pytest.raises(ValueError, match=r"^off_diagonal: critic\(x, y\) has shape \(5, 3\)"):
        losses.off_diagonal(lambda x, y: x, jnp.ones((N, D)), jnp.ones((N, E)))
