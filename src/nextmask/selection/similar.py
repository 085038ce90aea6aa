"""Similar: samples of one cluster only, the negative control that any strategy has to beat."""

import numpy as np
from jaxtyping import Float, Int
from sklearn.metrics import silhouette_score
from threadpoolctl import threadpool_limits

from nextmask.selection.geometry.k_means import Clusters, k_means
from nextmask.selection.types import Embeddings, Labeled, Query, because

JUDGED_ON = 2000
"""Samples on which numbers of clusters are tried; a larger pool is represented by so many random ones."""

CANDIDATES = 12
"""Numbers of clusters that are tried."""

BLOCK = 4096
"""Rows whose distances to a centre are computed at a time."""


def similar(embeddings: Embeddings, labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Draw all samples from one random cluster, so that they are as alike as can be: a negative control.

    Source: Liu, Li, Fan, Tang, Yao, Dawant and Oguz, "COLosSAL: a benchmark for cold-start active learning for 3D medical
    image segmentation", MICCAI 2023, https://arxiv.org/abs/2307.12004 (in their code: the order "similar").

    Faithful: k-means with the number of clusters between 2 and n that has the best silhouette, the smallest of equals; of the
    clusters with more than n samples that can be drawn one at random, and of that n at random.

    Adapted: at most 12 numbers of clusters are tried, evenly spread on a logarithmic scale, on at most 2,000 random samples.
    Where no cluster holds more than n unlabeled samples (theirs: fails), the one with the most is taken whole and filled up with
    the unlabeled samples nearest to its centre. Labeled samples count as members; the cluster is drawn whatever they are.
    Of equals the lowest row.

    Use: never to annotate by; in simulations, to show what redundancy costs and that a strategy does better than the worst.

    Cost: one k-means of the pool with at most n clusters, and silhouettes of 2,000 samples.
    """
    clusters = k_means(embeddings, _clusters_found(embeddings, n, rng), rng)
    unlabeled = np.bincount(clusters.labels[~labeled], minlength=len(clusters.centres))
    large = np.flatnonzero(unlabeled > n)
    chosen = int(rng.choice(large)) if len(large) else int(np.argmax(unlabeled))
    rows = _drawn(embeddings, clusters, chosen, labeled, n, rng)
    inside = clusters.labels[rows] == chosen
    return because(
        rows,
        "negative control: {how} cluster {cluster}, which holds {size} samples",
        how=np.where(inside, "drawn at random from", "nearest to the centre of"),
        cluster=chosen,
        size=int((clusters.labels == chosen).sum()),
    )


def _clusters_found(embeddings: Embeddings, n: int, rng: np.random.Generator) -> int:
    """Find the number of clusters from 2 to n with the best silhouette."""
    judged = embeddings[np.sort(rng.permutation(len(embeddings))[:JUDGED_ON])]
    candidates = np.unique(np.geomspace(2, max(2, n), CANDIDATES).round().astype(int))
    scores = [_silhouette(judged, int(k), rng) for k in candidates]
    return int(candidates[np.argmax(scores)])


def _silhouette(points: Float[np.ndarray, "some dims"], k: int, rng: np.random.Generator) -> float:
    """Judge a clustering into ``k``; -1, the worst, where it cannot be had or leaves every sample alone."""
    labels: Int[np.ndarray, " some"] = k_means(points, k, rng).labels
    found = int(labels.max()) + 1
    if found < k or not 2 <= found < len(points):
        return -1.0
    centred = np.subtract(points, points.mean(axis=0, dtype=np.float64), dtype=np.float64)
    with threadpool_limits(1):
        return round(float(silhouette_score(centred, labels)), 10)


def _drawn(
    embeddings: Embeddings, clusters: Clusters, chosen: int, labeled: Labeled, n: int, rng: np.random.Generator
) -> Int[np.ndarray, " picks"]:
    """Draw n of the cluster, or all of it and then the nearest others."""
    inside = rng.permutation(np.flatnonzero((clusters.labels == chosen) & ~labeled))[:n]
    others = np.flatnonzero((clusters.labels != chosen) & ~labeled)
    missing = n - len(inside)
    if not missing:
        return inside
    squared = np.concatenate(
        [
            _squared_distances(embeddings[others[start : start + BLOCK]], clusters.centres[chosen])
            for start in range(0, len(others), BLOCK)
        ]
    )
    return np.concatenate([inside, others[np.argsort(squared, kind="stable")[:missing]]])


def _squared_distances(
    points: Float[np.ndarray, "some dims"], centre: Float[np.ndarray, " dims"]
) -> Float[np.ndarray, " some"]:
    difference = np.subtract(points, centre, dtype=np.float64)
    return np.einsum("ij,ij->i", difference, difference)
