"""Greedy coverage: take, one by one, the sample that most raises how well the targets are represented.

A target at distance d from its nearest chosen sample is represented similarity(d), which never rises with d. Short sketches
of the samples bound what each would add from above, for all samples; after a pick, the bounds of those near a target that
came closer are lowered by what it no longer offers. So the bounds are those of the moment, and only the few samples at their
top are measured. What decides is measured in float64, by differences, and summed without rounding (`math.fsum`): neither
the order of the rows nor the number of threads can change a pick.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from nextmask.selection.geometry.compiled import compiled
from nextmask.selection.geometry.groups import Groups, sorted_into_groups
from nextmask.selection.geometry.side_by_side import side_by_side, slices
from nextmask.selection.geometry.sketch import Points, Sketch, sketch

WORTH_COMPILING = 20_000_000
"""Pairs of samples from which compiled loops repay their loading."""

COLUMNS = 4096
"""Samples whose products with a block of others are held at a time, so that they stay in the processor's cache."""

ROWS = 128
"""Rows of such a block."""

WIDTH = 4096
"""Squared distances of sketches, below 2^24, share an entry of the table of similarities by so many."""

GRAIN = 2.0**-30
"""Bounds are sums of multiples of this, rounded upwards: exact in float64, so that what was added can be taken away."""

Values = Float[np.ndarray, " some"]
Places = Int[np.ndarray, " some"]


@dataclass(frozen=True)
class Similarity:
    """How well a sample represents another, from their squared distance: 0 to 1, 0 at infinity, and never rising.

    ``reach``: the distance from which on it is 0.
    """

    of: Callable[[Values], Values]
    reach: float = math.inf


@dataclass(frozen=True)
class Pick:
    """A chosen row; the sum of similarities that it ``added``, and how many targets it brought ``closer``."""

    row: int
    added: float
    closer: int


class Coverage:
    """How well the targets (rows; all where None) are represented by what is chosen so far, and what each row would add.

    ``best`` (targets,) is the similarity of each target to what is chosen, in the order of ``targets``.
    """

    def __init__(self, points: Points, similarity: Similarity, targets: Int[np.ndarray, " targets"] | None = None) -> None:
        self._points, self._similarity = points, similarity
        pool = sketch(points)
        self._groups: Groups = sorted_into_groups(pool)
        order = self._groups.order
        wanted = np.ones(len(order), dtype=bool) if targets is None else np.isin(order, targets)
        self.targets = order[wanted]
        self._starts = np.append(0, np.cumsum(wanted))[self._groups.starts]
        self._place = np.argsort(order)
        self._pool: Sketch = pool.at(order)
        self._targets: Sketch = self._pool if targets is None else self._pool.at(np.flatnonzero(wanted))
        self._loops = compiled("coverage_loops") if len(order) * len(self.targets) >= WORTH_COMPILING else None
        self._table = _table(similarity, pool)
        self._nearest = np.full(len(self.targets), np.inf)
        self.best = similarity.of(self._nearest)
        self._limit = self._limits(np.arange(len(self.targets)))
        self._group_reach = self._group_reaches()
        self._bound: Values | None = None

    def bounds(self) -> Float[np.ndarray, " samples"]:
        """Bound from above what each row would add."""
        if self._bound is None:
            self._bound = np.zeros(len(self._pool))
            with side_by_side() as run:
                deque(run(self._bound_rows, slices(len(self._pool), ROWS)), maxlen=0)
        return self._bound[self._place]

    def gain(self, row: int) -> tuple[float, int]:
        """Measure what a row would add, and to how many targets."""
        places, squared = self._near(row)
        more = self._similarity.of(squared) - self.best[places]
        more = more[more > 0]
        return math.fsum(more.tolist()), len(more)

    def add(self, row: int) -> None:
        """Choose a row."""
        places, squared = self._near(row)
        closer = squared < self._nearest[places]
        places, squared = places[closer], squared[closer]
        before, limit = self.best[places], self._limit[places]
        self._nearest[places] = squared
        self.best[places] = self._similarity.of(squared)
        self._limit[places] = self._limits(places)
        self._group_reach = self._group_reaches()
        changed = np.flatnonzero(self.best[places] > before)
        if self._bound is not None:
            for some in (changed[block] for block in slices(len(changed), ROWS)):
                self._lower_bounds(places[some], before[some], limit[some])

    def _limits(self, places: Places) -> Float[np.ndarray, " some"]:
        """Find the squared distance in the sketch from which on nothing can be added to targets; rounded upwards."""
        reach = np.minimum(np.sqrt(self._nearest[places]), self._similarity.reach) / self._pool.unit + self._pool.slack
        return np.where(self.best[places] < 1, reach**2 * (1 + 1e-6), 0).astype(np.float32)

    def _group_reaches(self) -> Float[np.ndarray, " groups"]:
        """Find the distance in the sketch from which on nothing can be added to any target of a group."""
        used = np.flatnonzero(np.diff(self._starts))
        reach = np.full(len(self._starts) - 1, -np.inf)
        farthest = np.maximum.reduceat(self._limit, self._starts[used])
        reach[used] = np.where(farthest > 0, np.sqrt(farthest), -np.inf)
        return reach

    def _bound_rows(self, rows: slice) -> None:
        """Add up what these rows of the sorted pool may at most add."""
        own, add = self._pool.at(rows), self._loops.add_bounds if self._loops else _add_bounds
        near = (self._groups.distances(own) < self._group_reach).any(axis=0)
        places = np.flatnonzero(np.repeat(near, np.diff(self._starts)))
        for some in (places[block] for block in slices(len(places), COLUMNS)):
            targets = self._targets.at(some)
            products = own.coordinates @ targets.coordinates.T
            rest = self._limit[some], _floor(self.best[some]), self._table
            add(products, own.squares, targets.squares, *rest, self._bound[rows])

    def _lower_bounds(self, places: Places, before: Values, limit: Values) -> None:
        """Take from the bounds what these targets no longer offer that were represented less well ``before``."""
        own, levels = self._targets.at(places), (limit, _floor(before), _floor(self.best[places]), self._table)
        near = (self._groups.distances(own) < np.sqrt(limit)[:, None]).any(axis=0)
        subtract = self._loops.subtract_bounds if self._loops else _subtract_bounds
        rows = np.flatnonzero(np.repeat(near, np.diff(self._groups.starts)))
        for some in (rows[block] for block in slices(len(rows), COLUMNS)):
            others, less = self._pool.at(some), np.zeros(len(some))
            subtract(own.coordinates @ others.coordinates.T, own.squares, others.squares, *levels, less)
            self._bound[some] += less

    def _near(self, row: int) -> tuple[Places, Values]:
        """Find the targets that a row may represent better than anything chosen; their squared distances in float64."""
        own, groups, targets = self._pool.at(self._place[[row]]), self._groups, self._targets
        if self._loops:
            sorted_out = groups.centres.coordinates, groups.centres.squares, groups.radius, self._group_reach, self._starts
            rest = *sorted_out, targets.coordinates, targets.squares, self._limit
            places = self._loops.within_reach(own.coordinates[0], own.squares[0], *rest)
        else:
            places = np.flatnonzero(own.squared_distances(targets)[0] < self._limit)
        return places, self._squared_distances(row, self.targets[places])

    def _squared_distances(self, row: int, rows: Places) -> Values:
        if not self._loops or self._points.embeddings.dtype == np.float16:
            return self._points.squared_distances(row, rows)
        own = self._points.at(slice(row, row + 1))[0]
        return self._loops.squared_distances(self._points.embeddings, self._points.inverse_lengths, own, rows)


