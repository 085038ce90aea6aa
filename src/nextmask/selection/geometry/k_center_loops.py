"""The loops of farthest-first search; compiled.

Bounds and distances to the nearest centre are squared and float64; the table of distances between centres is float32 and
rounded down. What a float32 sum decides is only that a centre is too far to matter; every distance that is kept is
measured anew in float64, its squares summed in a fixed order: the order of `farthest_first.squared_distances`.
"""

from typing import no_type_check

import numpy as np
from numba import njit

LANES = 32
"""Running sums of squares, so that the processor adds many at once in an order that is always the same."""

SLACK = 1e-6
"""Relative safety of a skipped centre: far more than float32 rounding of the table, far less than would cost time."""

TRUSTED = (1e-30, 1e30)
"""Squared distances outside of which rounding of float32 has no relative bound."""


@njit(cache=True, nogil=True, fastmath={"reassoc", "contract"})
@no_type_check
def _rough(points, row, others, other):
    """Sum squared differences in the precision of the points, in any order."""
    total = points.dtype.type(0)
    for axis in range(points.shape[1]):
        difference = points[row, axis] - others[other, axis]
        total += difference * difference
    return total


@njit(cache=True, nogil=True)
@no_type_check
def _at_least(points, row, others, other):
    """Bound a squared distance from below; 0 where rounding cannot be bounded."""
    total = _rough(points, row, others, other)
    # A sum of d terms in float32, in any order, is off by d + 2 half units in the last place at most.
    return total * (1 - (points.shape[1] + 16) * 2.0**-23) if TRUSTED[0] < total < TRUSTED[1] else 0.0


@njit(cache=True, nogil=True)
@no_type_check
def exact(points, row, others, other, sums):
    """Measure a squared distance in float64, by differences; ``sums`` is LANES numbers of working space."""
    sums[:] = 0
    whole = points.shape[1] // LANES * LANES
    for start in range(0, whole, LANES):
        for lane in range(np.uint64(LANES)):
            # Unsigned: signed places might count from the end, and to look whether they do takes longer than the sum.
            axis = np.uint64(start) + lane
            difference = np.float64(points[row, axis]) - np.float64(others[other, axis])
            sums[lane] += difference * difference
    for axis in range(whole, points.shape[1]):
        difference = np.float64(points[row, axis]) - np.float64(others[other, axis])
        sums[axis - whole] += difference * difference
    width = LANES // 2
    while width:
        for lane in range(width):
            sums[lane] += sums[lane + width]
        width //= 2
    return sums[0]


@njit(cache=True, nogil=True)
@no_type_check
def _up_to_date(state, row, count, enough, sums):
    """Compare a row with the centres it has not seen, until it is nearer to one than ``enough``."""
    # Taken out of the state once: reference counting within the loop would take as long as the distances.
    points, known, table = state.points, state.known, state.table
    bound, place, anchor, gap = state.bound[row], state.seen[row], state.anchor[row], np.float64(state.gap[row])
    crowd = len(state.first) - 1 if len(state.members) else -1
    reach = (gap + np.sqrt(bound)) * (1 + SLACK)
    while place < count and bound >= enough:
        if place == crowd:
            bound = _to_crowd(state, row, bound, anchor, gap, sums)
            reach = (gap + np.sqrt(bound)) * (1 + SLACK)
        # Triangle inequality: a centre as far from the anchor as that cannot be nearer than the bound.
        elif table[anchor, place] < reach and _at_least(points, row, known, place) < bound:
            squared = exact(points, row, known, place, sums)
            if squared < bound:
                bound = squared
                if place < len(table):
                    anchor, gap = place, np.sqrt(squared) * (1 + SLACK)
                reach = (gap + np.sqrt(bound)) * (1 + SLACK)
        place += 1
    state.bound[row], state.seen[row], state.anchor[row], state.gap[row] = bound, place, anchor, gap


@njit(cache=True, nogil=True)
@no_type_check
def _to_crowd(state, row, bound, anchor, gap, sums):
    """Find the nearest of the labeled samples that are no centres of the table, group by group."""
    groups = len(state.first) - 1
    for step in range(groups):
        group = (anchor + step) % groups if anchor < groups else step
        farthest = state.reach[state.first[group + 1] - 1] if state.first[group + 1] > state.first[group] else -np.inf
        limit = np.sqrt(bound) * (1 + SLACK)
        if anchor != group and state.table[anchor, group] - gap - farthest * (1 + SLACK) >= limit:
            continue
        bound = _to_group(state, row, bound, group, sums)
    return bound


