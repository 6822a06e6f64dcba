"""Features as they come: rows that say nothing are found and filled."""

import numpy as np

from sea_jax.errors import SeaError


def repair(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """float32 features with unusable rows filled, which rows those are, and what was done in words.

    A row with a value that is not finite, or all zeros, becomes the mean of the other rows: the rule that the published
    datasets follow for items without an image.

    Args:
      features: (I, d) numbers.
    Returns: (I, d) float32; (I,) bool, the rows that were filled; sentences.
    Raises: SeaError if no row can be used.
    """
    with np.errstate(over="ignore"):
        features = np.array(features, np.float32)
    finite = np.isfinite(features).all(axis=1)
    zero = finite & ~features.any(axis=1)
    good = finite & ~zero
    if not good.any():
        raise SeaError("no row is finite and not all zeros")
    notes = [
        f"{int(rows.sum())} rows {what}, replaced by the mean of the other rows"
        for rows, what in ((~finite, "not finite"), (zero, "all zeros"))
        if rows.any()
    ]
    features[~good] = features[good].mean(axis=0, dtype=np.float64)
    return features, ~good, notes
