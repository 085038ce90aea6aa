"""The loops of coverage that NumPy would have to spread over arrays; compiled."""

import numpy as np
from numba import njit

WIDTH = 4096
"""Squared distances of sketches, below 2^24, share an entry of the table of similarities by so many."""

LANES = 32
"""Targets that are looked at together: most often none of them is within reach, which a vector instruction tells."""


@njit(cache=True, nogil=True)
def add_bounds(products, own, squares, limit, best, table, out):  # type: ignore[no-untyped-def]
    """Add to ``out`` (rows,) what each row may at most add to the targets of ``products`` (rows, targets)."""
    rows, targets = products.shape
    for row in range(rows):
        total = 0.0
        for start in range(0, targets, LANES):
            stop = min(start + LANES, targets)
            any_near = False
            for target in range(start, stop):
                any_near |= own[row] + squares[target] - np.float32(2) * products[row, target] < limit[target]
            if any_near:
                for target in range(start, stop):
                    squared = own[row] + squares[target] - np.float32(2) * products[row, target]
                    if squared < limit[target]:
                        total += max(table[int(squared) // WIDTH] - best[target], 0.0)
        out[row] += total


@njit(cache=True, nogil=True)
def subtract_bounds(products, own, squares, limit, before, now, table, out):  # type: ignore[no-untyped-def]
    """Take from ``out`` (columns,) what they can no longer add to ``products``' rows: targets that came ``before`` -> ``now``."""
    rows, columns = products.shape
    for row in range(rows):
        for start in range(0, columns, LANES):
            stop = min(start + LANES, columns)
            any_near = False
            for column in range(start, stop):
                any_near |= own[row] + squares[column] - np.float32(2) * products[row, column] < limit[row]
            if any_near:
                for column in range(start, stop):
                    squared = own[row] + squares[column] - np.float32(2) * products[row, column]
                    if squared < limit[row]:
                        value = table[int(squared) // WIDTH]
                        out[column] -= max(value - before[row], 0.0) - max(value - now[row], 0.0)


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _product(one, other):  # type: ignore[no-untyped-def]
    total = np.float32(0)
    for axis in range(len(one)):
        total += one[axis] * other[axis]
    return total


@njit(cache=True, nogil=True)
def within_reach(own, own_square, coordinates, squares, limit, spans):  # type: ignore[no-untyped-def]
    """List the places, among those in the spans (spans, 2), that the sketch does not rule out."""
    found = np.empty((spans[:, 1] - spans[:, 0]).sum(), dtype=np.int64)
    count = 0
    for span in range(len(spans)):
        for place in range(spans[span, 0], spans[span, 1]):
            if own_square + squares[place] - np.float32(2) * _product(own, coordinates[place]) < limit[place]:
                found[count] = place
                count += 1
    return found[:count]


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz"})
def _squared_distance(own, other, factor):  # type: ignore[no-untyped-def]
    total = 0.0
    for axis in range(len(own)):
        difference = other[axis] * factor - own[axis]
        total += difference * difference
    return total


@njit(cache=True, nogil=True)
def squared_distances(embeddings, inverse_lengths, own, rows):  # type: ignore[no-untyped-def]
    """Measure squared distances of a float64 point ``own`` to rows, by differences in float64."""
    distances = np.empty(len(rows))
    for place in range(len(rows)):
        distances[place] = _squared_distance(own, embeddings[rows[place]], inverse_lengths[rows[place]])
    return distances
