"""Recommenders without training: popularity, neighbours, closed forms over interactions and features."""

import dataclasses
import os
import typing
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.sparse.linalg
from jaxtyping import Float, Int

from sea_jax.adjacency import comparable, nearest_items
from sea_jax.arrays import Array
from sea_jax.bundle import Bundle
from sea_jax.config import check_monitor, checked, setting
from sea_jax.errors import SeaError
from sea_jax.recommender import Recommender

BLOCK = 2048  # columns of a matrix at a time
COPIES = 4  # of an items x items matrix that a closed form holds at its peak: Gram, factor, inverse, weights
MODELS = ("popularity", "item_knn", "content_knn", "ease", "ease_content", "ease_low_rank")

# What is tried where a setting is not given, in this order, one setting after the other, until none improves.
GRIDS = {
    "neighbours": (20, 50, 100, 200),
    "shrinkage": (0.0, 10.0, 50.0),
    "rank": (256, 64, 128, 512),
    "ridge": (100.0, 20.0, 50.0, 200.0, 500.0, 1000.0),
    "content_weight": (10.0, 1.0, 2.0, 5.0, 20.0, 50.0),
}
READS = {
    "popularity": (),
    "item_knn": ("neighbours", "shrinkage"),
    "content_knn": ("neighbours",),
    "ease": ("ridge",),
    "ease_content": ("ridge", "content_weight"),
    "ease_low_rank": ("rank", "ridge", "content_weight"),
}


@typing.no_type_check  # as Config: `checked` says in one sentence what may be given
@dataclasses.dataclass(frozen=True)
class Baseline:
    """The settings of a baseline; those that are None and that the model reads are chosen on validation."""

    model: str = setting("ease_content", "which baseline", choices=MODELS)
    data_dir: str = setting("", "folder of the bundle that data_prep wrote", numbers=False)
    workdir: str = setting("", "folder this run writes into", numbers=False)
    modalities: tuple[str, ...] = setting((), "modalities to use; empty: all")
    ridge: float | None = setting(None, "penalty of the closed forms; chosen on validation without", above=0.0)
    content_weight: float | None = setting(
        None, "weight of the features' Gram matrix beside the interactions'; chosen on validation without", low=0.0
    )
    neighbours: int | None = setting(None, "neighbours that an item keeps; chosen on validation without", low=1)
    shrinkage: float | None = setting(
        None, "item_knn: added to the cosine's denominator; chosen on validation without", low=0.0
    )
    rank: int | None = setting(None, "ease_low_rank: dimensions kept; chosen on validation without", low=1)
    topk: tuple[int, ...] = setting((5, 10, 20, 50), "cut-offs of the metrics", low=1)
    monitor: str = setting("recall@20", "validation metric that chooses settings")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, checked(field, getattr(self, field.name)))
        check_monitor(self.monitor, self.topk)


def make(bundle: Bundle, settings: Baseline) -> Recommender:
    """The recommender of settings that are all given.

    Raises: SeaError if the model does not fit into this machine's memory.
    """
    about = {"user_ids": bundle.user_ids, "item_ids": bundle.item_ids}
    about |= {name: bundle.shown[name].tolist() for name in ("titles", "categories") if name in bundle.shown}
    about["notes"] = {"dataset": bundle.name, "baseline": settings.model}
    about["notes"] |= {name: getattr(settings, name) for name in READS[settings.model]}
    return _MAKERS[settings.model](bundle, settings, about)


def popularity(train: Int[np.ndarray, "n 2"], num_items: int) -> Float[np.ndarray, " items"]:
    """How many training interactions each item has."""
    return np.bincount(train[:, 1], minlength=num_items).astype(np.float32)


def matrix(train: Int[np.ndarray, "n 2"], num_users: int, num_items: int) -> scipy.sparse.csr_matrix:
    """X, (U, I) of ones where a user has an item in training."""
    ones = np.ones(len(train), np.float32)
    found = scipy.sparse.csr_matrix((ones, (train[:, 0], train[:, 1])), (num_users, num_items))
    found.data[:] = 1.0
    return found


