"""A stranger's vector from a basket of items, for recommenders of vectors. NumPy alone."""

import numpy as np
from jaxtyping import Float

# Of the ridge: what an item outside the basket weighs beside one inside, and the penalty as a share of the mean square.
OUTSIDE = 0.02
RIDGE = 0.1


def graph_vector(
    basket_items: Float[np.ndarray, "basket d"], weights: Float[np.ndarray, " basket"]
) -> Float[np.ndarray, " d"]:
    """A user of a graph model who has these edges and no free vector: sum over i of w_i F_i / sqrt(sum of w).

    Exactly what propagation gives a user whose own table row is zero, weights being 1: its degree is the basket's size.

    Args:
      basket_items: rows F of the basket's items: what each adds, over the root of its own degree (see
        `Backbone.basket_items`).
      weights: of the edges, positive.
    """
    return (weights @ basket_items / np.sqrt(weights.sum())).astype(np.float32)


def ridge_vector(
    item_vectors: Float[np.ndarray, "basket d"], weights: Float[np.ndarray, " basket"], gram: Float[np.ndarray, "d d"]
) -> Float[np.ndarray, " d"]:
    """The vector that scores the basket's items near 1 and the others near 0.

    argmin over u of sum over the basket of w_i (1 - <u, v_i>)^2 + c sum over all of <u, v_j>^2 + r |u|^2
    = (sum w_i v_i v_i' + c G + r I)^-1 sum w_i v_i, with c = OUTSIDE and r = RIDGE c tr(G) / d.

    Args:
      item_vectors: rows of the basket's items.
      weights: positive.
      gram: G, the sum of v v' over the whole catalogue.

    Source: Hu, Koren & Volinsky 2008 (ICDM), equation 4, with its confidence scaled.
    """
    rows = item_vectors.astype(np.float64)
    width = len(gram)
    ridge = RIDGE * OUTSIDE * np.trace(gram) / width + 1e-12
    matrix = rows.T @ (weights[:, None] * rows) + OUTSIDE * gram + ridge * np.eye(width)
    return np.linalg.solve(matrix, weights @ rows).astype(np.float32)
