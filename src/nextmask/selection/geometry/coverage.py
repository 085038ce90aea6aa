"""Greedy coverage: take, one by one, the sample that most raises how well the targets are represented.

A target at distance d from its nearest chosen sample is represented similarity(d), which never rises with d. Short sketches
of the samples bound what each would add from above, for all samples; after a pick, the bounds of those near a target that
came closer are lowered by what it no longer offers. So the bounds are those of the moment, and only the few samples at their
top are measured. What decides is measured in float64, by differences, and summed without rounding (`math.fsum`): neither
the order of the rows nor the number of threads can change a pick.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from nextmask.errors import SelectionError
from nextmask.selection.budget import per_minute
from nextmask.selection.geometry import coverage_plain
from nextmask.selection.geometry.compiled import compiled
from nextmask.selection.geometry.groups import SortedPool
from nextmask.selection.geometry.side_by_side import Run, side_by_side, slices
from nextmask.selection.geometry.sketch import Sketch
from nextmask.selection.types import Cost, Rows

WORTH_COMPILING = 20_000_000
"""Pairs of samples from which compiled loops repay their loading."""

COLUMNS = 2048
"""Samples whose products with a block of others are held at a time, so that they stay in the processor's cache."""

ROWS = 128
"""Rows of such a block."""

WIDTH = 4096
"""Squared distances of sketches, below 2^24, share an entry of the table of similarities by so many."""

BEYOND = 8192
"""A distance that no two sketches have."""

GRAIN = 2.0**-30
"""Bounds are sums of multiples of this, rounded upwards: exact in float64, so that what was added can be taken away."""

FINEST = 2.0**-40
"""Similarities are multiples of this, so that sums of their differences are exact. Two samples that would represent each
other, and nothing else, add the same; without rounding, the last digit of a sum would decide between them."""

Values = Float[np.ndarray, " some"]
Places = Int[np.ndarray, " some"]
Levels = tuple[Float[np.ndarray, " rows"], Float[np.ndarray, " rows"]]
"""The squared distance from which on nothing can be added to a target, and its similarity now."""


