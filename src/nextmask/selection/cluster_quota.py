"""Cluster quotas: every cluster gets its share of the query, and fills it with the samples nearest to its centre."""

import numpy as np
from jaxtyping import Int

from nextmask.errors import SelectionError
from nextmask.selection.geometry.k_means import k_means
from nextmask.selection.geometry.visiting import standing
from nextmask.selection.types import Embeddings, Labeled, Query, because

Counts = Int[np.ndarray, " clusters"]


def cluster_quota(
    embeddings: Embeddings, labeled: Labeled, n: int, *, rng: np.random.Generator, clusters: int = 10, seed: int = 0
) -> Query:
    """Share the samples out over a few clusters by their size, and take those nearest to each cluster's centre.

    ``clusters`` is how many clusters k-means forms. ``seed`` is what k-means draws from, and not ``rng``: the clusters depend
    on the pool and on this number only, so that they are the same ones in every round of a study.

    Source: Zhao, Lu, Zeng, Xu, Veeravalli and Guan, "Self-supervised assisted active learning for skin lesion segmentation"
    (SAAL), EMBC 2022, https://arxiv.org/abs/2205.07021.

    Faithful: ten clusters of the whole pool by k-means; each is asked for in proportion to its size, the samples nearest to its
    centre first; later rounds go on where the last one stopped, without looking at the segmenter.

    Adapted: shares go by the largest remainder, one sample after the other: the next goes to the cluster that is the farthest
    below its share of all samples labeled and taken so far (theirs: rounded, and the last cluster takes the rest, be it
    negative). A round of 10 and then one of 20 ask for the same samples as one of 30; settling the remainders anew for each
    total would now and then take a sample back. Labeled samples count towards the share of their cluster, however they came to be
    labeled. Only members of a cluster are taken for it (theirs: the nearest of all, so that clusters ask for the same ones).
    Seeded. Of equally deprived clusters the larger one, then the one with the lowest row; of equally near samples the lowest row.

    Use: where the labeled set should mirror the pool and rounds should build on each other. The samples of one cluster can
    resemble each other: nothing pushes them apart.

    Cost: one k-means with ``clusters`` clusters: time in N x d x ``clusters``; memory for some 16,384 rows.
    """
    if clusters < 1:
        raise SelectionError(f"clusters is {clusters}. Expected 1 or more. Leave it out for 10.")
    found = k_means(embeddings, clusters, np.random.default_rng(seed))
    squared = found.squared_distances(embeddings)
    size, held = np.bincount(found.labels), np.bincount(found.labels[labeled], minlength=len(found.centres))
    shares = _shared_out(size, held, n)
    turn = _times_before(shares)
    nearest_first = _by_cluster(found.labels, standing(found.labels, -squared, ~labeled))
    rows = nearest_first[np.searchsorted(found.labels[nearest_first], shares) + turn]
    return because(
        rows,
        "no. {turn} of the unlabeled samples by nearness to the centre of cluster {cluster} (distance {distance:.3g}), which "
        "holds {share:.1%} of the pool and had {before} samples labeled or asked for before",
        turn=turn + 1,
        cluster=shares,
        distance=np.sqrt(squared[rows]),
        share=size[shares] / len(embeddings),
        before=held[shares] + turn,
    )


def _shared_out(size: Counts, held: Counts, n: int) -> Int[np.ndarray, " picks"]:
    """Name the cluster of each pick: the farthest below its share, of equals the largest, of equals the first."""
    order = np.argsort(-size, kind="stable")
    total, have = int(size.sum()), held.copy()
    shares = np.empty(n, dtype=np.int64)
    for pick in range(n):
        # In whole numbers, total times as many: in floating point equal remainders would differ.
        missing = np.where(have < size, size * (have.sum() + 1) - have * total, np.iinfo(np.int64).min)
        shares[pick] = order[np.argmax(missing[order])]
        have[shares[pick]] += 1
    return shares


def _times_before(values: Int[np.ndarray, " picks"]) -> Int[np.ndarray, " picks"]:
    """Count how often each value has come before."""
    order = np.argsort(values, kind="stable")
    before = np.empty(len(values), dtype=np.int64)
    before[order] = np.arange(len(values)) - np.searchsorted(values[order], values[order])
    return before


def _by_cluster(cluster: Int[np.ndarray, " samples"], place: Int[np.ndarray, " samples"]) -> Int[np.ndarray, " ranked"]:
    """Sort the rows that have a place (not -1) by cluster and then by place."""
    rows = np.flatnonzero(place >= 0)
    return rows[np.lexsort((place[rows], cluster[rows]))]
