"""Typicality: how close a sample's neighbours are (Hacohen, Dekel and Weinshall, ICML 2022)."""

import numpy as np
from jaxtyping import Float, Int

from nextmask.selection.geometry.neighbours import Neighbourhood, nearest
from nextmask.selection.geometry.side_by_side import Run, slices

Points = Float[np.ndarray, "samples dims"]
Rows = Int[np.ndarray, "..."]
Typicality = Float[np.ndarray, " samples"]

ROWS = 512
"""Samples whose neighbours are looked for at a time."""

FEW = 16
"""Samples whose typicality is computed at once rather than bounded first."""


def typicality(points: Points, k: int) -> Typicality:
    """Take 1 / (mean distance to the ``k`` nearest others + 1e-5) of each sample; 0 where there are no others."""
    return _of_distances(nearest(points, k)[0])


def most_typical(
    points: Points, allowed: Rows, count: int, k: int, run: Run = map
) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
    """Find the ``count`` most typical of the allowed rows, most typical first, of equals the lowest; and their typicality.

    Labeled samples stay neighbours: all ``points`` are. Exact, and far cheaper than the typicality of all: bounds in float32
    leave a handful of rows whose distances are then computed in float64. ``run`` may be a `map` on several threads.
    """
    around = Neighbourhood(points)
    k = min(k, len(points) - 1)
    if len(allowed) > max(count, FEW) and k:
        allowed = _contenders(around, allowed, count, k, run)
    typical = _of_rows(around, allowed, k)
    order = np.argsort(-typical, kind="stable")[:count]
    return allowed[order], typical[order]


def _contenders(around: Neighbourhood, allowed: Rows, count: int, k: int, run: Run) -> Rows:
    """Leave out rows that cannot be among the most typical."""
    # Nothing is more typical than a sample with k copies; blank slices may be half of a pool.
    crowded = allowed[around.copies()[allowed] > k]
    if len(crowded) >= count:
        return crowded[:count]
    # Some rows that are likely to be typical set the standard. It is a bound, whichever they are.
    central = allowed[np.argsort(around.squares[allowed], kind="stable")[: max(FEW, 2 * count)]]
    distances = around.nearest(central, min(k + k // 4 + 1, len(around.points) - 1))[0]
    means = distances[:, :k].mean(axis=1)
    last = np.argsort(means, kind="stable")[count - 1]
    floor = around.mean_distance_floor(k, float(distances[last, -1]), run)
    return allowed[_typicality(floor[allowed]) >= _typicality(means)[last]]


def _of_rows(around: Neighbourhood, rows: Rows, k: int) -> Float[np.ndarray, " rows"]:
    blocks = slices(len(rows), ROWS)
    return np.concatenate([_of_distances(around.nearest(rows[block], k)[0]) for block in blocks])


def _of_distances(distances: Float[np.ndarray, "rows neighbours"]) -> Float[np.ndarray, " rows"]:
    return _typicality(distances.mean(axis=1)) if distances.shape[1] else np.zeros(len(distances))


def _typicality(mean_distance: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return 1 / (mean_distance + 1e-5)
