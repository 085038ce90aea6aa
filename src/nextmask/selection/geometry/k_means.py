"""k-means: well seeded, learned on a sample of a large pool, then improved on all of it block by block."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from nextmask.selection.geometry.nearest_centre import NearestCentre
from nextmask.selection.geometry.rounding import Frame, frame
from nextmask.selection.geometry.seeding import spread_seeds
from nextmask.selection.geometry.side_by_side import Run, side_by_side, slices

SMALL_POOL = 4096
"""Samples up to which k-means is computed in float64, until nothing changes, and from several starts."""

RESTARTS = 3
"""Times that a small pool is clustered anew; the tightest clusters are kept."""

SWEEPS_OF_SMALL_POOL = 300
SWEEPS_OF_SAMPLE = 3
SWEEPS_OF_POOL = (2, 20)
"""Times that every sample is assigned, at most; sweeps end early where nothing changes."""

WORK = 5e10
READING = 200
"""Products of two numbers that a large pool's sweeps are worth, and that reading one number is: they say how many sweeps."""

ROWS_PER_CLUSTER = 50
SMALLEST_SAMPLE = 16_384
LARGEST_SAMPLE = 65_536
"""How many rows a large pool's clusters are learned on: what is held beside the embeddings."""

SEEDED_FROM = 8
"""Rows per cluster among which seeds are sought, where the pool is large."""

CHUNK = 16_384
"""Rows after which the centres move. Moving them within a sweep converges in fewer sweeps, and never lets inertia rise."""

BLOCK = 1024
"""Rows that one thread assigns at a time."""

MANY_CLUSTERS = 256
"""Clusters beyond which rows of a large pool that have a centre are compared with the centres around it only."""

AROUND = 32
"""Centres around each centre that its rows may move to."""

CROWD = 16
"""Centres, on average, whose rows are compared together, with all centres around any of them."""

CROWDING_SWEEPS = 3
"""Times that the centres are assigned to crowds, at most."""

Points = Float[np.ndarray, "samples dims"]
Block = Float[np.ndarray, "rows dims"]
Centres = Float[np.ndarray, "clusters dims"]
Labels = Int[np.ndarray, " samples"]
Some = slice | np.ndarray
Read = Callable[[Some], np.ndarray]
"""Rows of a pool, centred."""


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition of samples: ``labels`` (samples,) from 0 without gaps, ``centres`` (clusters, dims) float64.

    A cluster's centre is the mean of its members. Clusters are numbered by their lowest row.
    """

    labels: Labels
    centres: Centres

    def squared_distances(self, points: Points) -> Float[np.ndarray, " samples"]:
        """Square the distance of each sample to its own cluster's centre, by differences in float64."""
        squared = np.empty(len(points))

        def work(block: slice) -> None:
            difference = points[block] - self.centres[self.labels[block]]
            squared[block] = np.einsum("ij,ij->i", difference, difference)

        with side_by_side() as run:
            list(run(work, slices(len(points), BLOCK)))
        return squared


def k_means(points: Points, k: int, rng: np.random.Generator) -> Clusters:
    """Partition samples into ``k`` clusters, fewer where there are fewer distinct samples.

    Pools of up to 4,096 samples are clustered in float64 until nothing changes, three times over. Of larger ones a sample
    of 50 rows a cluster (16,384 to 65,536 rows) is clustered first; then the whole pool is read in blocks, twice or more, and
    the centres move after every 16,384 rows. Of more than 256 clusters a row is compared with all once in the sample and once
    in the pool, and else with those around its former one. The result is the same on any number of threads.
    """
    k = min(k, len(points))
    with side_by_side() as run:
        if len(points) <= SMALL_POOL:
            return _of_small_pool(points, k, rng, run)
        return _of_large_pool(points, k, rng, run)


def _of_small_pool(points: Points, k: int, rng: np.random.Generator, run: Run) -> Clusters:
    seen_from = frame(points)
    centred = (points - seen_from.origin) / seen_from.unit
    starts = []
    for _ in range(RESTARTS if 1 < k < len(points) else 1):
        partition = _Partition(centred[spread_seeds(centred, k, rng, run)], len(centred))
        partition.settle(centred.__getitem__, SWEEPS_OF_SMALL_POOL, run)
        starts.append(partition)
    return min(starts, key=lambda partition: partition.inertia(centred)).clusters(seen_from)


