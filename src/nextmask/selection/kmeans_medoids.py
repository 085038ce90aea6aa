"""k-means medoids: the sample nearest to the middle of each cluster."""

import numpy as np

from nextmask.selection.geometry.k_means import k_means
from nextmask.selection.geometry.visiting import visit
from nextmask.selection.types import Embeddings, Labeled, Query, because


def kmeans_medoids(embeddings: Embeddings, labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Form as many clusters as there are samples to label, and take the sample nearest to the centre of each.

    Source: Liu, Li, Fan, Tang, Yao, Dawant and Oguz, "COLosSAL: a benchmark for cold-start active learning for 3D medical
    image segmentation", MICCAI 2023, https://arxiv.org/abs/2307.12004, and MedCAL-Bench, https://arxiv.org/abs/2508.03441,
    call this ALPS. It is not:
    ALPS (Yuan, Lin and Boyd-Graber, "Cold-start active learning through self-supervised language modeling", EMNLP 2020,
    https://arxiv.org/abs/2010.09535) clusters *surprisal* embeddings, the losses of a masked language model. On image
    features nothing of that is left but k-means and its medoids, hence the name here.

    Faithful: n clusters by k-means on the embeddings as they are; the sample nearest to each centre.

    Adapted: the nearest *member* of the cluster (theirs: the nearest of all samples, so that two centres can ask for the same
    one). The largest clusters come first (theirs: in the order of k-means). With labeled samples there are labeled + n
    clusters, and those that hold a labeled sample are passed over: at least n are left (theirs: labeled samples are forgotten,
    and asked for again). Where there are fewer distinct samples than clusters, passed-over clusters follow, fewest labeled
    first, and then the second nearest of each cluster. Of equals the lowest row.

    Use: for the first query, as the plainest way of covering a pool in proportion to where its samples lie. Outliers get little:
    k_center seeks them, typiclust shuns them altogether.

    Cost: time in N x d x (labeled + n), as of one k-means: on large pools some three passes in matrix products, of which beyond
    256 clusters all but one look at nearby centres only; memory for 16,384 to 65,536 rows and not for the pool.
    """
    clusters = k_means(embeddings, int(labeled.sum()) + n, rng)
    squared = clusters.squared_distances(embeddings)
    visits = visit(clusters.labels, -squared, labeled, n)
    return because(
        visits.rows,
        "no. {turn} of the unlabeled samples by nearness to the middle of cluster {cluster} (distance {distance:.3g}), "
        "which holds {size} samples, {cluster_labeled} of them labeled",
        turn=visits.turn,
        cluster=visits.cluster,
        distance=np.sqrt(squared[visits.rows]),
        size=visits.size,
        cluster_labeled=visits.labeled,
    )
