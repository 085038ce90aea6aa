"""A pool sketched and sorted into groups of neighbours: the triangle inequality rules out most pairs of groups at once."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from nextmask.selection.geometry.side_by_side import side_by_side, slices
from nextmask.selection.geometry.sketch import Points, Sketch, even_rows, sketch

SMALLEST_POOL = 2048
"""Samples up to which sorting costs more than it saves: one group."""

PER_ROOT = 8
"""Groups per square root of the pool's size."""

SEEN = 8
"""Samples per group from which the centres are learnt."""

ROUNDS = 2
"""Steps of Lloyd's algorithm: any groups give true bounds, tight ones give good ones."""

ROWS = 256
"""Samples compared with all centres at a time: what this makes stays in the processor's cache."""

Centres = Float[np.ndarray, "groups axes"]


@dataclass(frozen=True, eq=False)
class SortedPool:
    """A pool's points, sketched, and ``order`` (samples,): the rows, group after group of neighbours.

    Group g is order[starts[g]:starts[g + 1]]; ``sketch`` is in this order. ``centres`` lie in the sketch's space, and no
    member of a group is farther than ``radius`` from its centre there. ``place`` (samples,) finds a row in the order.
    """

    points: Points
    order: Int[np.ndarray, " samples"]
    place: Int[np.ndarray, " samples"]
    starts: Int[np.ndarray, " edges"]
    sketch: Sketch
    centres: Sketch
    radius: Float[np.ndarray, " groups"]

    def near(self, some: Sketch, reach: Float[np.ndarray, " groups"] | float) -> Bool[np.ndarray, " groups"]:
        """Find the groups that may have a member nearer than ``reach``, in the sketch, to any of the samples."""
        # Rounded upwards. A negative reach is that of a group whose members are out of everybody's reach.
        limit = np.where(reach < 0, 0, (reach + self.radius) ** 2 * (1 + 1e-6)).astype(np.float32)
        return np.asarray((some.squared_distances(self.centres) < limit).any(axis=0))

    def pairs_near(
        self, some: Sketch, reach: Float[np.ndarray, " some"], groups: Int[np.ndarray, " chosen"]
    ) -> Bool[np.ndarray, "some chosen"]:
        """Find which groups may have a member nearer to which sample than its ``reach``, in the sketch."""
        # Rounded upwards by more than float32 has lost.
        apart = reach.astype(np.float32)[:, None] + self.radius[groups].astype(np.float32)
        apart *= apart * np.float32(1 + 2e-6)
        return np.asarray(some.squared_distances(self.centres.at(groups)) < apart)

    def members(self, groups: Int[np.ndarray, " chosen"]) -> Int[np.ndarray, " some"]:
        """Find the places in the order of the members of groups."""
        first, size = self.starts[groups], np.diff(self.starts)[groups]
        return np.repeat(first - np.cumsum(size) + size, size) + np.arange(size.sum())

    def at(self, rows: Int[np.ndarray, " some"]) -> Sketch:
        """Find the sketches of rows."""
        return self.sketch.at(self.place[rows])


def sorted_pool(points: Points) -> SortedPool:
    """Sort a pool into groups of some dozen neighbours; groups that follow one another are close where possible."""
    pool = sketch(points)
    centres = _centres(pool)
    centres = centres[_tour(centres)]
    used, group = np.unique(_nearest(pool, centres), return_inverse=True)
    middle = pool.of(centres[used])
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(len(used) + 1))
    radius = _radius(pool, group, middle)
    return SortedPool(points, order, np.argsort(order), starts, pool.at(order), middle, radius)


def _centres(pool: Sketch) -> Centres:
    count = 1 if len(pool) <= SMALLEST_POOL else int(PER_ROOT * np.sqrt(len(pool)))
    seen = pool.at(even_rows(len(pool), count * SEEN))
    centres = seen.coordinates[even_rows(len(seen), count)]
    for _ in range(ROUNDS):
        centres = _means(seen, _nearest(seen, centres), centres)
    return centres


def _nearest(pool: Sketch, centres: Centres) -> Int[np.ndarray, " samples"]:
    half, opposite = np.einsum("ij,ij->i", centres, centres) / 2, -centres.T
    group = np.empty(len(pool), dtype=np.int64)

    def work(block: slice) -> None:
        apart = pool.coordinates[block] @ opposite
        apart += half
        group[block] = np.argmin(apart, axis=1)

    with side_by_side() as run:
        list(run(work, slices(len(pool), ROWS)))
    return group


def _means(pool: Sketch, group: Int[np.ndarray, " samples"], centres: Centres) -> Centres:
    """Move every centre to the mean of its group; one without members stays."""
    order = np.argsort(group, kind="stable")
    used, first, size = np.unique(group[order], return_index=True, return_counts=True)
    moved = centres.copy()
    moved[used] = np.add.reduceat(pool.coordinates[order], first) / size[:, None]
    return moved


def _tour(centres: Centres) -> Int[np.ndarray, " groups"]:
    """Walk from centre to the nearest one not yet visited: the groups near a sample then follow one another."""
    far, tour = np.einsum("ij,ij->i", centres, centres), [0]
    for _ in range(len(centres) - 1):
        far[tour[-1]] = np.inf
        tour.append(int(np.argmin(far - 2 * (centres @ centres[tour[-1]]))))
    return np.array(tour)


def _radius(pool: Sketch, group: Int[np.ndarray, " samples"], centres: Sketch) -> Float[np.ndarray, " groups"]:
    radius = np.zeros(len(centres))
    for block in slices(len(group), 4096):
        own = centres.at(group[block])
        product = np.einsum("ij,ij->i", pool.coordinates[block], own.coordinates)
        squared = pool.highest_squares[block] + own.squares - 2 * product
        np.maximum.at(radius, group[block], np.sqrt(np.maximum(squared, 0)))
    return radius
