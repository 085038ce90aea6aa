"""Typicality: how close a sample's neighbours are (Hacohen, Dekel and Weinshall, ICML 2022)."""

import numpy as np
from jaxtyping import Float, Int

from nextmask.selection.geometry.neighbours import Neighbourhood, nearest

Points = Float[np.ndarray, "samples dims"]
Typicality = Float[np.ndarray, " samples"]

ROWS = 512
"""Samples whose neighbours are looked for at a time."""


def typicality(points: Points, k: int) -> Typicality:
    """Take 1 / (mean distance to the ``k`` nearest others + 1e-5) of each sample; 0 where there are no others."""
    return _of_distances(nearest(points, k)[0])


def most_typical(
    points: Points, allowed: Int[np.ndarray, " allowed"], count: int, k: int
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Find the ``count`` most typical of the allowed rows, most typical first, of equals the lowest; and their typicality.

    Labeled samples stay neighbours: all ``points`` are. Exact, and far cheaper than the typicality of all: float32 bounds
    leave a handful of rows whose distances are then computed in float64.
    """
    around = Neighbourhood(points)
    k = min(k, len(points) - 1)
    if len(allowed) > count and k:
        blocks = [allowed[start : start + ROWS] for start in range(0, len(allowed), ROWS)]
        lower, upper = np.concatenate([around.mean_distance_bounds(block, k) for block in blocks], axis=1)
        allowed = allowed[lower <= np.partition(upper, count - 1)[count - 1]]
    typical = np.concatenate(
        [_of_distances(around.nearest(allowed[start : start + ROWS], k)[0]) for start in range(0, len(allowed), ROWS)]
    )
    order = np.argsort(-typical, kind="stable")[:count]
    return allowed[order], typical[order]


def _of_distances(distances: Float[np.ndarray, "rows neighbours"]) -> Float[np.ndarray, " rows"]:
    if not distances.shape[1]:
        return np.zeros(len(distances))
    return 1 / (distances.mean(axis=1) + 1e-5)
