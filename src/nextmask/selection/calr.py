"""CALR: the sample most alike to all others of its cluster, clusters by BIRCH."""

import numpy as np

from nextmask.selection.geometry.birch import birch
from nextmask.selection.geometry.directions import directions, mean_cosine
from nextmask.selection.geometry.visiting import clusters_wanted, visit
from nextmask.selection.types import Embeddings, Labeled, Query, because


def calr(embeddings: Embeddings, labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Take of each BIRCH cluster the sample with the highest information density: the most alike to all of the cluster.

    Information density is the mean cosine similarity to the members of the cluster, the sample itself included.

    Source: Jin, Yuan, Li, Wang, Wang and Song, "Cold-start active learning for image classification", Information Sciences
    2022, https://doi.org/10.1016/j.ins.2022.10.066 (CALR); in 3D segmentation by COLosSAL, https://arxiv.org/abs/2307.12004.

    Faithful: BIRCH with scikit-learn's threshold (0.5), branching (50) and Ward's merging of sub-clusters, n clusters on a
    pool without labels; the densest sample of each.

    Adapted: embeddings are first seen from the pool's mean and scaled to unit length, because a threshold means nothing
    without a scale and cosines mean little beside a common offset (ports take them raw, and may get fewer clusters than picks).
    The threshold is lowered until there are enough sub-clusters, and raised while there are more than 4,096. Beyond 10,000
    samples the tree learns from 10,000 random ones, and every sample joins its nearest sub-cluster. With labeled samples there
    are labeled + n clusters (at most 500, or n), visited by fewest labeled, then largest; labeled samples count as members and
    are not taken. Densities that agree to 10 digits are equal; of equals the lowest row.

    Use: for a first round without any mask, where the pool is a few hundred to some ten thousand samples. It looks at
    directions only, so that embeddings whose length says something are served better by kmeans_medoids or typiclust.

    Cost: N n d operations beside the tree; 4,096^2 numbers at most, and blocks of embeddings.
    """
    seen = directions(embeddings)
    cluster = birch(seen, clusters_wanted(labeled, n), rng)
    density = mean_cosine(seen, cluster)
    visits = visit(cluster, density, labeled, n)
    return because(
        visits.rows,
        "alike to the {size} samples of cluster {cluster} (mean cosine {density:.2f}, no. {turn} of those not labeled)",
        cluster=visits.cluster,
        size=visits.size,
        density=density[visits.rows],
        turn=visits.turn,
        cluster_labeled=visits.labeled,
    )
