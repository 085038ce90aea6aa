"""BIRCH: summarise samples in one pass into sub-clusters, then merge these into clusters by Ward's method."""

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import Birch
from threadpoolctl import threadpool_limits

from nextmask.selection.geometry.directions import Directions
from nextmask.selection.geometry.ward import SMALL_POOL, merged

THRESHOLD = 0.5
"""The radius up to which a sub-cluster takes in samples, to begin with; scikit-learn's."""

LEARNS_FROM = 10_000
"""Samples that the tree is grown from; a larger pool is represented by so many random ones."""

MOST = SMALL_POOL
"""Sub-clusters that are merged by comparing all pairs of them."""

TRIES = 20
"""Thresholds that are tried. The last halving of 0.5 is a radius below a millionth."""

Centres = Float[np.ndarray, "clusters dims"]


def birch(seen: Directions, k: int, rng: np.random.Generator) -> Int[np.ndarray, " samples"]:
    """Partition directions into ``k`` clusters, fewer where fewer than ``k`` directions differ."""
    centres = _summary(seen.rows(_learnt_from(len(seen.length), rng)), k)
    owner = merged(centres, np.ones(len(centres)), min(k, len(centres)))
    return np.unique(owner[_nearest(seen, centres)], return_inverse=True)[1]


def _learnt_from(samples: int, rng: np.random.Generator) -> np.ndarray | slice:
    if samples <= LEARNS_FROM:
        return slice(None)
    return np.sort(rng.choice(samples, LEARNS_FROM, replace=False))


def _summary(units: Float[np.ndarray, "some dims"], k: int) -> Centres:
    """Find a threshold that leaves ``k`` to MOST sub-clusters, the given one if it does, and give their centres.

    Radii of unit vectors lie between 0 and 1: the threshold moves half-way to the end that it has not yet tried.
    """
    low, high, threshold = 0.0, 1.0, THRESHOLD
    centres = _sub_clusters(units, threshold)
    for _ in range(TRIES):
        if k <= len(centres) <= MOST:
            break
        low, high = (low, threshold) if len(centres) < k else (threshold, high)
        threshold = (low + high) / 2
        centres = _sub_clusters(units, threshold)
    return centres


def _sub_clusters(units: Float[np.ndarray, "some dims"], threshold: float) -> Centres:
    # One thread: with more, the last digit and so the way down the tree would depend on the machine.
    with threadpool_limits(1):
        tree = Birch(threshold=threshold, n_clusters=None, compute_labels=False).fit(units)
    return np.asarray(tree.subcluster_centers_)


def _nearest(seen: Directions, centres: Centres) -> Int[np.ndarray, " samples"]:
    """Find the centre nearest to each sample."""
    dtype: type = np.float64 if len(seen.length) <= LEARNS_FROM else np.float32
    norms = np.einsum("ij,ij->i", centres, centres).astype(dtype)
    table: np.ndarray = (-2 * centres).T.astype(dtype)
    nearest = np.empty(len(seen.length), dtype=np.int64)

    def work(block: slice, unit: Centres) -> None:
        nearest[block] = np.argmin(unit.astype(dtype) @ table + norms, axis=1)

    seen.each(work)
    return nearest
