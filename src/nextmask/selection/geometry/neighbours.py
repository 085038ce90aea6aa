"""Nearest neighbours, exact in float64 and without ever holding all pairs."""

import numpy as np
from jaxtyping import Float, Int

BLOCK = 1024
"""Rows that are compared with the whole pool at a time."""

Points = Float[np.ndarray, "samples dims"]


def nearest(
    points: Points, k: int
) -> tuple[Float[np.ndarray, "samples neighbours"], Int[np.ndarray, "samples neighbours"]]:
    """Find the ``k`` nearest other samples of each sample: Euclidean distances, ascending, and their rows.

    Of equal distances the lowest row comes first. Where the pool has fewer than ``k`` others, all of them are given.
    """
    k = min(k, len(points) - 1)
    distances, rows = np.empty((len(points), k)), np.empty((len(points), k), dtype=np.int64)
    if not k:
        return distances, rows
    centred, norms, margin = _rounded(points)
    for start in range(0, len(points), BLOCK):
        block = slice(start, start + BLOCK)
        apart = norms[block, None] + norms - 2 * (centred[block] @ centred.T)
        own = np.arange(len(points))[block]
        apart[own - start, own] = np.inf
        # Whatever float32 rounded, a sample this much farther than the k-th cannot be among the k nearest.
        slack = margin * (np.sqrt(norms[block, None]) + np.sqrt(norms)) ** 2
        bound = np.partition(apart + slack, k - 1, axis=1)[:, k - 1]
        for place, row in enumerate(own):
            contenders = np.flatnonzero(apart[place] - slack[place] <= bound[place])
            difference = np.subtract(points[contenders], points[row], dtype=np.float64)
            squared = np.einsum("ij,ij->i", difference, difference)
            order = np.argsort(squared, kind="stable")[:k]
            distances[row], rows[row] = np.sqrt(squared[order]), contenders[order]
    return distances, rows


def _rounded(points: Points) -> tuple[np.ndarray, np.ndarray, float]:
    """Centre the points and round them to float32; squared norms, and the error of squared distances per squared norm."""
    centred = np.subtract(points, points.mean(axis=0, dtype=np.float64), dtype=np.float64)
    centred /= max(np.abs(centred).max(), np.finfo(np.float64).tiny)
    rounded = centred.astype(np.float32)
    norms = np.einsum("ij,ij->i", rounded, rounded)
    return rounded, norms, (points.shape[1] + 16) * 2.0**-23
