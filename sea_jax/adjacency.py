"""The graphs of a dataset on the host: normalised interactions, nearest items, their fusion. NumPy and SciPy only."""

import numpy as np
import scipy.sparse
from jaxtyping import Bool, Float, Int, Shaped

Neighbours = tuple[Int[np.ndarray, "items k"], Float[np.ndarray, "items k"]]
SIMILARITIES = ("cosine", "standardised")


def normalised_adjacency(train: Int[np.ndarray, "n 2"], num_users: int, num_items: int) -> scipy.sparse.csr_matrix:
    """D^-1/2 A D^-1/2 over the distinct training edges, users first, no self-loops.

    Args:
      train: (n, 2) user, item.
      num_users, num_items: U, I; nodes without edges have empty rows.
    Returns: float32 CSR, (U + I, U + I), symmetric.

    Source: LightGCN (arXiv 2002.02126), equation 8; SEA uses the same.
    """
    size = num_users + num_items
    users, items = train[:, 0], train[:, 1] + num_users
    rows, columns = np.concatenate([users, items]), np.concatenate([items, users])
    matrix = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    matrix.data[:] = 1  # a repeated edge counts once
    degree = np.maximum(np.diff(matrix.indptr), 1)
    matrix.data /= np.sqrt(degree[matrix.indices] * np.repeat(degree, np.diff(matrix.indptr)))
    return matrix.astype(np.float32)


def comparable(
    rows: Shaped[np.ndarray, "n d"], catalogue: Shaped[np.ndarray, "items d"], similarity: str = "standardised"
) -> Shaped[np.ndarray, "n d"]:
    """The rows whose cosine is the similarity of items.

    cosine: as they are. standardised: (x - mean) / deviation by column, both over the catalogue, a constant column 0: where
    all rows point nearly one way, what they share then counts for nothing.

    Args:
      rows: (n, d) features, of the catalogue or of new items.
      catalogue: (I, d) features of the items that have such.
    Returns: (n, d); float64 if standardised.

    >>> comparable(np.array([[9.0, 5.0], [7.0, 5.0]]), np.array([[9.0, 5.0], [7.0, 5.0]])).tolist()
    [[1.0, 0.0], [-1.0, 0.0]]
    """
    if similarity == "cosine":
        return rows
    known = np.asarray(catalogue, np.float64)
    spread = known.std(axis=0)
    constant = known.max(axis=0) == known.min(axis=0)
    return np.where(constant, 0, (rows - known.mean(axis=0)) / np.where(constant, 1, spread))


def nearest_items(
    features: Shaped[np.ndarray, "items d"],
    k_max: int,
    absent: Bool[np.ndarray, "items"] | None = None,
    *,
    block: int = 1024,
) -> Neighbours:
    """The k_max most similar items of each item by cosine, the item itself first, ties by lower id.

    Similarities are made for `block` items at a time and never all kept. With fewer than k_max items, all of them.

    Args:
      features: (I, d) finite; a row's length does not matter, however large or small it is. An all-zero row is similar
        to nothing (cosine 0).
      k_max: how many.
      absent: (I,) items whose rows say nothing: each is in nobody's list but its own, which has nothing else. Places of
        a list that are left over repeat the item itself.
      block: items at a time.
    Returns: (I, k) int32 item numbers, (I, k) float32 similarities, in falling order.

    >>> indices, similarities = nearest_items(np.array([[2.0, 0.0], [-1e-30, 0.0], [1e30, 0.0]]), 2)
    >>> indices.tolist(), similarities.tolist()
    ([[0, 2], [1, 0], [2, 0]], [[1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    """
    unit = _unit_rows(features)
    count = len(unit)
    k = min(k_max, count)
    indices, similarities = np.empty((count, k), np.int32), np.empty((count, k), np.float32)
    for start in range(0, count, block):
        scores = unit[start : start + block] @ unit.T
        rows = np.arange(len(scores))
        own = scores[rows, start + rows].copy()
        if absent is not None:
            scores[:, absent] = -np.inf
            scores[absent[start : start + block]] = -np.inf
        scores[rows, start + rows] = np.inf
        for row, nearest in zip(rows, _highest(scores, k), strict=True):
            indices[start + row] = np.where(np.isneginf(scores[row, nearest]), start + row, nearest)
        scores[rows, start + rows] = own
        similarities[start : start + block] = np.take_along_axis(scores, indices[start : start + block], axis=1)
    return indices, similarities


