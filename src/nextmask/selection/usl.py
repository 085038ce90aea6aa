"""USL: the densest sample of each cluster, pushed away from what the other clusters are represented by."""

from functools import partial

import numpy as np
from jaxtyping import Float, Int

from nextmask.errors import SelectionError
from nextmask.selection.geometry.directions import directions
from nextmask.selection.geometry.k_means import k_means
from nextmask.selection.geometry.nearby import mean_distance_nearby
from nextmask.selection.geometry.side_by_side import side_by_side, slices
from nextmask.selection.geometry.visiting import clusters_wanted, standing, visit
from nextmask.selection.types import Embeddings, Labeled, Query, Rows, because

NO_DISTANCE = 1e-10
"""Squared distances below this one count as this one, so that a repeated sample weighs much and not infinitely much."""

AT_ONCE = 1024
"""Representatives that a block of samples is compared with at a time."""

BLOCK = 1024
"""Samples that one thread compares with them at a time."""

Units = Float[np.ndarray, "samples dims"]
Clusters = Int[np.ndarray, " samples"]
Scores = Float[np.ndarray, " samples"]


def usl(
    embeddings: Embeddings,
    labeled: Labeled,
    n: int,
    *,
    rng: np.random.Generator,
    neighbors: int = 20,
    strength: float = 0.5,
    alpha: float = 0.5,
    momentum: float = 0.9,
    iterations: int = 10,
) -> Query:
    """Take of each k-means cluster the sample that is in dense company and far from the other clusters' representatives.

    ``neighbors`` is how many nearest samples the density is measured by. ``strength`` (lambda) weighs the regulariser, the sum
    over the representatives s of other clusters of 1 / |x - s|^(2 ``alpha``); each of ``iterations`` picks anew and keeps
    ``momentum`` of the former regulariser.

    Source: Wang, Lian and Yu, "Unsupervised selective labeling for more effective semi-supervised learning", ECCV 2022,
    https://arxiv.org/abs/2110.03006.

    Faithful: unit-length embeddings; density = 1 / mean squared distance to the nearest neighbours in the whole pool; as many
    k-means clusters as picks, and *one pick a cluster* (ports take the n best of the whole pool and lose this rule); the
    regulariser starts at 0 and leaves out the sample's own cluster. Weights, exponent (of the squared distance), momentum and
    iterations are those of the authors' CIFAR runs, the number of neighbours that of their ImageNet runs.

    Adapted: embeddings are scaled to unit length as seen from the pool's mean (theirs: from 0; their networks have no common
    offset). The horizon beyond which representatives are ignored is left out: theirs is the diameter of the sphere. Repeated
    samples are 1e-5 apart (theirs: refused). Beyond 20,000 samples neighbours are looked for within cells of about 1,000. With
    labeled samples there are labeled + n clusters (at most 500, or n), visited by fewest labeled, then largest; labeled samples
    count as neighbours, represent their clusters in the regulariser, and are not taken. Scores that agree to 10 digits are
    equal; of equals the lowest row.

    Use: for a first round, where clusters lie close together and the typical samples of neighbouring clusters resemble each
    other. Where clusters are well apart it answers as typiclust does.

    Cost: the neighbours (N^2 d up to 20,000 samples, about 3,000 N d beyond), and N n d for the first regulariser, less for the
    later ones: one pass over the pool for each 1,024 representatives that changed; one copy of the embeddings.
    """
    _check(neighbors=neighbors, iterations=iterations)
    units = directions(embeddings).whole()
    cluster = k_means(units, clusters_wanted(labeled, n), rng).labels
    density = 1 / np.maximum(mean_distance_nearby(units, neighbors, rng, power=2), NO_DISTANCE)
    crowding = _crowding(units, cluster, density, labeled, strength, alpha, momentum, iterations)
    visits = visit(cluster, density - strength * crowding, labeled, n)
    return because(
        visits.rows,
        "in dense company (density {density:.3g}) in cluster {cluster} ({size} samples), away from other clusters' picks "
        "(crowding {crowding:.3g}); no. {turn} of those not labeled",
        cluster=visits.cluster,
        size=visits.size,
        cluster_labeled=visits.labeled,
        density=density[visits.rows],
        crowding=crowding[visits.rows],
        turn=visits.turn,
    )


def _check(**at_least_one: int) -> None:
    for name, value in at_least_one.items():
        if value < 1:
            raise SelectionError(f"{name} is {value}. Expected 1 or more. Leave it out for the authors' number.")


def _crowding(
    units: Units,
    cluster: Clusters,
    density: Scores,
    labeled: Labeled,
    strength: float,
    alpha: float,
    momentum: float,
    iterations: int,
) -> Scores:
    """Let the clusters' representatives move away from each other; give the regulariser of the last choice."""
    held = np.bincount(cluster[labeled], minlength=int(cluster.max()) + 1)
    crowding, now = np.zeros(len(cluster)), np.zeros(len(cluster))
    representatives = np.flatnonzero(labeled)
    counted = np.empty(0, dtype=np.int64)
    for _ in range(iterations - 1):
        best = np.flatnonzero(standing(cluster, density - strength * crowding, ~labeled) == 0)
        chosen = np.union1d(best[held[cluster[best]] == 0], representatives)
        # Only what changed is computed: after the first time most clusters keep their representative.
        _add_inverses(now, units, cluster, np.setdiff1d(chosen, counted), np.setdiff1d(counted, chosen), alpha)
        counted = chosen
        crowding = momentum * crowding + (1 - momentum) * now
    return crowding


def _add_inverses(
    now: Scores, units: Units, cluster: Clusters, more: np.ndarray, less: np.ndarray, alpha: float
) -> None:
    """Add 1 / |x - s|^(2 alpha) over those ``more`` of which s is of another cluster than x, and take away those ``less``."""
    of, sign = np.concatenate([more, less]), np.repeat([1.0, -1.0], [len(more), len(less)])
    with side_by_side() as run:
        for some in slices(len(of), AT_ONCE):
            others = units[of[some]].astype(np.float64)
            work = partial(_inverses, units, cluster, of[some], others, sign[some], alpha)
            now += np.concatenate(list(run(work, slices(len(units), BLOCK))))


def _inverses(
    units: Units,
    cluster: Clusters,
    of: Rows,
    others: Float[np.ndarray, "picks dims"],
    sign: Float[np.ndarray, " picks"],
    alpha: float,
    block: slice,
) -> Float[np.ndarray, " rows"]:
    unit = units[block].astype(np.float64)
    squared = unit @ (-2 * others).T
    squared += np.einsum("ij,ij->i", unit, unit)[:, None]
    squared += np.einsum("ij,ij->i", others, others)
    np.maximum(squared, NO_DISTANCE, out=squared)
    squared **= alpha
    inverse = np.divide(1, squared, out=squared)
    inverse[cluster[block, None] == cluster[of]] = 0
    return np.asarray(inverse @ sign)