def greedy(coverage: Coverage, allowed: Bool[np.ndarray, " samples"], cost: Values | None = None) -> Iterator[Pick]:
    """Yield the allowed rows, each the one that adds most to the coverage (per minute of ``cost``), of equals the lowest."""
    left, minutes = allowed.copy(), np.ones(len(allowed)) if cost is None else cost.astype(np.float64)
    known = np.full(len(left), np.inf)
    for _ in range(np.count_nonzero(left)):
        known = np.minimum(known, coverage.bounds())
        row = _best_row(coverage, np.where(left, known / minutes, -np.inf), known, minutes)
        added, closer = coverage.gain(row)
        yield Pick(row, added, closer)
        left[row] = False
        coverage.add(row)


def _best_row(coverage: Coverage, rate: Values, known: Values, minutes: Values) -> int:
    """Measure the row of the highest rate until that one has been measured; what is learnt is kept in ``known``."""
    measured = set()
    while (top := int(np.argmax(rate))) not in measured and rate[top] > 0:
        known[top] = coverage.gain(top)[0]
        rate[top] = known[top] / minutes[top]
        measured.add(top)
    return top


def _table(similarity: Similarity, pool: Sketch) -> Float[np.ndarray, " entries"]:
    """Tabulate the similarity, rounded upwards, at squared distances in the sketch."""
    distance = np.sqrt(np.arange(2**24 // WIDTH) * float(WIDTH)) - pool.slack
    return np.ceil(similarity.of((np.maximum(distance, 0) * pool.unit) ** 2) / GRAIN) * GRAIN


def _floor(best: Values) -> Values:
    return np.floor(best / GRAIN) * GRAIN


def _offers(squared: Values, limit: Values, best: Values, table: Values) -> Float[np.ndarray, "rows columns"]:
    offers = np.maximum(table[squared.astype(np.int64) // WIDTH] - best, 0)
    return np.where(squared < limit, offers, 0)


def _add_bounds(
    products: Values, own: Values, squares: Values, limit: Values, best: Values, table: Values, out: Values
) -> None:
    """Do what the compiled loop of this name does."""
    out += _offers(own[:, None] + squares - 2 * products, limit, best, table).sum(axis=1)


def _subtract_bounds(
    products: Values, own: Values, squares: Values, limit: Values, before: Values, now: Values, table: Values, out: Values
) -> None:
    """Do what the compiled loop of this name does."""
    squared = own[:, None] + squares - 2 * products
    offered, offers = (_offers(squared, limit[:, None], best[:, None], table) for best in (before, now))
    out -= (offered - offers).sum(axis=0)
