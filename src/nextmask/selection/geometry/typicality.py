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

NEARLY = 0.999
"""Of a distance: where all samples are equally far apart, none of the pairs are to be listed rather than all."""

TRIED = 32
"""Samples of which the densest says how far to look for neighbours."""

FEW = 8
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
    # How far to look: as far as to twice as many neighbours as count, around the densest of some samples.
    some = allowed[np.linspace(0, len(allowed) - 1, TRIED).astype(np.int64)]
    near = around.roughly(some, min(2 * k, len(around.points) - 1))
    densest = near[np.argsort(near[:, -1], kind="stable")[min(count, TRIED) - 1]]
    floor = around.mean_distance_floor(k, NEARLY * float(densest[-1]), float(densest[:k].mean()), run)[allowed]
    # What some good ones have is what the others have to reach.
    good = allowed[np.sort(np.argsort(floor, kind="stable")[: max(FEW, count)])]
    needed = np.sort(_of_rows(around, good, k))[-count]
    return allowed[_typicality(floor) >= needed]


def _of_rows(around: Neighbourhood, rows: Rows, k: int) -> Float[np.ndarray, " rows"]:
    blocks = slices(len(rows), ROWS)
    return np.concatenate([_of_distances(around.nearest(rows[block], k)[0]) for block in blocks])


def _of_distances(distances: Float[np.ndarray, "rows neighbours"]) -> Float[np.ndarray, " rows"]:
    return _typicality(distances.mean(axis=1)) if distances.shape[1] else np.zeros(len(distances))


def _typicality(mean_distance: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    return 1 / (mean_distance + 1e-5)
