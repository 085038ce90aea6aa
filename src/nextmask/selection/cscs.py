"""CSCS: of each cluster the sample that is both typical and difficult."""

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata

from nextmask.errors import SelectionError
from nextmask.selection.geometry.k_means import k_means
from nextmask.selection.geometry.nearby import mean_distance_nearby
from nextmask.selection.geometry.side_by_side import slices
from nextmask.selection.geometry.visiting import clusters_wanted, rounded, visit
from nextmask.selection.types import Embeddings, Labeled, Query, Uncertainty, because

LOWEST_RANK = 0.01
"""The last of a cluster is not worth 0: it would lose against all others, however well it does on the other scale."""

NO_DISTANCE = 1e-8
"""Keeps the typicality of repeated samples finite."""

SMALL_POOL = 20_000
"""Samples of which a float64 copy is affordable."""

BLOCK = 4096
"""Rows that are standardised at a time."""

Numbers = Float[np.ndarray, " samples"]
Clusters = Int[np.ndarray, " samples"]


def cscs(
    embeddings: Embeddings,
    difficulty: Uncertainty,
    labeled: Labeled,
    n: int,
    *,
    rng: np.random.Generator,
    neighbors: int = 20,
    lowest: float = 0.3,
    highest: float = 0.7,
) -> Query:
    """Take of each k-means cluster the sample that ranks highest in typicality and in difficulty together.

    ``neighbors`` is how many nearest samples typicality is measured by; gamma, the weight of difficulty, is kept between
    ``lowest`` and ``highest``.

    Source: Hattat, Beaumont, Bertholdt, Hossu, Morel and Chen, "Dataset-aware cold-start active learning for
    annotation-efficient 3D medical image segmentation", 2026, https://arxiv.org/abs/2606.20765.

    Faithful: typicality T = 1 / mean distance to the nearest neighbours; gamma = 0.5 + rho / 4 * B / (sqrt(N) + B), with rho
    Spearman's correlation of difficulty and typicality over the pool and B the samples annotated after this query; k-means on
    standardised embeddings with n clusters on a pool without labels; the highest rank(T)^(1 - gamma) * rank(difficulty)^gamma
    of each, ranks within the cluster from 0.01 to 1.

    Adapted: the authors' two repositories contradict each other. Here gamma follows the formula from the first round on (one
    has 0.5 always); clusters of one or two are scored like all others (one skips them); a positive rho says that the typical
    samples are the difficult ones, which is what Spearman's correlation means. Equal values share a rank (theirs: by place).
    Beyond 20,000 samples neighbours are looked for within cells of about 1,000. With labeled samples there are labeled + n
    clusters (at most 500, or n), visited by fewest labeled, then largest; labeled samples count as neighbours and are ranked,
    and are not taken. Scores that agree to 10 digits are equal; of equals the lowest row.

    Use: for a first round, where a self-supervised network says which samples are hard to restore. With all published numbers
    gamma lies between 0.46 and 0.62: expect a fixed, even mixture.

    Cost: k-means with n clusters, the neighbours (N^2 d up to 20,000 samples, about 3,000 N d beyond), one copy of the
    embeddings.
    """
    if neighbors < 1:
        raise SelectionError(f"neighbors is {neighbors}. Expected 1 or more. Leave it out for the authors' number.")
    typicality = rounded(1 / (mean_distance_nearby(embeddings, neighbors, rng) + NO_DISTANCE))
    rho = _spearman(difficulty, typicality)
    gamma = _gamma(rho, int(labeled.sum()) + n, len(labeled), lowest, highest)
    cluster = k_means(_standardised(embeddings), clusters_wanted(labeled, n), rng).labels
    typical, difficult = _ranks(typicality, cluster), _ranks(difficulty, cluster)
    visits = visit(cluster, typical ** (1 - gamma) * difficult**gamma, labeled, n)
    return because(
        visits.rows,
        "typical (above {typical:.0%}) and difficult (above {difficult:.0%}) among the {size} samples of cluster {cluster}, "
        "weighing difficulty by {gamma:.2f}",
        cluster=visits.cluster,
        size=visits.size,
        cluster_labeled=visits.labeled,
        typical=typical[visits.rows],
        difficult=difficult[visits.rows],
        gamma=gamma,
        turn=visits.turn,
    )


def _gamma(rho: float, annotated: int, samples: int, lowest: float, highest: float) -> float:
    """Weigh difficulty by how it goes with typicality, the more the more is annotated."""
    return float(np.clip(0.5 + rho / 4 * annotated / (np.sqrt(samples) + annotated), lowest, highest))


def _spearman(first: Numbers, second: Numbers) -> float:
    """Correlate the ranks; 0 where one of the two does not vary."""
    one, two = (ranks - ranks.mean() for ranks in (rankdata(first), rankdata(second)))
    spread = np.sqrt((one @ one) * (two @ two))
    return float(one @ two / spread) if spread else 0.0


def _ranks(values: Numbers, cluster: Clusters) -> Numbers:
    """Rank values within their clusters, from LOWEST_RANK to 1; equal values share the mean of their ranks."""
    order = np.lexsort((values, cluster))
    ranks = np.empty(len(values))
    for rows in np.split(order, np.flatnonzero(np.diff(cluster[order])) + 1):
        ranks[rows] = (rankdata(values[rows]) - 1) / (len(rows) - 1) if len(rows) > 1 else 1.0
    return np.maximum(ranks, LOWEST_RANK)


def _standardised(embeddings: Embeddings) -> Float[np.ndarray, "samples dims"]:
    """Give every dimension mean 0 and variance 1; a dimension that does not vary says nothing, and is 0."""
    mean, spread = _mean_and_spread(embeddings)
    points = np.empty(embeddings.shape, dtype=np.float64 if len(embeddings) <= SMALL_POOL else np.float32)
    # A spread this small beside the mean is the rounding of a constant.
    varies = spread > 1e-12 * np.abs(mean)
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=varies)
    for block in slices(len(points), BLOCK):
        points[block] = np.subtract(embeddings[block], mean, dtype=np.float64) * scale
    return points


def _mean_and_spread(embeddings: Embeddings) -> tuple[Float[np.ndarray, " dims"], Float[np.ndarray, " dims"]]:
    """Give the mean and standard deviation of each dimension; NumPy's own would hold a float64 copy of the pool."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for block in slices(len(embeddings), BLOCK):
        centred = np.subtract(embeddings[block], mean, dtype=np.float64)
        squares += np.einsum("ij,ij->j", centred, centred)
    return mean, np.sqrt(squares / len(embeddings))
