"""Nearest neighbours: float32 products rule out almost all pairs by a proven margin, differences in float64 decide."""

from functools import cached_property, partial

import numpy as np
from jaxtyping import Float, Int

from nextmask.selection.geometry.rounding import frame, rounding_error
from nextmask.selection.geometry.side_by_side import Run, side_by_side, slices

ROWS = 512
COLUMNS = 4096
"""Pairs that are looked at together: ROWS x COLUMNS."""

SIDE = 1024
"""Pairs that are looked at together where each pair is looked at once: SIDE x SIDE."""

STRIPS = 16
"""Columns of which only the nearest is looked at when the k-th nearest is bounded."""

DIFFERENCES = 1024
"""Pairs whose difference is taken at a time."""

Points = Float[np.ndarray, "samples dims"]
Rows = Int[np.ndarray, " rows"]
Pairs = Int[np.ndarray, " pairs"]
Distances = Float[np.ndarray, "rows neighbours"]
Neighbours = Int[np.ndarray, "rows neighbours"]


def nearest(points: Points, k: int) -> tuple[Distances, Neighbours]:
    """Find the ``k`` nearest other samples of each sample: Euclidean distances, ascending, and their rows.

    Of equal distances the lowest row comes first. Where the pool has fewer than ``k`` others, all of them are given.
    """
    k = min(k, len(points) - 1)
    around = Neighbourhood(points)
    distances, neighbours = np.empty((len(points), k)), np.empty((len(points), k), dtype=np.int64)

    def work(block: slice) -> None:
        distances[block], neighbours[block] = around.nearest(np.arange(block.start, block.stop), k)

    with side_by_side() as run:
        list(run(work, slices(len(points), ROWS)))
    return distances, neighbours


class Neighbourhood:
    """Samples among which neighbours are sought; holds their coordinates once more, in float32."""

    def __init__(self, points: Points) -> None:
        self.points = points
        self.frame = frame(points)
        self.rounded = self.frame.rounded(points)
        self.squares = np.einsum("ij,ij->i", self.rounded, self.rounded)
        self.error = 2 * rounding_error(self.rounded)

    def nearest(self, rows: Rows, k: int) -> tuple[Distances, Neighbours]:
        """Find the ``k`` nearest others of some rows, exact in float64; of equal distances the lowest row comes first."""
        if not k:
            return np.empty((len(rows), 0)), np.empty((len(rows), 0), dtype=np.int64)
        return self._nearest(rows, k) if self._repeats is None else self._repeats.nearest(rows, k)

    def copies(self) -> Int[np.ndarray, " samples"]:
        """Count the samples that equal each sample, itself included."""
        if self._repeats is None:
            return np.ones(len(self.points), dtype=np.int64)
        return np.bincount(self._repeats.group)[self._repeats.group]

    def roughly(self, rows: Rows, k: int) -> Distances:
        """Estimate the distances of some rows to their ``k`` nearest others, ascending, as float32 has them."""
        least = np.full((len(rows), k), np.inf, dtype=np.float32)
        for columns in slices(len(self.points), COLUMNS):
            least = np.partition(np.concatenate([least, self._lower(rows, columns)], axis=1), k - 1, axis=1)[:, :k]
        squared = np.sort(least, axis=1).astype(np.float64) + self.squares[rows, None]
        return np.sqrt(np.maximum(squared, 0)) * self.frame.unit

    def mean_distance_floor(
        self, k: int, reach: float, ceiling: float, run: Run = map
    ) -> Float[np.ndarray, " samples"]:
        """Bound the mean distance of all samples to their ``k`` nearest others from below, by the pairs within ``reach``.

        Neighbours that are not within reach count as if they were at its end. Each pair is looked at once. Bounds above
        ``ceiling`` are left as they first come out, before more than k neighbours within reach are cut down to k.
        """
        reach /= self.frame.unit
        blocks = slices(len(self.points), SIDE)
        pairs = [(first, second) for place, first in enumerate(blocks) for second in blocks[place:]]
        found = list(run(partial(self._nearer, reach), pairs))
        row, nearer = (np.concatenate(parts) for parts in zip(*found, strict=True))
        floor = reach - np.bincount(row, nearer, minlength=len(self.points)) / k
        close = floor[row] <= ceiling / self.frame.unit
        row, nearer = row[close], nearer[close]
        order = np.lexsort((-nearer, row))
        row, nearer = row[order], nearer[order]
        beyond = np.arange(len(row)) - np.searchsorted(row, row) >= k
        floor += np.bincount(row[beyond], nearer[beyond], minlength=len(floor)) / k
        return np.maximum(floor, 0) * self.frame.unit

    def _nearer(self, reach: float, pair: tuple[slice, slice]) -> tuple[np.ndarray, np.ndarray]:
        """List the rows of two blocks that are within ``reach`` of each other, and by how much."""
        first, second = pair
        rows = np.arange(first.start, first.stop)
        lower = self._lower(rows, second)
        own = (1 - self.error) * self.squares[first]
        row, column = np.divmod(np.flatnonzero(lower <= (reach**2 - own)[:, None]), lower.shape[1])
        apart = np.sqrt(np.maximum(lower[row, column].astype(np.float64) + own[row], 0))
        nearer = np.maximum(reach - apart, 0)
        if first == second:
            return row + first.start, nearer
        return np.concatenate([row + first.start, column + second.start]), np.concatenate([nearer, nearer])

    @cached_property
    def _repeats(self) -> "_Repeats | None":
        # Equal samples have equal lengths, so that only the few of equal length are compared.
        _, length, count = np.unique(self.squares, return_inverse=True, return_counts=True)
        suspects = np.flatnonzero(count[length] > 1)
        lowest_row, seen = np.arange(len(self.points)), dict[bytes, int]()
        for row in suspects.tolist():
            lowest_row[row] = seen.setdefault(self.points[row].tobytes(), row)
        if len(seen) == len(suspects):
            return None
        return _Repeats(self.points, lowest_row)

    def _lower(self, rows: Rows, columns: slice) -> Float[np.ndarray, "rows columns"]:
        """Bound squared distances from below, less what depends on the row alone; infinite to the row itself."""
        lower = (-2 * self.rounded[rows]) @ self.rounded[columns].T
        lower += (1 - self.error) * self.squares[columns]
        here = np.flatnonzero((rows >= columns.start) & (rows < columns.stop))
        lower[here, rows[here] - columns.start] = np.inf
        return lower

    def _nearest(self, rows: Rows, k: int) -> tuple[Distances, Neighbours]:
        place, other = self._contenders(rows, k)
        squared = self._squared(rows[place], other)
        order = np.lexsort((other, squared, place))
        first = np.searchsorted(place[order], np.arange(len(rows)))
        chosen = order[first[:, None] + np.arange(k)]
        return np.sqrt(squared[chosen]), other[chosen]

    def _contenders(self, rows: Rows, k: int) -> tuple[Pairs, Pairs]:
        """Pair places in ``rows`` with all samples that may be among their ``k`` nearest."""
        least = np.full((len(rows), k), np.inf, dtype=np.float32)
        places, others, lowers = [], [], []
        for columns in self._from_near(rows):
            lower = self._lower(rows, columns)
            slack = 2 * self.error * self.squares[columns]
            least = np.partition(
                np.concatenate([least, _least_of_strips(lower + slack, 4 * k)], axis=1), k - 1, axis=1
            )[:, :k]
            bound = least.max(axis=1) + 2 * self.error * self.squares[rows]
            place, column = np.divmod(np.flatnonzero(lower <= bound[:, None]), lower.shape[1])
            places.append(place)
            others.append(columns.start + column)
            lowers.append(lower[place, column])
        place, other, lower = np.concatenate(places), np.concatenate(others), np.concatenate(lowers)
        close = lower <= bound[place]
        return place[close], other[close]

    def _from_near(self, rows: Rows) -> list[slice]:
        """Put the columns around the rows first: what is close in the pool is often alike, and bounds the rest tightly."""
        columns = slices(len(self.points), COLUMNS)
        own = int(rows[0]) // COLUMNS
        return [columns[own], *columns[:own], *columns[own + 1 :]]

    def _squared(self, rows: Pairs, others: Pairs) -> Float[np.ndarray, " pairs"]:
        squared = np.empty(len(rows))
        for pairs in slices(len(rows), DIFFERENCES):
            difference = np.subtract(self.points[rows[pairs]], self.points[others[pairs]], dtype=np.float64)
            squared[pairs] = np.einsum("ij,ij->i", difference, difference)
        return squared


