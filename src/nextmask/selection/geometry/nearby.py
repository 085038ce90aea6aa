"""How close a sample's neighbours are: over the whole pool, or in its own cell of a large one."""

import numpy as np
from jaxtyping import Float

from nextmask.selection.geometry.k_means import k_means
from nextmask.selection.geometry.neighbours import nearest

SMALL_POOL = 20_000
"""Samples up to which neighbours are looked for in the whole pool."""

CELL = 1000
"""Samples that a cell of a larger pool holds, on average."""

Points = Float[np.ndarray, "samples dims"]
Means = Float[np.ndarray, " samples"]


def mean_distance_nearby(points: Points, k: int, rng: np.random.Generator, power: int = 1) -> Means:
    """Average the distances, to some ``power``, of each sample to its ``k`` nearest others; infinite where it has none.

    Exact up to SMALL_POOL samples. All pairs of a larger pool are too many: there k-means splits it into cells of CELL
    samples or so, and neighbours are looked for in the sample's own cell. That can only overstate a distance, and only near
    the border of a cell.
    """
    if len(points) <= SMALL_POOL:
        return _averaged(points, k, power)
    means = np.empty(len(points))
    cell = k_means(points, len(points) // CELL, rng).labels
    for rows in np.split(np.argsort(cell, kind="stable"), np.cumsum(np.bincount(cell))[:-1]):
        means[rows] = _averaged(points[rows], k, power)
    return means


def _averaged(points: Points, k: int, power: int) -> Means:
    if len(points) == 1:
        return np.full(1, np.inf)
    return (nearest(points, k)[0] ** power).mean(axis=1)
