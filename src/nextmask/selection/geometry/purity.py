"""How large balls around samples may be before they mix classes."""

import numpy as np
from jaxtyping import Float, Int

from nextmask.selection.geometry.coverage_plain import squared_distances
from nextmask.selection.geometry.groups import SortedPool
from nextmask.selection.geometry.side_by_side import slices

ROWS = 32
"""Samples that are compared with the whole pool at a time."""

Labels = Int[np.ndarray, " samples"]


def pure_radius(pool: SortedPool, classes: Labels, rows: Int[np.ndarray, " some"], purity: float) -> float:
    """Find the largest radius at which a share ``purity`` of the balls around ``rows`` hold samples of one class only.

    A ball holds the samples nearer than its radius, so that it is pure exactly as long as the radius is at most the
    distance to the nearest sample of another class. The radius asked for is one of those distances: no search is needed.
    Where samples of different classes coincide, the smallest radius above 0 is given; where there is one class, a
    radius that reaches from everywhere to everywhere.
    """
    distances = np.sort(_to_other_classes(pool, classes, rows))
    impure = int(len(rows) * (1 - purity) + 1e-9)
    found = distances[impure:][distances[impure:] > 0]
    if len(found) and np.isfinite(found[0]):
        return float(found[0])
    across = 2 * pool.sketch.unit * (np.sqrt(float(pool.sketch.squares.max())) + pool.sketch.slack)
    return across if pool.sketch.squares.any() else 1.0


def _to_other_classes(pool: SortedPool, classes: Labels, rows: Int[np.ndarray, " some"]) -> Float[np.ndarray, " some"]:
    """Measure the distance of each row to the nearest sample of another class; infinite where there is none."""
    nearest, of_place = np.full(len(rows), np.inf), classes[pool.order]
    for block in slices(len(rows), ROWS):
        apart = pool.at(rows[block]).squared_distances(pool.sketch)
        apart[classes[rows[block], None] == of_place] = np.inf
        for place, (row, bounds) in enumerate(zip(rows[block], apart, strict=True), block.start):
            nearest[place] = _nearest(pool, int(row), bounds)
    return nearest


def _nearest(pool: SortedPool, row: int, squared: Float[np.ndarray, " samples"]) -> float:
    """Measure the nearest of the samples whose sketches are given finitely far: first a good guess, then its rivals."""
    guess = int(np.argmin(squared))
    if not np.isfinite(squared[guess]):
        return float("inf")
    distance = _least(pool, row, pool.order[[guess]])
    reach = distance / pool.sketch.unit + pool.sketch.slack
    return _least(pool, row, pool.order[squared <= reach**2 * (1 + 1e-6)])


def _least(pool: SortedPool, row: int, others: Int[np.ndarray, " some"]) -> float:
    points = pool.points
    own = points.at(slice(row, row + 1))[0]
    return float(np.sqrt(squared_distances(points.embeddings, points.inverse_lengths, own, others).min()))
