"""The loops of coverage that NumPy would have to spread over arrays; compiled.

The squared distance of two sketches is |a|^2 + |b|^2 - 2ab. Where that is not exact, the squares that are given make it a
bound: from below for what may be added, and that may be below 0; from above for what is taken away. Those within reach are
few and far between: they are first listed without a branch that a processor could guess wrong, then looked up.
"""

from typing import no_type_check

import numpy as np
from numba import njit

LANES = 32
"""Running sums of squares, so that the processor adds many at once in an order that is always the same."""

CHUNK = 64
"""Columns that are first looked at together, many at once by the processor: most chunks hold none within reach."""

SHIFT = 8
"""Squared distances, below 2^24, share an entry of the table of similarities by 2^8."""


@njit(cache=True, nogil=True)
@no_type_check
def add_bounds(products, own, squares, limit_of_rows, best_of_rows, limit, best, table, out_of_rows, out):
    """Add to ``out_of_rows`` what each row may at most add to the columns, and to ``out`` what columns may add to rows."""
    columns = products.shape[1]
    near, apart = np.empty(columns + 1, dtype=np.int32), np.empty(columns + 1, dtype=np.float32)
    for row in range(products.shape[0]):
        count = _within(products[row], own[row], squares, limit_of_rows[row], limit, near, apart)
        total = 0.0
        for place in range(count):
            column, squared = near[place], apart[place]
            value = table[np.int32(max(squared, np.float32(0))) >> SHIFT]
            offer, offered = value - best[column], value - best_of_rows[row]
            total += offer if offer > 0 and squared < limit[column] else 0.0
            out[column] += offered if offered > 0 and squared < limit_of_rows[row] else 0.0
        out_of_rows[row] += total


@njit(cache=True, nogil=True)
@no_type_check
def subtract_bounds(products, own, squares, limit, limit_now, best, best_now, table, out):
    """Take from ``out`` (columns,) what the rows of ``products``, targets that came closer, no longer offer them."""
    rows, columns = products.shape
    near, apart = np.empty(columns + 1, dtype=np.int32), np.empty(columns + 1, dtype=np.float32)
    none = np.zeros(columns, dtype=np.float32)
    for row in range(rows):
        count = _within(products[row], own[row], squares, limit[row], none, near, apart)
        for place in range(count):
            value = table[np.int32(apart[place]) >> SHIFT]
            offered, offers = value - best[row], value - best_now[row]
            out[near[place]] -= offered if offered > 0 else 0.0
            out[near[place]] += offers if offers > 0 and apart[place] < limit_now[row] else 0.0


@njit(cache=True, nogil=True)
@no_type_check
def _within(products, own, squares, limit_of_row, limit, near, apart):
    """List into ``near`` the columns nearer than either limit, how far into ``apart``; give their number."""
    count = 0
    for start in range(0, len(products), CHUNK):
        product, square, other = (
            products[start : start + CHUNK],
            squares[start : start + CHUNK],
            limit[start : start + CHUNK],
        )
        some = np.int32(0)
        for column in range(len(product)):
            squared = own + square[column] - np.float32(2) * product[column]
            farther = other[column] if other[column] > limit_of_row else limit_of_row
            some += np.int32(1) if squared < farther else np.int32(0)
        if some:
            for column in range(len(product)):
                squared = own + square[column] - np.float32(2) * product[column]
                farther = other[column] if other[column] > limit_of_row else limit_of_row
                near[count] = start + column
                apart[count] = squared
                count += squared < farther
    return count


@njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
@no_type_check
def _product(one, other):
    total = np.float32(0)
    for axis in range(len(one)):
        total += one[axis] * other[axis]
    return total


@njit(cache=True, nogil=True)
@no_type_check
def within_reach(own, own_square, centres, centre_squares, radius, group_reach, starts, coordinates, squares, limit):
    """List the targets, sorted into groups, that the sketch does not rule out."""
    found = np.empty(len(limit) + 1, dtype=np.int64)
    count = 0
    for group in range(len(radius)):
        apart = own_square + centre_squares[group] - np.float32(2) * _product(own, centres[group])
        if group_reach[group] > 0 and apart < (group_reach[group] + radius[group]) ** 2 * (1 + 1e-6):
            for place in range(starts[group], starts[group + 1]):
                found[count] = place
                squared = own_square + squares[place] - np.float32(2) * _product(own, coordinates[place])
                count += squared < limit[place]
    return found[:count]


@njit(cache=True, nogil=True)
@no_type_check
def squared_distances(embeddings, inverse_lengths, own, rows):
    """Measure squared distances of a float64 point ``own`` to rows, by differences in float64, summed as NumPy's way sums."""
    distances, sums = np.empty(len(rows)), np.empty(LANES)
    for place in range(len(rows)):
        distances[place] = _squared_distance(own, embeddings, rows[place], inverse_lengths[rows[place]], sums)
    return distances


@njit(cache=True, nogil=True)
@no_type_check
def _squared_distance(own, embeddings, row, factor, sums):
    sums[:] = 0
    whole = len(own) // LANES * LANES
    for start in range(0, whole, LANES):
        for lane in range(np.uint64(LANES)):
            # Unsigned: signed places might count from the end, and to look whether they do takes longer than the sum.
            axis = np.uint64(start) + lane
            difference = np.float64(embeddings[row, axis]) * factor - own[axis]
            sums[lane] += difference * difference
    for axis in range(whole, len(own)):
        difference = np.float64(embeddings[row, axis]) * factor - own[axis]
        sums[axis - whole] += difference * difference
    width = LANES // 2
    while width:
        for lane in range(width):
            sums[lane] += sums[lane + width]
        width //= 2
    return sums[0]
