"""TypiClust: the most typical sample of each cluster, for the first rounds."""

import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain, islice

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.spatial import cKDTree
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from nextmask.selection.types import Embeddings, Labeled, Query, because

SMALL_POOL = 20_000
"""Samples up to which full k-means is affordable; beyond it k-means learns from mini-batches."""

RESTARTS = 3
"""Times that k-means starts anew; the tightest clusters are kept."""

Points = Float[np.ndarray, "samples dims"]
Clusters = Int[np.ndarray, " samples"]


def typiclust(
    embeddings: Embeddings,
    labeled: Labeled,
    n: int,
    *,
    rng: np.random.Generator,
    max_clusters: int = 500,
    neighbors: int = 20,
    smallest: int = 5,
) -> Query:
    """Visit the clusters with the fewest labeled samples, largest first, and take the most typical sample of each.

    Hacohen, Dekel and Weinshall, "Active learning on a budget: opposite strategies suit high and low budgets", ICML
    2022, https://arxiv.org/abs/2202.02794.

    Faithful: min(labeled + n, ``max_clusters``) clusters by k-means; visited in turn, by labeled samples and then by
    size; typicality = 1 / (mean distance to the K nearest in the cluster + 1e-5) with K = min(``neighbors``, half the
    cluster); clusters of ``smallest`` or fewer are passed over.

    Adapted: the embeddings are taken as they are (theirs: unit length). Labeled and taken samples stay neighbours
    (theirs: vanish). k-means is seeded, and full up to 20,000 samples (theirs: unseeded, mini-batches beyond 50
    clusters). ``smallest`` is at most half the mean cluster, and passed-over clusters follow when the others are used
    up (theirs: dropped, which leaves pools of some dozen volumes empty-handed). Of equals the lowest row.
    """
    points = np.subtract(embeddings, embeddings.mean(axis=0, dtype=np.float64), dtype=np.float64)
    cluster = _clusters(points, min(int(labeled.sum()) + n, max_clusters, len(points)), rng)
    size = np.bincount(cluster)
    passed_over = size <= min(smallest, len(points) // (2 * len(size)))
    order = _order(cluster, labeled)
    rows = chain.from_iterable(
        _in_turn(_by_typicality(points, cluster == label, labeled, neighbors) for label in visited)
        for visited in (order[~passed_over[order]], order[passed_over[order]])
    )
    return because(np.fromiter(islice(rows, n), dtype=np.int64, count=n), "typical of its cluster")


def _clusters(points: Points, k: int, rng: np.random.Generator) -> Clusters:
    """Number the cluster of every sample, from 0 and without gaps."""
    seed = int(rng.integers(2**31))
    if len(points) <= SMALL_POOL:
        means = KMeans(k, n_init=RESTARTS, random_state=seed)
    else:
        means = MiniBatchKMeans(k, n_init=RESTARTS, random_state=seed, batch_size=5000)
    # One thread: with more, the order of summation and so the clusters would depend on the machine.
    with threadpool_limits(1), warnings.catch_warnings():
        # Said of pools with fewer distinct samples than clusters: they get fewer clusters, which is as it should be.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.unique(means.fit_predict(points), return_inverse=True)[1]


def _order(cluster: Clusters, labeled: Labeled) -> Int[np.ndarray, " clusters"]:
    """Sort clusters by fewest labeled, then largest, then lowest row."""
    _, lowest_row, size = np.unique(cluster, return_index=True, return_counts=True)
    return np.lexsort((lowest_row, -size, np.bincount(cluster[labeled], minlength=len(size))))


def _by_typicality(
    points: Points, member: Bool[np.ndarray, " samples"], labeled: Labeled, neighbors: int
) -> Iterator[int]:
    """Yield the unlabeled rows of one cluster, most typical first; computes nothing before the first is asked for."""
    rows = np.flatnonzero(member & ~labeled)
    if len(rows):
        k = max(1, min(neighbors, int(member.sum()) // 2))
        # The nearest of all is the sample itself. A cluster of one has no neighbour: infinitely far, typicality 0.
        distances = cKDTree(points[member]).query(points[rows], k=k + 1)[0][:, 1:]
        typicality = 1 / (distances.mean(axis=1) + 1e-5)
        yield from rows[np.argsort(-typicality, kind="stable")].tolist()


def _in_turn(queues: Iterable[Iterator[int]]) -> Iterator[int]:
    """Take one of each queue, then the next of each, until all are empty."""
    waiting = deque(queues)
    while waiting:
        queue = waiting.popleft()
        for row in islice(queue, 1):
            yield row
            waiting.append(queue)