def nearest_of_new(
    new: Shaped[np.ndarray, "n d"],
    old: Shaped[np.ndarray, "items d"],
    k_max: int,
    absent: Bool[np.ndarray, " n"],
    barred: Bool[np.ndarray, "items"],
    *,
    block: int = 1024,
) -> tuple[Int[np.ndarray, "n k"], Float[np.ndarray, "n k"]]:
    """The lists of new items, numbered after the old ones: the item itself, then the most similar old items.

    Args:
      new, old: features, as in `nearest_items`.
      k_max: how many.
      absent: (n,) new items whose rows say nothing: their lists hold themselves alone.
      barred: (I,) old items that are nobody's neighbours.
    Returns: (n, k) int32 item numbers and (n, k) float32 similarities, as `nearest_items` gives them to an item of the
      catalogue with these features.
    """
    unit, known = _unit_rows(new), _unit_rows(old)
    k = min(k_max, len(known) + 1)
    indices, similarities = np.empty((len(unit), k), np.int32), np.empty((len(unit), k), np.float32)
    for start in range(0, len(unit), block):
        rows = unit[start : start + block]
        scores = np.concatenate([rows @ known.T, np.einsum("nd,nd->n", rows, rows)[:, None]], axis=1)
        plain = scores.copy()
        scores[:, :-1][:, barred] = -np.inf
        scores[absent[start : start + block], :-1] = -np.inf
        scores[:, -1] = np.inf
        for row, nearest in enumerate(_highest(scores, k)):
            nearest = np.where(np.isneginf(scores[row, nearest]), len(known), nearest)
            similarities[start + row] = plain[row, nearest]
            indices[start + row] = np.where(nearest == len(known), len(known) + start + row, nearest)
    return indices, similarities


def _highest(scores: Float[np.ndarray, "n m"], k: int) -> list[np.ndarray]:
    """Columns of the k highest scores of each row, falling, ties by lower column."""
    # argpartition alone would break ties at the boundary arbitrarily: keep all that tie with the k-th.
    threshold = np.partition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k]
    found = []
    for row, least in zip(scores, threshold, strict=True):
        candidates = np.flatnonzero(row >= least)
        found.append(candidates[np.argsort(-row[candidates], kind="stable")[:k]])
    return found


def _unit_rows(features: Shaped[np.ndarray, "items d"]) -> Float[np.ndarray, "items d"]:
    """float32 rows of length 1, zero rows as they are.

    Each row is first multiplied by the power of two that brings its largest entry below 1, which is exact, so that no
    square overflows or vanishes.
    """
    rows = np.asarray(features, np.result_type(features, np.float32))
    largest = np.maximum(rows.max(axis=1, keepdims=True, initial=0), -rows.min(axis=1, keepdims=True, initial=0))
    rows = np.ldexp(rows, -np.frexp(largest)[1])
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(norms > 0, norms, 1)
    return rows.astype(np.float32, copy=False)


def joined_units(
    features: dict[str, Shaped[np.ndarray, "items _"]], further: dict[str, Shaped[np.ndarray, "n _"]] | None = None
) -> Float[np.ndarray, "all d"]:
    """Rows of length 1 of each modality side by side: their cosine is the mean of the modalities' cosines.

    Args:
      features: by modality.
      further: of more items; a modality that they lack is zeros.
    """
    tables = []
    for name, x in features.items():
        rows = [x]
        if further is not None:
            count = max(len(more) for more in further.values())
            rows.append(np.nan_to_num(further.get(name, np.zeros((count, x.shape[1])))))
        tables.append(_unit_rows(np.concatenate(rows)))
    return np.concatenate(tables, axis=1)


def default_weights(modalities: tuple[str, ...]) -> dict[str, float]:
    """Weight of each modality in the item graph: the paper's 0.1 and 0.9 for image and text, else equal."""
    if set(modalities) == {"image", "text"}:
        return {"image": 0.1, "text": 0.9}
    return dict.fromkeys(modalities, 1 / len(modalities))


