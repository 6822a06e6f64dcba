"""A recommender's vectors for other software: npz, Parquet, a compiled scoring function, a faiss index."""

from pathlib import Path
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from sea_jax import files
from sea_jax.arrays import Array
from sea_jax.errors import SeaError, require
from sea_jax.recommender import Recommender

FORMATS = ("npz", "parquet", "jax", "faiss")
PLATFORMS = ("cpu", "cuda", "tpu")
# An index looks into so many cells that ASKED users' lists of LISTED items have RECALL of those that they should have.
ASKED, LISTED, RECALL = 200, 20, 0.99


def write(made: Recommender, format: str, path: str, k: int = 20) -> list[Path]:
    """Writes a recommender of vectors; returns the files.

    npz: user_ids, user_embedding, item_ids, item_embedding in one file. parquet: path/users.parquet and
    path/items.parquet, id and vector (and title). jax: the scoring function, see `scoring`; the vectors go by npz. faiss:
    an index of the items, see `faiss_index`, which remembers how many cells to look into, and path.ids.npz, whose item_ids are
    its rows.

    Raises: SeaError for a recommender without vectors, or a package that is missing.
    """
    if made.item_vectors is None:
        raise SeaError("Exports are of vectors, and this recommender has none.")
    return _WRITERS[format](made, path, k)


def arrays_of(made: Recommender) -> dict[str, np.ndarray]:
    """The ids and the float32 vectors by the names that an npz has."""
    return {
        "user_ids": made.user_ids, "user_embedding": made.user_vectors,
        "item_ids": made.item_ids, "item_embedding": made.item_vectors,
    }  # fmt: skip


def _npz(made: Recommender, path: str, k: int) -> list[Path]:
    files.write_npz(path, arrays_of(made))
    return [Path(path)]


def _parquet(made: Recommender, path: str, k: int) -> list[Path]:
    polars, folder = require("polars", "data", "--format=parquet"), files.folder(path)
    written = []
    for name, ids, vectors in (
        ("users", made.user_ids, made.user_vectors),
        ("items", made.item_ids, made.item_vectors),
    ):
        frame = polars.DataFrame({"id": ids, "vector": polars.Series(vectors).cast(polars.List(polars.Float32))})
        if name == "items" and made.titles is not None:
            frame = frame.with_columns(polars.Series("title", made.titles))
        with files.whole(folder / f"{name}.parquet") as aside:
            frame.write_parquet(aside)
        written.append(folder / f"{name}.parquet")
    return written


def top_k(
    users: Float[Array, "n d"], items: Float[Array, "items d"], seen: Int[Array, "n s"], k: int
) -> tuple[Float[Array, "n k"], Int[Array, "n k"]]:
    """(scores, item numbers) of the k items of the highest inner products; ties by lower number.

    seen: item numbers to leave out, padded with the number of items or more.
    """
    scores = jnp.matmul(users, items.T, precision="highest")
    scores = scores.at[jnp.arange(users.shape[0])[:, None], seen].set(-jnp.inf, mode="drop")
    return tuple(jax.lax.top_k(scores, k))


def scoring(num_items: int, width: int, k: int) -> jax.export.Exported:
    """`top_k` for any number of users and seen items, lowered for CPU, CUDA and TPU.

    `jax.export.deserialize(bytes).call(users, items, seen)` runs it without this package.
    """
    n, s = jax.export.symbolic_shape("n, s")
    shapes = (
        jax.ShapeDtypeStruct((n, width), jnp.float32),
        jax.ShapeDtypeStruct((num_items, width), jnp.float32),
        jax.ShapeDtypeStruct((n, s), jnp.int32),
    )
    return jax.export.export(jax.jit(lambda *given: top_k(*given, k)), platforms=PLATFORMS)(*shapes)


def _jax(made: Recommender, path: str, k: int) -> list[Path]:
    require("flatbuffers", "export", "--format=jax")
    program = scoring(len(made.item_ids), made.item_vectors.shape[1], min(k, len(made.item_ids))).serialize()
    with files.whole(path) as aside:
        Path(aside).write_bytes(program)
    return [Path(path)]


def faiss_index(item_vectors: Float[np.ndarray, "items d"], user_vectors: Float[np.ndarray, "users d"]) -> Any:
    """An IVF index by inner product over cells found by k-means, about 4 sqrt(items) of them.

    How many cells a search must look into depends on how the vectors lie, from one to nearly all, and is measured: it is
    doubled until the lists are right to RECALL. An item is right if its score reaches that of the exact list's last.
    Raising vectors to a common length first (the augmentation to L2) loses most of the recall and is not done.

    Args:
      item_vectors: the rows that are found.
      user_vectors: of who will ask; ASKED of them, evenly over the rows, are tried.
    """
    faiss = require("faiss", "ann", "--format=faiss")
    items, width = item_vectors.shape
    cells = int(np.clip(4 * np.sqrt(items), 1, max(1, items // 39)))  # faiss wants 39 items a cell to learn from
    index = faiss.index_factory(width, f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = 0
    index.cp.min_points_per_centroid = 1  # or faiss prints a warning where there are fewer items in all
    index.train(item_vectors)
    index.add(item_vectors)
    asking = user_vectors[np.linspace(0, len(user_vectors) - 1, min(ASKED, len(user_vectors)), dtype=int)]
    k, index.nprobe = min(LISTED, items), 1
    last = faiss.knn(asking, item_vectors, k, metric=faiss.METRIC_INNER_PRODUCT)[0][:, -1:]
    last = last - 1e-5 * np.abs(last)  # sums in another order
    while index.nprobe < cells and (index.search(asking, k)[0] >= last).mean() < RECALL:
        index.nprobe = min(2 * index.nprobe, cells)
    return index


def _faiss(made: Recommender, path: str, k: int) -> list[Path]:
    index, faiss = faiss_index(made.item_vectors, made.user_vectors), require("faiss", "ann", "--format=faiss")
    with files.whole(path) as aside:
        faiss.write_index(index, str(aside))
    files.write_npz(f"{path}.ids.npz", {"item_ids": made.item_ids})
    return [Path(path), Path(f"{path}.ids.npz")]


_WRITERS = {"npz": _npz, "parquet": _parquet, "jax": _jax, "faiss": _faiss}
