"""Ward's hierarchical clustering: merge the two clusters that cost the least variance, until k are left."""

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from nextmask.selection.geometry.k_means import k_means

SMALL_POOL = 4096
"""Samples up to which all pairs are compared; what is held is one number per pair, 134 MB at most."""

MICRO_CLUSTERS = 1000
"""Clusters of k-means that stand for the samples of a larger pool, at least; twice the clusters wanted where that is more."""

Points = Float[np.ndarray, "samples dims"]
Labels = Int[np.ndarray, " samples"]
Weights = Float[np.ndarray, " samples"]


def ward(points: Points, k: int, rng: np.random.Generator) -> Labels:
    """Partition samples into ``k`` clusters, numbered from 0.

    Exact up to SMALL_POOL samples. Beyond it k-means first makes micro-clusters, and Ward merges these as clusters of as
    many samples as they hold: a merge costs exactly what it would cost if the samples in a micro-cluster had been merged
    already.
    """
    if len(points) <= SMALL_POOL:
        return merged(points, np.ones(len(points)), k)
    micro = k_means(points, min(max(MICRO_CLUSTERS, 2 * k), SMALL_POOL, len(points)), rng)
    weights = np.bincount(micro.labels).astype(np.float64)
    return merged(micro.centres, weights, k)[micro.labels]


def merged(points: Points, weights: Weights, k: int) -> Labels:
    """Merge weighted points into ``k`` clusters, or leave them where there are no more than that."""
    if k >= len(points):
        return np.arange(len(points))
    pairs, costs = _chain(_merge_costs(points, weights), weights.copy())
    cheapest = pairs[np.argsort(costs, kind="stable")[: len(points) - k]]
    links = coo_array((np.ones(len(cheapest)), (cheapest[:, 0], cheapest[:, 1])), shape=(len(points),) * 2)
    return connected_components(links, directed=False)[1].astype(np.int64)


def _merge_costs(points: Points, weights: Weights) -> Float[np.ndarray, "samples samples"]:
    """Give what merging two points adds to the sum of squares; a point does not merge with itself."""
    centred = np.subtract(points, points.mean(axis=0, dtype=np.float64), dtype=np.float64)
    norms = np.einsum("ij,ij->i", centred, centred)
    # One thread: with more, the last digit would depend on the machine, and so would the merge among equals.
    with threadpool_limits(1):
        costs = centred @ centred.T
    costs *= -2
    costs += norms[:, None]
    costs += norms
    np.maximum(costs, 0, out=costs)
    for row, weight in enumerate(weights):
        costs[row] *= weight * weights / (weight + weights)
    np.fill_diagonal(costs, np.inf)
    return costs


def _chain(
    costs: Float[np.ndarray, "samples samples"], weights: Weights
) -> tuple[Int[np.ndarray, "merges 2"], Float[np.ndarray, " merges"]]:
    """Find all merges by walking from nearest neighbour to nearest neighbour until two are each other's.

    For Ward these merges are those of the greedy order, only found in another one. ``costs`` and ``weights`` are used up.
    """
    pairs, heights = np.empty((len(weights) - 1, 2), dtype=np.int64), np.empty(len(weights) - 1)
    chain: list[int] = []
    for merge in range(len(pairs)):
        if not chain:
            chain.append(int(np.argmax(weights > 0)))
        while True:
            here = chain[-1]
            near = int(np.argmin(costs[here]))
            # Of equals the one before: else equal distances could lead the walk in a circle.
            if len(chain) > 1 and costs[here, chain[-2]] <= costs[here, near]:
                break
            chain.append(near)
        first, second = chain.pop(), chain.pop()
        pairs[merge], heights[merge] = (first, second), costs[first, second]
        _merge(costs, weights, first, second)
    return pairs, heights


def _merge(costs: Float[np.ndarray, "samples samples"], weights: Weights, gone: int, stays: int) -> None:
    """Let one cluster take in another; Lance and Williams give its cost of merging with every third one."""
    one, two, between = weights[gone], weights[stays], costs[gone, stays]
    # A cluster that is gone weighs nothing and is infinitely far: it stays so.
    row = ((one + weights) * costs[gone] + (two + weights) * costs[stays] - weights * between) / (one + two + weights)
    row[[gone, stays]] = np.inf
    costs[stays], costs[:, stays] = row, row
    costs[gone], costs[:, gone] = np.inf, np.inf
    weights[stays], weights[gone] = one + two, 0
