"""URDS: clusters of samples that are alike and alike in certainty; the most difficult of the most typical."""

import numpy as np
from jaxtyping import Float, Int

from nextmask.errors import SelectionError
from nextmask.selection.geometry.directions import directions, mean_cosine
from nextmask.selection.geometry.k_means import k_means
from nextmask.selection.geometry.kernel_map import kernel_map
from nextmask.selection.geometry.visiting import clusters_wanted, rounded, standing, visit
from nextmask.selection.types import Embeddings, Labeled, Query, Uncertainty, because


def urds(
    embeddings: Embeddings,
    difficulty: Uncertainty,
    labeled: Labeled,
    n: int,
    *,
    rng: np.random.Generator,
    candidates: int = 3,
    least: float = 0.5,
) -> Query:
    """Take of each cluster the most difficult of its ``candidates`` most typical samples.

    Clusters are those of kernel k-means, with Gaussian kernels of three widths in which easy samples weigh more: difficulty
    runs from ``least`` to 1, and 1 switches the weighing off.

    Source: Zhu, Ye, Zhong, Yue, Zhang and Wang, "CSAL-3D: cold-start active learning for 3D medical image segmentation via
    SSL-driven uncertainty-reinforced diversity sampling" (URDS), MICCAI 2025,
    https://papers.miccai.org/miccai-2025/0198-Paper2315.html.

    Faithful: the kernel is the sum over gamma = 0.1, 1, 10 of exp(-gamma d^2 / 2) / (u_i + u_j), with u the difficulty of
    restoring the sample; n clusters on a pool without labels; typical is who has the lowest mean cosine distance to the
    cluster; three candidates.

    Adapted: embeddings are seen from the pool's mean, at unit length, and d^2 is in units of the pool's median (theirs:
    raw, so that the widths mean something else for every encoder). u runs from 0.5 to 1 (theirs from 0, so that the easiest
    sample weighs 10^10, and even from 0.1 the easy samples share out nearly all clusters among themselves). k-means on the
    kernel's map starts from k-means++ and keeps no cluster empty (theirs starts at random and gives empty clusters a random
    sample). Beyond 1,000 samples the map is Nystrom's from 300 random samples. With labeled samples there are labeled + n
    clusters (at most 500, or n), visited by fewest labeled, then largest; labeled samples count as members and are not
    taken. When a cluster's turn comes again it goes on with the other candidates, then with the next ``candidates``. Values
    that agree to 10 digits are equal; of equals the lowest row.

    Use: for a first round, where a self-supervised network says which samples are hard to restore; the difficult sample among
    typical ones, where cscs weighs both over the whole cluster.

    Cost: N^2 numbers up to 1,000 samples, 300 N beyond, and a k-means on these with n clusters.
    """
    _check(candidates, least)
    seen = directions(embeddings)
    cluster = k_means(kernel_map(seen, difficulty, least, rng), clusters_wanted(labeled, n), rng).labels
    typicality = mean_cosine(seen, cluster)
    place = standing(cluster, typicality, ~labeled)
    visits = visit(cluster, _most_difficult_first(place // candidates, difficulty), labeled, n)
    return because(
        visits.rows,
        "difficulty {difficulty:.3g}, the highest of the typical samples of cluster {cluster} "
        "(no. {place} in typicality of {size}, no. {turn} of those not labeled)",
        cluster=visits.cluster,
        size=visits.size,
        cluster_labeled=visits.labeled,
        difficulty=difficulty[visits.rows],
        typicality=typicality[visits.rows],
        place=place[visits.rows] + 1,
        turn=visits.turn,
    )


def _check(candidates: int, least: float) -> None:
    if candidates < 1:
        raise SelectionError(f"candidates is {candidates}. Expected 1 or more. Leave it out for the authors' 3.")
    if not 0 < least <= 1:
        raise SelectionError(f"least is {least}. Expected more than 0, and at most 1. Leave it out for 0.5.")


def _most_difficult_first(group: Int[np.ndarray, " samples"], difficulty: Uncertainty) -> Float[np.ndarray, " samples"]:
    """Score samples so that the first group comes before the second, and within a group the most difficult first.

    Samples that are equal in both get the same score.
    """
    order = np.lexsort((-rounded(difficulty), group))
    changes = (np.diff(group[order]) != 0) | (np.diff(rounded(difficulty)[order]) != 0)
    score = np.empty(len(order))
    score[order] = -np.concatenate([[0], np.cumsum(changes)])
    return score
