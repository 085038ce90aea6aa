"""Where k-means starts: greedy k-means++, many draws at a time."""

from collections.abc import Iterator
from functools import partial
from itertools import islice

import numpy as np
from jaxtyping import Float, Int

from nextmask.selection.geometry.rounding import rounding_error
from nextmask.selection.geometry.side_by_side import Run, slices

GREEDY = 2000
"""Clusters up to which several rows are tried for each seed."""

DRAWN = 256
"""Rows that are drawn, and compared with all others, at a time."""

BLOCK = 2048
"""Rows that one thread compares with the drawn ones at a time."""

Points = Float[np.ndarray, "rows dims"]


def spread_seeds(points: Points, k: int, rng: np.random.Generator, run: Run) -> Int[np.ndarray, " seeds"]:
    """Choose ``k`` rows by greedy k-means++, fewer where all others repeat them.

    For each seed some rows are drawn with a chance in proportion to their squared distance to the nearest seed, and the
    one that leaves the least inertia is taken (Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding",
    SODA 2007, https://dl.acm.org/doi/10.5555/1283383.1283494). Rows are drawn and compared with all others many at once,
    by the distances of that moment; each is then accepted with the chance that its own distance has not shrunk since, so
    that the distribution is the one of drawing anew for each seed.

    ``points`` should be centred: what rounding of their squared lengths cannot tell from distance 0 counts as 0.
    """
    tries = 2 + int(np.log(k)) if k <= GREEDY else 1
    seeds = [int(rng.integers(len(points)))]
    distance = _squared_distances(points, np.array(seeds), run)[0]
    while len(seeds) < k and distance.any():
        chance = np.cumsum(distance, dtype=np.float64)
        drawn = np.searchsorted(chance, rng.random(min(DRAWN, tries * k)) * chance[-1], side="right").clip(
            max=len(points) - 1
        )
        to_drawn = _squared_distances(points, drawn, run)
        accepted = _accepted(drawn, distance, rng)
        # The last rows drawn may be too few for a fair choice: they are drawn anew.
        while len(seeds) < k and len(places := list(islice(accepted, tries))) == tries:
            left = np.minimum(to_drawn[places], distance)
            best = int(np.argmin(left.sum(axis=1)))
            distance[:] = left[best]
            seeds.append(int(drawn[places[best]]))
    return np.array(seeds)


def _accepted(drawn: np.ndarray, distance: np.ndarray, rng: np.random.Generator) -> Iterator[int]:
    """Yield the places of drawn rows, each with the chance that is left of the one it was drawn with."""
    chance_when_drawn = distance[drawn]
    for place, row in enumerate(drawn):
        if rng.random() * chance_when_drawn[place] < distance[row]:
            yield place


def _squared_distances(points: Points, rows: np.ndarray, run: Run) -> Float[np.ndarray, "drawn rows"]:
    """Square the distances of some rows to all; what rounding cannot tell from 0 is 0."""
    norms = np.einsum("ij,ij->i", points, points)
    squared = np.empty((len(rows), len(points)), dtype=points.dtype)
    list(run(partial(_compare, squared, points, norms, rows), slices(len(points), BLOCK)))
    squared[np.arange(len(rows)), rows] = 0
    return squared


def _compare(squared: np.ndarray, points: Points, norms: np.ndarray, rows: np.ndarray, block: slice) -> None:
    part = points[rows] @ points[block].T
    part *= -2
    lengths = norms[rows, None] + norms[block]
    part += lengths
    lengths *= 2 * rounding_error(points)
    part[part <= lengths] = 0
    squared[:, block] = part
