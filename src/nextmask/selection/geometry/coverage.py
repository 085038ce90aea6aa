"""Greedy coverage: take, one by one, the sample that most raises how well the targets are represented.

A target at distance d from its nearest chosen sample is represented similarity(d), which never rises with d. Short sketches
of the samples bound what each would add from above, for all samples; after a pick, the bounds of those near a target that
came closer are lowered by what it no longer offers. That is put off, group by group, until a group's bounds are at the top:
old bounds are too high, never too low. So only the few samples at the top are measured. What decides is measured in float64,
by differences, and summed without rounding (`math.fsum`): neither the order of the rows nor the number of threads can change
a pick.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from nextmask.data.compiled import compiled
from nextmask.errors import SelectionError
from nextmask.selection.budget import per_minute
from nextmask.selection.geometry import coverage_plain
from nextmask.selection.geometry.groups import SortedPool
from nextmask.selection.geometry.side_by_side import Run, side_by_side, slices
from nextmask.selection.geometry.sketch import Sketch
from nextmask.selection.types import Cost, Rows

WORTH_COMPILING = 4_000_000
"""Pairs of samples from which compiled loops repay their loading."""

COLUMNS = 2048
"""Samples whose products with a block of others are held at a time, so that they stay in the processor's cache."""

ROWS = 256
"""Rows of such a block."""

PAIRS = 2**22
"""Pairs of samples and targets that came closer that are looked at together, if that leaves at least ROWS targets."""

AHEAD = 0.9
"""Bounds that are old are brought up to date together with the highest of them from this share of it on."""

PUT_OFF = 32
"""Changes put off at most, per target: then all bounds are brought up to date."""