def item_knn(x: scipy.sparse.csr_matrix, neighbours: int, shrinkage: float | int = 0.0) -> scipy.sparse.csr_matrix:
    """W[i, j] = <x_i, x_j> / (|x_i| |x_j| + shrinkage) where j is among i's `neighbours` most alike, else 0.

    x_i: the column of item i. Ties by lower item; the item itself is left out.

    Source: Sarwar et al. 2001 (WWW), section 3; shrinkage as in Bell & Koren 2007 (ICDM), equation 5.
    """
    x = x.tocsc()
    norms = np.sqrt(np.asarray(x.multiply(x).sum(axis=0)).ravel())
    rows = []
    for start in range(0, x.shape[1], BLOCK):
        block = (x[:, start : start + BLOCK].T @ x).tocoo()
        own = block.row + start
        values = block.data / (norms[own] * norms[block.col] + shrinkage)
        values[own == block.col] = 0
        rows.append(_largest(scipy.sparse.csr_matrix((values, (block.row, block.col)), block.shape), neighbours))
    return scipy.sparse.vstack(rows).tocsr()


def _largest(rows: scipy.sparse.csr_matrix, count: int) -> scipy.sparse.csr_matrix:
    """The `count` largest values above 0 of each row."""
    rows.sort_indices()
    kept = np.zeros(rows.nnz, bool)
    for start, end in zip(rows.indptr, rows.indptr[1:], strict=False):
        kept[start + np.argsort(-rows.data[start:end], kind="stable")[:count]] = True
    rows.data[~kept] = 0
    rows.eliminate_zeros()
    return rows


def content_knn(features: dict[str, Float[np.ndarray, "items _"]], neighbours: int) -> scipy.sparse.csr_matrix:
    """W[i, j] = mean over modalities of the cosine of `standardised` features, j among i's most alike, else 0."""
    x = np.concatenate([standardised(rows) for rows in features.values()], axis=1)
    indices, likeness = nearest_items(x, neighbours + 1)
    rows = np.repeat(np.arange(len(x)), indices.shape[1])
    columns, values = indices.ravel(), np.maximum(likeness.ravel(), 0)
    values[rows == columns] = 0
    found = scipy.sparse.csr_matrix((values, (rows, columns)), (len(x), len(x)))
    found.eliminate_zeros()
    return found


def standardised(features: Float[np.ndarray, "items d"]) -> Float[np.ndarray, "items d"]:
    """Columns of mean 0 and deviation 1, then rows of length 1; constant columns and zero rows are zeros."""
    x = comparable(features, features)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return (x / np.where(length > 0, length, 1)).astype(np.float32)


def gram(
    x: scipy.sparse.csr_matrix, features: dict[str, Float[np.ndarray, "items _"]], content_weight: float | int
) -> Float[np.ndarray, "items items"]:
    """G = X'X + content_weight sum over modalities of F F', F the `standardised` features."""
    found = (x.T @ x).toarray()
    for rows in features.values() if content_weight else ():
        f = jnp.asarray(standardised(rows))
        for start in range(0, len(f), BLOCK):
            block = jnp.matmul(f[start : start + BLOCK], f.T, precision="highest")
            found[start : start + BLOCK] += content_weight * np.asarray(block)
    return found


def ease(gram: Float[np.ndarray, "items items"], ridge: float | int) -> Float[np.ndarray, "items items"]:
    """B = I - P / diag(P) with P = (G + ridge I)^-1: the least squares of X B = X with diagonal 0.

    On the device: a Cholesky factor, and the inverse in blocks of columns.

    Source: Steck 2019 (WWW, arXiv 1905.03375), equation 8.
    """
    inverse = np.empty_like(gram)
    factor = _factor(gram, ridge)
    for start in range(0, len(gram), BLOCK):
        inverse[:, start : start + BLOCK] = _columns(factor, start, min(BLOCK, len(gram) - start))
    diagonal = np.diag(inverse).copy()
    if not np.isfinite(diagonal).all() or diagonal.min() <= 0:
        raise SeaError(f"--ridge={ridge} is too small to solve these equations; take a larger one.")
    inverse /= -diagonal
    np.fill_diagonal(inverse, 0.0)
    return inverse


