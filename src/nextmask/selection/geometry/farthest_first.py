"""Farthest-first search: rows of a pool, each as far as can be from all before; exact, and lazy where the pool is large.

Lazy: every row carries an upper bound of its distance to the nearest centre and the number of centres it has seen. Centres
are only ever added, so that a bound never rises, and a row whose bound is too low need not be looked at. Most rows are
not looked at between picks. See `k_center_loops` for the loops.
"""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Shaped

from nextmask.data.compiled import compiled
from nextmask.selection.geometry.side_by_side import Run, side_by_side, slices

WORTH_COMPILING = 200_000_000
"""Differences of coordinates from which compiled loops repay their loading: about half a second of NumPy."""

ROWS_PER_BLOCK = 128
"""Rows that share one highest bound."""

PIVOTS = 256
"""Given centres that every row may be compared with; further ones are grouped around these."""

TABLE = 4_000_000
"""Distances between centres that are held, 16 MB."""

LANES = 32
"""Running sums of squares: the fixed order of summation, the same in NumPy and compiled."""

BLOCK = 4096
"""Rows per difference: what is held beside the embeddings is BLOCK x dims numbers and a few per row."""

Points = Float[np.ndarray, "rows dims"]
Distances = Float[np.ndarray, " rows"]


@dataclass(frozen=True, eq=False)
class Centres:
    """Where the search begins: the ``rows`` of ``points``, which may be the pool searched or other samples."""

    points: Float[np.ndarray, "others dims"]
    rows: Int[np.ndarray, " centres"]


@dataclass(frozen=True, eq=False)
class Chain:
    """Rows in the order in which they were taken; how far each was from all before (infinite where there were none).

    ``radius`` (rows,) is the largest distance of any row to the nearest centre or taken row, after each was taken.
    """

    rows: Int[np.ndarray, " picks"]
    distance: Float[np.ndarray, " picks"]
    radius: Float[np.ndarray, " picks"]


def farthest_first(
    points: Points, out: Bool[np.ndarray, " rows"], n: int, centres: Centres, first: int | None = None
) -> Chain:
    """Take ``n`` rows that are not ``out``, each the farthest from the centres and all rows before, of equals the lowest.

    Where there are no centres the search begins with the row ``first``.
    """
    rows, squared = np.empty(n + 1, dtype=np.int64), np.empty(n + 1)
    with closing(_search(points, out, n, centres, first)) as found:
        for pick in range(n + 1):
            # One more than asked for: the distance of the next row is the radius that the last pick leaves.
            rows[pick], squared[pick] = next(found, (-1, 0.0))
    distance = np.sqrt(squared)
    return Chain(rows[:n], distance[:n], distance[1:])