WIDTH = 256
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
Groups = Int[np.ndarray, " chosen"]
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
        self._loops = (compiled("nextmask.selection.geometry.coverage_loops") if large else None) or coverage_plain
        self._table = _table(similarity, pool.sketch)
        self._nearest = np.full(len(self.targets), np.inf)
        self.best = similarity.of(self._nearest)
        self._limit = self._limits(np.arange(len(self.targets)))
        self._group_reach = self._group_reaches()
        self._bound: Values = np.empty(0)
        self._group_of_place = np.repeat(np.arange(len(pool.radius)), np.diff(pool.starts))
        # What the targets that came closer were before, pick by pick; how many of these picks each group has heard of.
        self._changes: list[tuple[Places, Values, Values]] = []
        self._heard = np.zeros(len(pool.radius), dtype=np.int64)
        # Where similarity ends at a radius, a target changes once, and putting that off saves nothing.
        self._ahead = 0.0 if math.isfinite(similarity.reach) else AHEAD
        self._measured: tuple[int, Places, Values] = (-1, np.empty(0, dtype=np.int64), np.empty(0))

    def bounds(self, run: Run = map) -> Float[np.ndarray, " samples"]:
        """Bound from above what each row would add."""
        self._catch_up(np.arange(len(self._heard)), run)
        return self.old_bounds(run)

    def old_bounds(self, run: Run = map) -> Float[np.ndarray, " samples"]:
        """Bound from above what each row would add, as far as known."""
        if not len(self._bound):
            self._bound = np.zeros(len(self._pool.order))
            for places, change in run(self._bounds_with, slices(len(self._bound), ROWS)):
                self._bound[places] += change
        return self._bound[self._pool.place]

    def newer_bounds(self, row: int, rate: Float[np.ndarray, " samples"], run: Run = map) -> tuple[Places, Values]:
        """Bring up to date the bounds of a row's group, and of others whose best by ``rate`` (samples,) is not far below.

        None where the row's bound is up to date. Gives the rows whose bounds may be lower, and these.
        """
        old = self._heard < len(self._changes)
        if not old[self._group_of_place[self._pool.place[row]]]:
            return np.empty(0, dtype=np.int64), np.empty(0)
        top = np.maximum.reduceat(rate[self._pool.order], self._pool.starts[:-1])
        groups = np.flatnonzero(old & (top >= self._ahead * rate[row]))
        self._catch_up(groups, run)
        places = self._pool.members(groups)
        return self._pool.order[places], self._bound[places]

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
        before = places, self.best[places], self._limit[places]
        self._nearest[places] = squared
        self.best[places] = self._similarity.of(squared)
        self._limit[places] = self._limits(places)
        self._group_reach = self._group_reaches()
        if len(self._bound):
            changed = self.best[places] > before[1]
            self._changes.append((before[0][changed], before[1][changed], before[2][changed]))
            if sum(len(places) for places, *_ in self._changes) > PUT_OFF * len(self.targets):
                self._catch_up(np.arange(len(self._heard)), run)

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
        self._loops.add_bounds(own.products(targets), own.lowest_squares, targets.squares, *levels, *rest)
        return others

    def _catch_up(self, groups: Groups, run: Run) -> None:
        """Lower the bounds of groups by all changes that they have not heard of."""
        best, limit, changed = self.best.copy(), self._limit.copy(), np.zeros(len(self.best), dtype=bool)
        heard, later = self._heard[groups], len(self._changes)
        for since in np.unique(heard[heard < later])[::-1]:
            # Back in time: what a target was before the first change that these groups have not heard of is set last.
            for places, best_before, limit_before in reversed(self._changes[since:later]):
                best[places], limit[places], changed[places] = best_before, limit_before, True
            later = since
            places = np.flatnonzero(changed)
            self._lower_bounds(groups[heard == since], places, best[places], limit[places], run)
        self._heard[groups] = len(self._changes)
        if self._heard.min() == len(self._changes):
            self._changes, self._heard = [], np.zeros_like(self._heard)

    def _lower_bounds(self, groups: Groups, places: Places, best: Values, limit: Values, run: Run) -> None:
        """Take from the bounds of groups what these targets no longer offer that were at such a ``best`` and ``limit``."""
        # A computed squared distance too high by twice the margin may still be below the limit.
        limit_now = self._limit[places] + np.float32(2 * self._sketch.margin)
        levels = limit, limit_now, _floor(best), _floor(self.best[places])

        def less(block: slice) -> tuple[Places, Values]:
            near = self._pool.pairs_near(self._sketch.at(places[block]), np.sqrt(limit[block]), groups)
            used = np.flatnonzero(near.any(axis=1)) + block.start
            members = self._pool.members(groups[near.any(axis=0)])
            own, change = self._sketch.at(places[used]), np.zeros(len(members))
            of_own = [level[used] for level in levels]
            for columns in slices(len(members), COLUMNS):
                others = self._pool.sketch.at(members[columns])
                given = own.products(others), own.highest_squares, others.squares, *of_own, self._table
                self._loops.subtract_bounds(*given, change[columns])
            return members, change

        samples = int(np.diff(self._pool.starts)[groups].sum())
        for members, change in run(less, slices(len(places), max(PAIRS // samples, ROWS))):
            self._bound[members] += change

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
        places = self._loops.within_reach(own.coordinates[0], own.lowest_squares[0], *groups, *targets)
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
            known = np.minimum(known, coverage.old_bounds(run))
            row = _best_row(coverage, np.where(left, per_minute(known, minutes), -np.inf), known, minutes, run)
            picks.append(Pick(row, *coverage.gain(row)))
            left[row] = False
            coverage.add(row, run)
    return picks


def some_targets(samples: int, wanted: int | None, rng: np.random.Generator) -> Rows | None:
    """Draw the rows that stand for the pool as what is to be represented; None where the whole pool does."""
    if wanted is not None and wanted < 1:
        raise SelectionError(f"references is {wanted}. Expected 1 or more. Leave it out for as many as are affordable.")
    return None if wanted is None or wanted >= samples else np.sort(rng.choice(samples, wanted, replace=False))


def _best_row(coverage: Coverage, rate: Values, known: Values, minutes: Values, run: Run) -> int:
    """Measure the row of the highest rate until that one has been measured; what is learnt is kept in ``known``."""
    measured = set()
    while (top := int(np.argmax(rate))) not in measured and rate[top] > 0:
        rows, bounds = coverage.newer_bounds(top, rate, run)
        if not len(rows):
            rows, bounds = np.array([top]), np.array([coverage.gain(top)[0]])
            measured.add(top)
        known[rows] = np.minimum(known[rows], bounds)
        rate[rows] = np.where(rate[rows] > -np.inf, known[rows] / minutes[rows], -np.inf)
    return top


def _table(similarity: Similarity, pool: Sketch) -> Float[np.ndarray, " entries"]:
    """Tabulate the similarity, rounded upwards, at squared distances in the sketch."""
    distance = np.sqrt(np.arange(2**24 // WIDTH) * float(WIDTH)) - pool.slack
    return np.ceil(similarity.of((np.maximum(distance, 0) * pool.unit) ** 2) / GRAIN) * GRAIN


def _floor(best: Values) -> Values:
    return np.floor(best / GRAIN) * GRAIN