def fuse_neighbours(neighbours: dict[str, Neighbours], k: int, weights: dict[str, float]) -> scipy.sparse.csr_matrix:
    """S = sum over m of weight_m S^m, S^m having 1 / k at each item's k nearest items of modality m.

    Returns: float32 CSR, (I, I), directed: row i holds the items that item i gathers from.
    """
    total = None
    for name, (indices, _) in neighbours.items():
        items = len(indices)
        columns = indices[:, :k]
        data = np.full(columns.size, weights[name] / columns.shape[1])
        rows = np.repeat(np.arange(items), columns.shape[1])
        matrix = scipy.sparse.csr_matrix((data, (rows, columns.ravel())), shape=(items, items))
        total = matrix if total is None else total + matrix
    return total.tocsr().astype(np.float32)


def cosine_graph(neighbours: Neighbours, k: int) -> scipy.sparse.csr_matrix:
    """S with s_ab / sqrt(r_a r_b) at each item's k nearest items: their cosine, and the sums r of the rows so kept.

    An item whose sum is not positive (an all-zero row of features) neither gathers nor gives.

    Returns: float32 CSR, (I, I), not symmetric: row i holds the items that item i gathers from.
    """
    indices, similarities = (array[:, :k] for array in neighbours)
    items = len(indices)
    values = similarities.astype(np.float64)
    sums = values.sum(axis=1)
    scale = np.where(sums > 0, 1 / np.sqrt(np.where(sums > 0, sums, 1)), 0)
    values *= scale[:, None] * scale[indices]
    rows = np.repeat(np.arange(items), indices.shape[1])
    return scipy.sparse.csr_matrix((values.ravel(), (rows, indices.ravel())), (items, items)).astype(np.float32)


def largest_of(graphs: list[scipy.sparse.csr_matrix]) -> scipy.sparse.csr_matrix:
    """On the union of the graphs' patterns, the largest of the values that are there."""
    parts = [matrix.tocoo() for matrix in graphs]
    size = parts[0].shape[1]
    keys = np.concatenate([part.row.astype(np.int64) * size + part.col for part in parts])
    order = np.argsort(keys, kind="stable")
    keys, first = np.unique(keys[order], return_index=True)
    values = np.maximum.reduceat(np.concatenate([part.data for part in parts])[order], first) if len(keys) else []
    return scipy.sparse.csr_matrix((values, (keys // size, keys % size)), parts[0].shape, dtype=np.float32)


def nearest_users(
    train: Int[np.ndarray, "n 2"], num_users: int, num_items: int, k: int, room: int = 1 << 24
) -> scipy.sparse.csr_matrix:
    """For each user the k others with most training items in common, ties by lower id; fewer where fewer have any.

    Counts are made for some users at a time, so many that they and their neighbours cannot exceed `room` pairs (a
    user with more than that is counted alone).

    Returns: float32 CSR, (U, U): row u holds a softmax of the numbers of shared items over u's neighbours, at least
      float32's smallest normal number. A user who shares no item has an empty row.
    """
    index = (train[:, 0], train[:, 1])
    matrix = scipy.sparse.csr_matrix((np.ones(len(train), np.float32), index), shape=(num_users, num_items))
    matrix.data[:] = 1  # a repeated pair counts once
    others = matrix.T.tocsr()
    cost = matrix @ np.diff(others.indptr).astype(np.int64)  # no user has more neighbours than this
    ends = np.cumsum(np.maximum(cost, 1))
    columns, values, lengths, start = [], [], np.zeros(num_users, np.int64), 0
    while start < num_users:
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + room, side="right")))
        shared = (matrix[start:stop] @ others).tocsr()
        for row in range(stop - start):
            part = slice(*shared.indptr[row : row + 2])
            found, counts = shared.indices[part].astype(np.int64), shared.data[part].astype(np.int64)
            keys = (-counts * num_users + found)[found != start + row]  # most shared first, then lower ids
            if len(keys) > k:
                keys = np.partition(keys, k)[:k]
            counts = -(keys // num_users)
            weights = np.exp((counts - counts.max(initial=0)).astype(np.float64))
            columns.append((keys % num_users).astype(np.int32))
            values.append(np.maximum(weights / max(weights.sum(), 1.0), np.finfo(np.float32).tiny).astype(np.float32))
            lengths[start + row] = len(keys)
        start = stop
    indptr = np.append(0, np.cumsum(lengths))
    found = scipy.sparse.csr_matrix((np.concatenate(values), np.concatenate(columns), indptr), (num_users, num_users))
    found.sort_indices()
    return found
