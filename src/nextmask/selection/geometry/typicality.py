"""Typicality: how close a sample's neighbours are (Hacohen, Dekel and Weinshall, ICML 2022)."""

import numpy as np
from jaxtyping import Float, Int

from nextmask.selection.geometry.neighbours import Neighbourhood, nearest
from nextmask.selection.geometry.side_by_side import slices

Points = Float[np.ndarray, "samples dims"]
Rows = Int[np.ndarray, "..."]
Typicality = Float[np.ndarray, " samples"]

ROWS = 512
"""Samples whose neighbours are looked for at a time."""


def typicality(points: Points, k: int) -> Typicality:
    """Take 1 / (mean distance to the ``k`` nearest others + 1e-5) of each sample; 0 where there are no others."""
    return _of_distances(nearest(points, k)[0])


def most_typical(
    points: Points, allowed: Rows, count: int, k: int
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Find the ``count`` most typical of the allowed rows, most typical first, of equals the lowest; and their typicality.

    Labeled samples stay neighbours: all ``points`` are. Exact, and far cheaper than the typicality of all: float32 bounds
    leave a handful of rows whose distances are then computed in float64.
    """
    around = Neighbourhood(points)
    k = min(k, len(points) - 1)
    allowed = _contenders(around, allowed, count, k)
    found = [_of_distances(around.nearest(block, k)[0]) for block in _blocks(allowed)]
    typical = np.concatenate(found)
    order = np.argsort(-typical, kind="stable")[:count]
    return allowed[order], typical[order]


def _contenders(around: Neighbourhood, allowed: Rows, count: int, k: int) -> Rows:
    """Leave out rows that cannot be among the most typical."""
    if len(allowed) <= count or not k:
        return allowed
    # Nothing is more typical than a sample with k copies; blank slices may be half of a pool.
    crowded = allowed[around.copies()[allowed] > k]
    if len(crowded) >= count:
        return crowded[:count]
    lower, upper = np.concatenate([around.mean_distance_bounds(block, k) for block in _blocks(allowed)], axis=1)
    return allowed[_typicality(lower) >= np.partition(_typicality(upper), -count)[-count]]


def _blocks(rows: Rows) -> list[Rows]:
    return [rows[block] for block in slices(len(rows), ROWS)]


def _of_distances(distances: Float[np.ndarray, "rows neighbours"]) -> Float[np.ndarray, " rows"]:
    if not distances.shape[1]:
        return np.zeros(len(distances))
    return _typicality(distances.mean(axis=1))


def _typicality(mean_distance: Float[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
    return 1 / (mean_distance + 1e-5)