class _Repeats:
    """Samples of which some are equal: distances are taken between distinct ones only, or a thousand blank slices would
    make a million pairs that no margin rules out."""

    def __init__(self, points: Points, lowest_row: Int[np.ndarray, " samples"]) -> None:
        distinct, self.group = np.unique(lowest_row, return_inverse=True)
        self.distinct = Neighbourhood(points[distinct])
        self.members = np.split(np.argsort(self.group, kind="stable"), np.cumsum(np.bincount(self.group))[:-1])

    def nearest(self, rows: Rows, k: int) -> tuple[Distances, Neighbours]:
        groups, place = np.unique(self.group[rows], return_inverse=True)
        distances, near = self.distinct.nearest(groups, min(k, len(self.members) - 1))
        distances = np.pad(distances, ((0, 0), (1, 0)))
        near = np.concatenate([groups[:, None], near], axis=1)
        found = [
            self._spread(row, distances[group], near[group], k) for row, group in zip(rows.tolist(), place, strict=True)
        ]
        return np.array([distance for distance, _ in found]), np.array([others for _, others in found])

    def _spread(self, row: int, distances: np.ndarray, near: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """List the samples that are equal to one's own or to the nearest distinct ones."""
        # One more than k: the row itself may be among them.
        members = [self.members[group][: k + 1] for group in near]
        others = np.concatenate(members)
        apart = np.repeat(distances, [len(rows) for rows in members])
        order = np.lexsort((others, apart))
        order = order[others[order] != row][:k]
        return apart[order], others[order]


def _least_of_strips(values: Float[np.ndarray, "rows columns"], fewest: int) -> Float[np.ndarray, "rows some"]:
    """Keep the least of every STRIPS columns or so, of ``fewest`` or more: each the value of a different column."""
    width = max(-(-values.shape[1] // STRIPS), min(fewest, values.shape[1]))
    least = values[:, :width].copy()
    for start in range(width, values.shape[1], width):
        strip = values[:, start : start + width]
        np.minimum(least[:, : strip.shape[1]], strip, out=least[:, : strip.shape[1]])
    return least
