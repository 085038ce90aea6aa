"""TypiClust: the most typical sample of each cluster, for the first rounds."""

from collections.abc import Iterator
from itertools import chain, islice

import numpy as np
from jaxtyping import Int

from nextmask.selection.geometry.k_means import k_means
from nextmask.selection.geometry.side_by_side import Run, side_by_side
from nextmask.selection.geometry.typicality import most_typical
from nextmask.selection.types import Embeddings, Labeled, Query, because

LARGE_CLUSTER = 8192
"""Members beyond which all threads work on one cluster together, and not each on one of its own."""

Clusters = Int[np.ndarray, " samples"]
Visits = Int[np.ndarray, " picks"]


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

    Source: Hacohen, Dekel and Weinshall, "Active learning on a budget: opposite strategies suit high and low budgets",
    ICML 2022, https://arxiv.org/abs/2202.02794.

    Faithful: min(labeled + n, ``max_clusters``) clusters by k-means; visited in turn, by labeled samples and then by
    size; typicality = 1 / (mean distance to the K nearest in the cluster + 1e-5) with K = min(``neighbors``, half the
    cluster); clusters of ``smallest`` or fewer are passed over.

    Adapted: the embeddings are taken as they are (theirs: unit length). Labeled and taken samples stay neighbours
    (theirs: vanish). k-means is seeded, and the same on any number of threads (theirs: unseeded, mini-batches beyond 50
    clusters); pools beyond 4,096 samples are clustered to within a percent or two, not until nothing changes.
    ``smallest`` is at most half the mean cluster, and passed-over clusters follow when the others are used up (theirs:
    dropped, which leaves pools of some dozen volumes empty-handed). Of equals the lowest row.

    Use: for the first rounds, when no more than a few samples a cluster can be labeled; it shuns outliers, which k_center
    seeks. Not once the segmenter's own uncertainty is worth something.

    Cost: time in N x d x (labeled + n, at most ``max_clusters``) for the clusters and in N x d x N / clusters for the
    typicality; memory for a sample of 16,384 to 65,536 rows, and for the largest cluster.
    """
    cluster = k_means(embeddings, min(int(labeled.sum()) + n, max_clusters, len(embeddings)), rng).labels
    size = np.bincount(cluster)
    labeled_in = np.bincount(cluster[labeled], minlength=len(size))
    visits = _visits(size, labeled_in, n, min(smallest, len(embeddings) // (2 * len(size))))
    rows, typicality = _most_typical(embeddings, cluster, labeled, visits, neighbors)
    sentence = (
        "the most typical ({typicality:.3g}) left of cluster {cluster}: {size} samples, {labeled_in} of them labeled"
    )
    return because(
        rows,
        sentence,
        typicality=typicality,
        cluster=visits,
        size=size[visits],
        labeled_in=labeled_in[visits],
    )


def _visits(size: np.ndarray, labeled_in: np.ndarray, n: int, smallest: int) -> Visits:
    """List the cluster of each pick: by fewest labeled, then largest, then lowest row; small ones after all others."""
    # Clusters are numbered by their lowest row, so that a stable sort leaves equals in that order.
    order = np.lexsort((-size, labeled_in))
    passed_over = size[order] <= smallest
    free = size - labeled_in
    return np.fromiter(
        islice(chain(_in_turn(order[~passed_over], free), _in_turn(order[passed_over], free)), n), dtype=np.int64
    )


def _in_turn(order: np.ndarray, free: np.ndarray) -> Iterator[int]:
    """Visit all clusters that have unlabeled samples, then those that have a second one, and so on."""
    for turn in range(int(free[order].max(initial=0))):
        yield from order[free[order] > turn].tolist()


def _most_typical(
    embeddings: Embeddings, cluster: Clusters, labeled: Labeled, visits: Visits, neighbors: int
) -> tuple[np.ndarray, np.ndarray]:
    """Take from each cluster as many samples as it is visited, in the order of the visits."""
    members = np.split(np.argsort(cluster, kind="stable"), np.cumsum(np.bincount(cluster))[:-1])
    rows, typicality = np.empty(len(visits), dtype=np.int64), np.empty(len(visits))

    def take(label: int, run: Run = map) -> None:
        own = members[label]
        turns = np.flatnonzero(visits == label)
        k = max(1, min(neighbors, len(own) // 2))
        chosen, typicality[turns] = most_typical(embeddings[own], np.flatnonzero(~labeled[own]), len(turns), k, run)
        rows[turns] = own[chosen]

    visited = dict.fromkeys(visits.tolist())
    with side_by_side() as run:
        for label in visited:
            if len(members[label]) > LARGE_CLUSTER:
                take(label, run)
        list(run(take, [label for label in visited if len(members[label]) <= LARGE_CLUSTER]))
    return rows, typicality
