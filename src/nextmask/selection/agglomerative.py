"""Agglomerative clustering: a random sample of each cluster that Ward's method finds."""

import numpy as np

from nextmask.selection.geometry.visiting import clusters_wanted, visit
from nextmask.selection.geometry.ward import ward
from nextmask.selection.types import Embeddings, Labeled, Query, because


def agglomerative(embeddings: Embeddings, labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Take one random sample of each of the clusters that Ward's method merges the pool into.

    Source: Ward, "Hierarchical grouping to optimize an objective function", JASA 1963,
    https://doi.org/10.1080/01621459.1963.10500845; as a cold start in the code, though not the paper, of Liu, Li, Fan, Tang,
    Yao, Dawant and Oguz, "COLosSAL: a benchmark for cold-start active learning for 3D medical image segmentation", MICCAI
    2023, https://arxiv.org/abs/2307.12004.

    Faithful: Ward's method on the embeddings as they are, n clusters on a pool without labels, one uniformly drawn sample of
    each.

    Adapted: with labeled samples there are labeled + n clusters (at most 500, or n), those with the fewest labeled samples are
    visited first, of these the largest, and only unlabeled samples are drawn. Beyond 4,096 samples Ward merges the
    micro-clusters of a k-means, weighted by their sizes. Of equally cheap merges the one found first is made.

    Use: as the check on other methods whether the *choice within* a cluster matters, or only that every cluster is asked.
    Prefer kmeans_medoids or calr for a first round: a random member may lie at the edge of its cluster.

    Cost: N^2 (d + a few) operations and N^2 numbers up to N = 4,096; beyond it one k-means with max(1,000, 2n) clusters.
    """
    cluster = ward(embeddings, clusters_wanted(labeled, n), rng)
    visits = visit(cluster, rng.random(len(embeddings)), labeled, n)
    return because(
        visits.rows,
        "drawn at random from cluster {cluster}, which holds {size} similar samples, {cluster_labeled} of them labeled before",
        cluster=visits.cluster,
        size=visits.size,
        cluster_labeled=visits.labeled,
        turn=visits.turn,
    )