def _of_large_pool(points: Points, k: int, rng: np.random.Generator, run: Run) -> Clusters:
    rows = _some(len(points), max(min(ROWS_PER_CLUSTER * k, LARGEST_SAMPLE), SMALLEST_SAMPLE, 2 * k), rng)
    seen_from, sample = _rounded(points, rows)
    among = _some(len(sample), max(SEEDED_FROM * k, SMALL_POOL), rng)
    seeds = among[spread_seeds(sample[among], k, rng, run)]
    partition = _Partition(sample[seeds].astype(np.float64), len(sample))
    local = k > MANY_CLUSTERS
    partition.settle(sample.__getitem__, SWEEPS_OF_SAMPLE, run, local)
    partition.grow(rows, len(points))
    del sample
    for number in range(int(np.clip(WORK / (points.size * (k + READING)), *SWEEPS_OF_POOL))):
        # Rows beyond the sample are new, and equal ones are to share a cluster: all are compared with all centres once.
        seen = number > 0 or len(rows) == len(points)
        if not partition.sweep(lambda block: seen_from.rounded(points[block]), run, local=local and seen):
            break
    return partition.clusters(seen_from)


def _some(count: int, wanted: int, rng: np.random.Generator) -> Int[np.ndarray, " rows"]:
    return np.arange(count) if wanted >= count else np.sort(rng.choice(count, wanted, replace=False))


def _rounded(points: Points, rows: np.ndarray) -> tuple[Frame, Block]:
    sample = points[rows]
    seen_from = frame(sample)
    return seen_from, seen_from.rounded(sample)


class _Partition:
    """A partition in the making: the cluster of each row (-1: not seen yet), the sum and the count of each cluster.

    ``squared`` (samples,) is the squared distance to the centre that a row was assigned to, as of then.
    """

    def __init__(self, seeds: Centres, samples: int) -> None:
        self.labels = np.full(samples, -1, dtype=np.int32)
        self.squared = np.zeros(samples)
        self.sums = np.zeros_like(seeds)
        self.counts = np.zeros(len(seeds), dtype=np.int64)
        self.centres = seeds

    def settle(self, read: Read, most: int, run: Run, local: bool = False) -> None:
        """Assign all rows to the seeds, then sweep until nothing changes."""
        self.sweep(read, run, hold=True)
        for _ in range(most):
            if not self.sweep(read, run, local=local):
                break

    def sweep(self, read: Read, run: Run, hold: bool = False, local: bool = False) -> int:
        """Assign every row to its nearest centre and count those that moved; unless held, centres follow their members.

        A local sweep looks for it among the centres around the row's former one: it is nearly always there (Agustsson,
        Timofte and Van Gool, "k2-means for fast and accurate large scale clustering", ECML PKDD 2017,
        https://arxiv.org/abs/1605.09299), and inertia cannot rise.
        """
        moved = 0
        crowds = _Crowds.of(self.centres, run) if local else None
        for chunk in slices(len(self.labels), CHUNK):
            if not hold:
                self._follow()
            shares = crowds.shares(self.labels, chunk, self.centres) if crowds else _whole(chunk, self.centres)
            moved += self._assign(read, chunk, shares, run)
        return moved

    def grow(self, rows: np.ndarray, samples: int) -> None:
        """Make the rows of a sample rows of the pool that it was drawn from."""
        labels = np.full(samples, -1, dtype=np.int32)
        labels[rows] = self.labels
        self.labels, self.squared = labels, np.zeros(samples)

    def inertia(self, points: Points) -> float:
        difference = points - self.centres[self.labels]
        return float(np.einsum("ij,ij->", difference, difference))

    def clusters(self, seen_from: Frame) -> Clusters:
        """Number those clusters that have members, and put their centres back into the pool's own space."""
        used, lowest_row, labels = np.unique(self.labels, return_index=True, return_inverse=True)
        order = np.argsort(lowest_row)
        centres = self.sums[used] / self.counts[used, None] * seen_from.unit + seen_from.origin
        return Clusters(np.argsort(order)[labels], centres[order])

    def _follow(self) -> None:
        used = self.counts > 0
        self.centres = self.centres.copy()
        self.centres[used] = self.sums[used] / self.counts[used, None]

    def _assign(self, read: Read, chunk: slice, shares: list["_Share"], run: Run) -> int:
        moved = 0
        for share, (labels, squared, changes) in zip(shares, run(partial(self._nearest, read), shares), strict=True):
            moved += int(np.count_nonzero(labels != self.labels[share.rows]))
            self.labels[share.rows] = labels
            self.squared[share.rows] = squared
            for change in changes:
                self.sums[change.clusters] += change.sums
                self.counts[change.clusters] += change.counts
        return moved + self._refill(read, chunk.start, self.squared[chunk])

    def _nearest(self, read: Read, share: "_Share") -> tuple[np.ndarray, np.ndarray, list["_Change"]]:
        points = read(share.rows)
        labels, squared = share.nearest(points)
        if share.among is not None:
            labels = share.among[labels]
        return labels, squared, _changes(points, self.labels[share.rows], labels)

    def _refill(self, read: Read, start: int, distance: Float[np.ndarray, " chunk"]) -> int:
        """Give clusters without members the rows farthest from their own centres."""
        empty = np.flatnonzero(self.counts == 0)
        farthest = np.argsort(-distance, kind="stable")[: len(empty)]
        refilled = 0
        for cluster, place in zip(empty, farthest, strict=False):
            row = int(start + place)
            if distance[place] > 0 and self.counts[self.labels[row]] > 1:
                self._move(row, read(slice(row, row + 1))[0].astype(np.float64), int(cluster))
                refilled += 1
        return refilled

    def _move(self, row: int, point: Float[np.ndarray, " dims"], cluster: int) -> None:
        self.sums[self.labels[row]] -= point
        self.counts[self.labels[row]] -= 1
        self.sums[cluster], self.counts[cluster] = point, 1
        self.labels[row] = cluster