def squared_distances(points: Points, centre: Shaped[np.ndarray, " dims"]) -> Distances:
    """Measure squared distances to one centre in float64, a block of rows at a time.

    By differences: |x|^2 + |c|^2 - 2xc loses the digits that matter once the features share an offset.
    """
    distances = np.empty(len(points))
    squares = np.zeros((min(BLOCK, len(points)), -(-points.shape[1] // LANES) * LANES))
    for block in slices(len(points), BLOCK):
        part = squares[: block.stop - block.start]
        np.subtract(points[block], centre, out=part[:, : points.shape[1]], dtype=np.float64)
        sums = np.square(part, out=part).reshape(len(part), -1, LANES).sum(axis=1)
        while sums.shape[1] > 1:
            sums = sums[:, : sums.shape[1] // 2] + sums[:, sums.shape[1] // 2 :]
        distances[block] = sums[:, 0]
    return distances


def _search(
    points: Points, out: Bool[np.ndarray, " rows"], n: int, centres: Centres, first: int | None
) -> Generator[tuple[int, float], None, None]:
    """Yield rows and their squared distances until no row is left; ``n`` and one more may be asked for."""
    if first is not None:
        yield first, np.inf
        centres, out = Centres(points, np.array([first])), out.copy()
        out[first] = True
    work = len(points) * (len(centres.rows) + n) * points.shape[1]
    loops = compiled("nextmask.selection.geometry.k_center_loops") if work >= WORTH_COMPILING else None
    if out.all():
        return
    yield from _lazily(loops, points, out, n, centres) if loops else _plainly(points, out, centres)


def _plainly(
    points: Points, out: Bool[np.ndarray, " rows"], centres: Centres
) -> Generator[tuple[int, float], None, None]:
    """Measure every row against every centre."""
    nearest = np.full(len(points), np.inf)
    for row in centres.rows:
        np.minimum(nearest, squared_distances(points, centres.points[row]), out=nearest)
    # Below every distance: on a pool of repeated samples all distances reach 0, and these rows must not come again.
    nearest[out] = -1.0
    for _ in range(np.count_nonzero(~out)):
        row = int(np.argmax(nearest))
        yield row, nearest[row]
        np.minimum(nearest, squared_distances(points, points[row]), out=nearest)
        nearest[row] = -1.0


class _State(NamedTuple):
    """What the compiled loops work on. Squared distances in ``bound`` and ``top_bound``, distances everywhere else."""

    points: Points
    #: Centres that all rows are compared with in this order: pivots, a place for the crowd if there is one, and picks.
    known: Float[np.ndarray, "places dims"]
    #: Distances between them, rounded down; as many rows as TABLE allows.
    table: Float32[np.ndarray, "anchors places"]
    #: The other given centres: rows of ``crowd``, by their nearest pivot and by the distance to it.
    crowd: Float[np.ndarray, "others dims"]
    members: Int[np.ndarray, " members"]
    first: Int[np.ndarray, " groups_and_end"]
    reach: Float[np.ndarray, " members"]
    #: Of each row: upper bound, centres seen, nearest of them that is in the table, and the distance to that one.
    bound: Distances
    seen: Int[np.ndarray, " rows"]
    anchor: Int[np.ndarray, " rows"]
    gap: Float32[np.ndarray, " rows"]
    #: Of each block: the row with the highest bound.
    top: Int[np.ndarray, " blocks"]
    top_bound: Float[np.ndarray, " blocks"]
    rows_per_block: int


def _lazily(
    loops: ModuleType, points: Points, out: Bool[np.ndarray, " rows"], n: int, centres: Centres
) -> Generator[tuple[int, float], None, None]:
    """Measure only what can matter."""
    state, count = _begun(loops, _compilable(points), out, n, Centres(_compilable(centres.points), centres.rows))
    parts = slices(len(state.top), -(-len(state.top) // 2))
    with side_by_side() as run:
        list(run(lambda part: loops.begin(state, part.start, part.stop), parts))
        for _ in range(np.count_nonzero(~out)):
            row, squared = _next(loops, state, count, run, parts)
            yield row, squared
            state.known[count] = state.points[row]
            loops.note_distances(state, count)
            loops.take(state, row)
            count += 1


def _next(loops: ModuleType, state: _State, count: int, run: Run, parts: list[slice]) -> tuple[int, float]:
    start = loops.nearly_known(state, count)
    found = run(lambda part: loops.farthest(state, count, part.start, part.stop, *start), parts)
    row, squared = min(found, key=lambda pair: (-pair[1], pair[0]))
    return int(row), float(squared)


def _begun(
    loops: ModuleType, points: Points, out: Bool[np.ndarray, " rows"], n: int, centres: Centres
) -> tuple[_State, int]:
    """Lay out the state, and count the centres that it knows."""
    # Spread evenly over the given centres, so that where those are many, pivots are many.
    pivot = np.unique(np.linspace(0, len(centres.rows) - 1, min(PIVOTS, len(centres.rows))).astype(np.int64))
    known = np.zeros((len(pivot) + 1 + n, points.shape[1]), dtype=points.dtype)
    known[: len(pivot)] = centres.points[centres.rows[pivot]]
    members, first, reach = _crowd(loops, centres, pivot, known[: len(pivot)])
    blocks = -(-len(points) // ROWS_PER_BLOCK)
    state = _State(
        points=points,
        known=known,
        table=np.zeros((min(len(known), max(1, TABLE // len(known))), len(known)), dtype=np.float32),
        crowd=centres.points,
        members=members,
        first=first,
        reach=reach,
        bound=np.where(out, -1.0, np.inf),
        seen=np.zeros(len(points), dtype=np.int32),
        anchor=np.zeros(len(points), dtype=np.int32),
        gap=np.zeros(len(points), dtype=np.float32),
        top=np.zeros(blocks, dtype=np.int64),
        top_bound=np.zeros(blocks),
        rows_per_block=ROWS_PER_BLOCK,
    )
    for place in range(len(pivot)):
        loops.note_distances(state, place)
    # The crowd takes the place behind the pivots, as if it were one more centre.
    return state, len(pivot) + (len(members) > 0)


def _crowd(
    loops: ModuleType, centres: Centres, pivot: Int[np.ndarray, " pivots"], pivots: Float[np.ndarray, "pivots dims"]
) -> tuple[Int[np.ndarray, " members"], Int[np.ndarray, " groups_and_end"], Float[np.ndarray, " members"]]:
    """Sort the centres that are no pivots by their nearest pivot, then by the distance to it."""
    members = np.delete(centres.rows, pivot)
    group, reach = np.zeros(len(members), dtype=np.int64), np.zeros(len(members))
    if len(members):
        loops.nearest_pivots(centres.points, members, pivots, group, reach)
    order = np.lexsort((reach, group))
    first = np.searchsorted(group[order], np.arange(len(pivot) + 1))
    return members[order], first, reach[order]


def _compilable(points: Points) -> Points:
    """Give the loops one kind of array: read-only, rows in one piece, in single or double precision (half is copied)."""
    points = np.ascontiguousarray(points, dtype=np.float32 if points.dtype == np.float16 else None).view(np.ndarray)
    points.flags.writeable = False
    return points