@dataclass(frozen=True)
class Similarity:
    """How well a sample represents another, by a ``rule`` for squared distances: 0 to 1, 0 at infinity, and never rising.

    ``reach``: the distance from which on it is 0.
    """

    rule: Callable[[Values], Values]
    reach: float = math.inf

    def of(self, squared: Values) -> Values:
        """Apply the rule, to multiples of FINEST."""
        return np.rint(self.rule(squared) / FINEST) * FINEST


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

    def __init__(
        self, pool: SortedPool, similarity: Similarity, targets: Int[np.ndarray, " targets"] | None = None
    ) -> None:
        self._pool, self._similarity = pool, similarity
        wanted = np.ones(len(pool.order), dtype=bool) if targets is None else np.isin(pool.order, targets)
        self.targets = pool.order[wanted]
        self._starts = np.append(0, np.cumsum(wanted))[pool.starts]
        self._sketch: Sketch = pool.sketch if targets is None else pool.sketch.at(np.flatnonzero(wanted))
        large = len(wanted) * len(self.targets) >= WORTH_COMPILING
        self._loops = (compiled("coverage_loops") if large else None) or coverage_plain
        self._table = _table(similarity, pool.sketch)
        self._nearest = np.full(len(self.targets), np.inf)
        self.best = similarity.of(self._nearest)
        self._limit = self._limits(np.arange(len(self.targets)))
        self._group_reach = self._group_reaches()
        self._bound: Values = np.empty(0)
        self._measured: tuple[int, Places, Values] = (-1, np.empty(0, dtype=np.int64), np.empty(0))

    def bounds(self, run: Run = map) -> Float[np.ndarray, " samples"]:
        """Bound from above what each row would add."""
        if not len(self._bound):
            self._bound = np.zeros(len(self._pool.order))
            for places, change in run(self._bounds_with, slices(len(self._bound), ROWS)):
                self._bound[places] += change
        return self._bound[self._pool.place]

    def gain(self, row: int) -> tuple[float, int]:
        """Measure what a row would add, and to how many targets."""
        places, squared = self._near(row)
        more = self._similarity.of(squared) - self.best[places]
        more = more[more > 0]
        return math.fsum(more.tolist()), len(more)

    def add(self, row: int, run: Run = map) -> None:
        """Choose a row."""
        places, squared = self._near(row)
        closer = squared < self._nearest[places]
        places, squared = places[closer], squared[closer]
        before, limit = self.best[places], self._limit[places]
        self._nearest[places] = squared
        self.best[places] = self._similarity.of(squared)
        self._limit[places] = self._limits(places)
        self._group_reach = self._group_reaches()
        if len(self._bound):
            changed = np.flatnonzero(self.best[places] > before)
            # Those of like reach together: the farthest one decides what a block of them is compared with.
            changed = changed[np.argsort(limit[changed], kind="stable")]
            for some in (changed[block] for block in slices(len(changed), ROWS)):
                self._lower_bounds(places[some], before[some], limit[some], run)

    def _limits(self, places: Places) -> Float[np.ndarray, " some"]:
        """Find the squared distance in the sketch from which on nothing can be added to targets; rounded upwards."""
        sketch = self._pool.sketch
        # First cut short what lies beyond everything: a constant pool has a unit so small that no ratio to it is a number.
        farthest = min(self._similarity.reach, BEYOND * sketch.unit)
        reach = np.minimum(np.sqrt(self._nearest[places]), farthest) / sketch.unit + sketch.slack
        return np.where(self.best[places] < 1, reach**2 * (1 + 1e-6), 0).astype(np.float32)

    def _group_reaches(self) -> Float[np.ndarray, " groups"]:
        """Find the distance in the sketch from which on nothing can be added to any target of a group."""
        used = np.flatnonzero(np.diff(self._starts))
        reach = np.full(len(self._starts) - 1, -1.0)
        farthest = np.maximum.reduceat(self._limit, self._starts[used])
        reach[used] = np.where(farthest > 0, np.sqrt(farthest), -1)
        return reach

    def _bounds_with(self, rows: slice) -> tuple[Places, Values]:
        """Bound what these rows of the sorted pool may add; where all are targets, also what later ones may add to these.

        Every pair is looked at once: what rows may add to the columns beyond them, and those to the rows.
        """
        own, each = self._pool.sketch.at(rows), np.arange(rows.start, rows.stop)
        mutual = self._sketch is self._pool.sketch
        reach = np.maximum(self._group_reach, np.sqrt(self._limit[rows].max())) if mutual else self._group_reach
        places = np.flatnonzero(np.repeat(self._pool.near(own, reach), np.diff(self._starts)))
        change, nothing = np.zeros(len(each)), np.zeros(len(each), dtype=np.float32)
        if mutual:
            beyond = places[places >= rows.stop]
            levels = self._limit[rows], _floor(self.best[rows])
            others = [self._add(own, levels, beyond[block], change) for block in slices(len(beyond), COLUMNS)]
            self._add(own, (nothing, nothing), each, change)
            return np.append(each, beyond), np.concatenate([change, *others])
        for block in slices(len(places), COLUMNS):
            self._add(own, (nothing, nothing), places[block], change)
        return each, change

    def _add(self, own: Sketch, levels: Levels, places: Places, change: Float[np.ndarray, " rows"]) -> Values:
        """Add to ``change`` what rows may add to the targets at ``places``; give what those may add to the rows."""
        targets, others = self._sketch.at(places), np.zeros(len(places))
        rest = self._limit[places], _floor(self.best[places]), self._table, change, others
        self._loops.add_bounds(own.products(targets), own.squares, targets.squares, *levels, *rest)
        return others

    def _lower_bounds(self, places: Places, before: Values, limit: Values, run: Run) -> None:
        """Take from the bounds what these targets no longer offer that were represented less well ``before``."""
        own = self._sketch.at(places)
        levels = limit, self._limit[places], _floor(before), _floor(self.best[places]), self._table
        near = self._pool.near(own, float(np.sqrt(limit.max())))
        rows = np.flatnonzero(np.repeat(near, np.diff(self._pool.starts)))

        def less(block: slice) -> Values:
            others, change = self._pool.sketch.at(rows[block]), np.zeros(block.stop - block.start)
            self._loops.subtract_bounds(own.products(others), own.squares, others.squares, *levels, change)
            return change

        blocks = slices(len(rows), COLUMNS)
        for block, change in zip(blocks, run(less, blocks), strict=True):
            self._bound[rows[block]] += change

    def _near(self, row: int) -> tuple[Places, Values]:
        """Find the targets that a row may represent better than anything chosen; their squared distances in float64."""
        # Most often the row that is chosen is the one that was measured last.
        if row != self._measured[0]:
            self._measured = (row, *self._measure(row))
        return self._measured[1:]

    def _measure(self, row: int) -> tuple[Places, Values]:
        own, pool = self._pool.at(np.array([row])), self._pool
        groups = pool.centres.coordinates, pool.centres.squares, pool.radius, self._group_reach, self._starts
        targets = self._sketch.coordinates, self._sketch.squares, self._limit
        places = self._loops.within_reach(own.coordinates[0], own.squares[0], *groups, *targets)
        points, rows = pool.points, self.targets[places]
        # numba has no numbers of 16 bits.
        loops = coverage_plain if points.embeddings.dtype == np.float16 else self._loops
        own_point = points.at(slice(row, row + 1))[0]
        return places, loops.squared_distances(points.embeddings, points.inverse_lengths, own_point, rows)


def greedy(
    coverage: Coverage, allowed: Bool[np.ndarray, " samples"], n: int, cost: Cost | None, end_when_full: bool = False
) -> list[Pick]:
    """Choose n allowed rows, each the one that adds most to the coverage (per minute of ``cost``), of equals the lowest.

    Where every target is represented fully, all that are left add nothing: ``end_when_full`` chooses none of those.
    """
    left, picks = allowed.copy(), list[Pick]()
    minutes = np.ones(len(left)) if cost is None else np.where(left, cost, 1)
    known = np.full(len(left), np.inf)
    with side_by_side() as run:
        while len(picks) < n and not (end_when_full and (coverage.best == 1).all()):
            known = np.minimum(known, coverage.bounds(run))
            row = _best_row(coverage, np.where(left, per_minute(known, minutes), -np.inf), known, minutes)
            picks.append(Pick(row, *coverage.gain(row)))
            left[row] = False
            coverage.add(row, run)
    return picks


def some_targets(samples: int, wanted: int | None, rng: np.random.Generator) -> Rows | None:
    """Draw the rows that stand for the pool as what is to be represented; None where the whole pool does."""
    if wanted is not None and wanted < 1:
        raise SelectionError(f"references is {wanted}. Expected 1 or more. Leave it out for as many as are affordable.")
    return None if wanted is None or wanted >= samples else np.sort(rng.choice(samples, wanted, replace=False))


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