@njit(cache=True, nogil=True)
@no_type_check
def _to_group(state, row, bound, group, sums):
    """Find the nearest of one group, which is sorted by the distance to its pivot."""
    apart = np.sqrt(exact(state.points, row, state.known, group, sums))
    for member in range(state.first[group], state.first[group + 1]):
        limit = np.sqrt(bound) + SLACK * (apart + state.reach[member] + np.sqrt(bound))
        if state.reach[member] - apart >= limit:
            break
        if apart - state.reach[member] >= limit:
            continue
        if _at_least(state.points, row, state.crowd, state.members[member]) < bound:
            bound = min(bound, exact(state.points, row, state.crowd, state.members[member], sums))
    return bound


@njit(cache=True, nogil=True)
@no_type_check
def _find_top(state, block):
    """Note the row of a block with the highest bound, of equals the lowest."""
    bounds = state.bound
    start, stop = block * state.rows_per_block, min((block + 1) * state.rows_per_block, len(bounds))
    top, highest = start, bounds[start]
    for row in range(start + 1, stop):
        if bounds[row] > highest:
            top, highest = row, bounds[row]
    state.top[block], state.top_bound[block] = top, highest


@njit(cache=True, nogil=True)
@no_type_check
def begin(state, first_block, last_block):
    """Measure how far the rows of these blocks are from the first centre."""
    sums = np.empty(LANES)
    for block in range(first_block, last_block):
        for row in range(block * state.rows_per_block, min((block + 1) * state.rows_per_block, len(state.bound))):
            if state.bound[row] >= 0:
                state.bound[row] = exact(state.points, row, state.known, 0, sums)
                state.gap[row] = np.sqrt(state.bound[row]) * (1 + SLACK)
                state.seen[row] = 1
        _find_top(state, block)


@njit(cache=True, nogil=True)
@no_type_check
def nearly_known(state, count):
    """Bring up to date the highest row that lacks one centre at most, or else the highest of all; name it and its bound.

    Its distance is high, so that few rows of the others have to be looked at.
    """
    best, highest = -1, -1.0
    for block in range(len(state.top)):
        if state.top_bound[block] > highest and state.seen[state.top[block]] >= count - 1:
            best, highest = block, state.top_bound[block]
    if best < 0:
        best = int(np.argmax(state.top_bound))
    row = state.top[best]
    _up_to_date(state, row, count, -1.0, np.empty(LANES))
    _find_top(state, best)
    return row, state.bound[row]


@njit(cache=True, nogil=True)
@no_type_check
def farthest(state, count, first_block, last_block, row, value):
    """Find the row of these blocks that is farthest from all centres, or else ``row``, which is at ``value``."""
    sums = np.empty(LANES)
    for block in range(first_block, last_block):
        while state.top_bound[block] > value or (state.top_bound[block] == value and state.top[block] < row):
            top = state.top[block]
            if state.seen[top] == count:
                row, value = top, state.top_bound[block]
                break
            _up_to_date(state, top, count, value, sums)
            _find_top(state, block)
    return row, value


@njit(cache=True, nogil=True)
@no_type_check
def take(state, row):
    """Take a row out of the search."""
    state.bound[row] = -1.0
    _find_top(state, row // state.rows_per_block)


@njit(cache=True, nogil=True)
@no_type_check
def note_distances(state, place):
    """Enter the distances of a new centre into the table, rounded down."""
    for other in range(place):
        apart = np.sqrt(_at_least(state.known, place, state.known, other)) * (1 - SLACK)
        if other < len(state.table):
            state.table[other, place] = apart
        if place < len(state.table):
            state.table[place, other] = apart


@njit(cache=True, nogil=True)
@no_type_check
def nearest_pivots(crowd, members, pivots, group, reach):
    """Note for each member its nearest pivot and the distance to it."""
    sums = np.empty(LANES)
    for place in range(len(members)):
        bound = np.inf
        for pivot in range(len(pivots)):
            if _at_least(crowd, members[place], pivots, pivot) < bound:
                squared = exact(crowd, members[place], pivots, pivot, sums)
                if squared < bound:
                    bound, group[place] = squared, pivot
        reach[place] = np.sqrt(bound)