class _Share(NamedTuple):
    """Some rows, and those centres to which they may be assigned: all, or ``among``.

    Like _Change no dataclass: there are thousands, and where jaxtyping checks, it compiles a check for each one anew.
    """

    rows: Some
    nearest: NearestCentre
    among: Int[np.ndarray, " some"] | None = None


def _whole(chunk: slice, centres: Centres) -> list[_Share]:
    nearest = NearestCentre(centres)
    return [_Share(block, nearest) for block in slices(chunk.stop, BLOCK, chunk.start)]


@dataclass(frozen=True, eq=False)
class _Crowds:
    """Centres in crowds of neighbours: the crowd of each centre, and for each crowd all centres around its own."""

    crowd: Int[np.ndarray, " clusters"]
    around: list[np.ndarray]

    @classmethod
    def of(cls, centres: Centres, run: Run) -> "_Crowds":
        """Cluster the centres in turn; any crowds would do, and tight ones save the most."""
        seeds = np.arange(0, len(centres), CROWD)
        crowds = _Partition(centres[seeds], len(centres))
        crowds.settle(centres.__getitem__, CROWDING_SWEEPS, run)
        members = [np.flatnonzero(crowds.labels == number) for number in range(len(seeds))]
        around = list(run(lambda own: _around(centres, own), members))
        return cls(crowds.labels, around)

    def shares(self, labels: Labels, chunk: slice, centres: Centres) -> list[_Share]:
        """Part a chunk's rows by the crowds of their centres."""
        crowd = self.crowd[labels[chunk]]
        rows = np.split(
            chunk.start + np.argsort(crowd, kind="stable"), np.cumsum(np.bincount(crowd, minlength=len(self.around)))
        )
        shares = []
        for own, around in zip(rows, self.around, strict=False):
            nearest = NearestCentre(centres[around]) if len(own) else None
            shares += [_Share(own[block], nearest, around) for block in slices(len(own), BLOCK) if nearest]
        return shares


def _around(centres: Centres, members: Int[np.ndarray, " some"]) -> Int[np.ndarray, " around"]:
    """List some centres, ascending, and those AROUND each of them."""
    half = np.einsum("ij,ij->i", centres, centres) / 2
    apart = half - centres[members] @ centres.T
    return np.union1d(members, np.argpartition(apart, min(AROUND, len(centres) - 1), axis=1)[:, :AROUND])


class _Change(NamedTuple):
    """What some rows add to the sums and counts of clusters, or take away from them."""

    clusters: Int[np.ndarray, " changed"]
    sums: Float[np.ndarray, "changed dims"]
    counts: Int[np.ndarray, " changed"]


def _changes(points: Block, old: np.ndarray, new: np.ndarray) -> list[_Change]:
    moved = np.flatnonzero(old != new)
    left = moved[old[moved] >= 0]
    return [
        _change(points[rows], labels[rows], sign)
        for rows, labels, sign in ((moved, new, 1), (left, old, -1))
        if len(rows)
    ]


def _change(points: Block, labels: np.ndarray, sign: int) -> _Change:
    order = np.argsort(labels, kind="stable")
    clusters, first, counts = np.unique(labels[order], return_index=True, return_counts=True)
    return _Change(clusters, sign * np.add.reduceat(points[order].astype(np.float64), first, axis=0), sign * counts)