@jax.jit
def _factor(gram: Array, ridge) -> Array:
    with jax.default_matmul_precision("highest"):
        return jnp.linalg.cholesky(gram + ridge * jnp.eye(len(gram), dtype=gram.dtype))


def _columns(factor: Array, start: int, count: int) -> np.ndarray:
    right = jnp.zeros((len(factor), count), factor.dtype).at[start + jnp.arange(count), jnp.arange(count)].set(1.0)
    with jax.default_matmul_precision("highest"):
        return np.asarray(jax.scipy.linalg.cho_solve((factor, True), right))


def ease_low_rank(
    x: scipy.sparse.csr_matrix,
    features: dict[str, Float[np.ndarray, "items _"]],
    content_weight: float | int,
    ridge: float | int,
    rank: int,
) -> tuple[Float[np.ndarray, "items rank"], Float[np.ndarray, " rank"]]:
    """(V, s): B = V diag(s) V', s_k = g_k / (g_k + ridge), of the `rank` largest eigenvalues g of `gram`.

    The ridge regression X B = X within the leading eigenvectors, without the diagonal's constraint, which moves the
    scores of items that the user has. Items x items is never in memory.

    Source: Jin et al. 2021 (KDD), "Towards a Better Understanding of Linear Models for Recommendation", section 3.
    """
    items = x.shape[1]
    parts = [standardised(rows) for rows in features.values()] if content_weight else []

    def product(v):
        return x.T @ (x @ v) + sum(content_weight * (f @ (f.T @ v)) for f in parts)

    operator = scipy.sparse.linalg.LinearOperator((items, items), matvec=product, matmat=product, dtype=np.float64)
    rank = min(rank, items - 1)
    start = np.random.default_rng(0).normal(size=items)  # the same every time
    values, vectors = scipy.sparse.linalg.eigsh(operator, rank, v0=start)
    values = np.maximum(values, 0)
    return vectors.astype(np.float32), (values / (values + ridge)).astype(np.float32)


def check_memory(num_items: int, memory: int | None = None) -> None:
    """Raises SeaError if closed forms of items x items do not fit into the memory that is free (bytes)."""
    memory = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if memory is None else memory
    needed = COPIES * 4 * num_items**2
    if needed > memory:
        raise SeaError(
            f"a closed form of {num_items} x {num_items} items needs {needed:,} bytes and {memory:,} are free; take "
            "--model=ease_low_rank or item_knn."
        )


def _weights(rows) -> Callable:
    return lambda bundle, settings, about: Recommender.from_item_weights(rows(bundle, settings), bundle.train, **about)


def _x(bundle: Bundle) -> scipy.sparse.csr_matrix:
    return matrix(bundle.train, bundle.num_users, bundle.num_items)


def _ease(bundle: Bundle, settings: Baseline):
    check_memory(bundle.num_items)
    weight = settings.content_weight if settings.model == "ease_content" else 0.0
    return ease(gram(_x(bundle), bundle.features, weight), settings.ridge)


def _low_rank(bundle: Bundle, settings: Baseline, about: dict[str, Any]) -> Recommender:
    x = _x(bundle)
    vectors, shares = ease_low_rank(x, bundle.features, settings.content_weight, settings.ridge, settings.rank)
    # A stranger's basket gives what a user's items give; the root of the basket's size changes no order.
    extras = {"basket_items": vectors * shares}
    return Recommender.from_vectors(x @ (vectors * shares), vectors, bundle.train, extras=extras, **about)


_MAKERS: dict[str, Callable] = {
    "popularity": lambda bundle, settings, about: Recommender.from_item_scores(
        popularity(bundle.train, bundle.num_items), bundle.train, **about
    ),
    "item_knn": _weights(lambda bundle, settings: item_knn(_x(bundle), settings.neighbours, settings.shrinkage)),
    "content_knn": _weights(lambda bundle, settings: content_knn(bundle.features, settings.neighbours)),
    "ease": _weights(_ease),
    "ease_content": _weights(_ease),
    "ease_low_rank": _low_rank,
}
