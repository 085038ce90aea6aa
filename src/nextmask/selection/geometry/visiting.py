"""Going from cluster to cluster: how many clusters, in which order, and whose turn it is."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from nextmask.selection.types import Labeled, Rows

MOST = 500
"""Clusters that labeled samples may drive the number up to; a query of more samples has as many clusters as it asks for."""

DIGITS = 10
"""Scores that agree to so many digits count as equal: what lies beyond is the order of summation."""


@dataclass(frozen=True, eq=False)
class Visits:
    """The samples taken on a walk through clusters, and for each of them its cluster, with what that holds.

    ``cluster`` is the number of the cluster, ``size`` its samples, ``labeled`` those among them that were labeled before,
    and ``turn`` says whether the sample is the first, second, ... that this query takes from the cluster. All (n,) int.
    """

    rows: Rows
    cluster: Rows
    size: Rows
    labeled: Rows
    turn: Rows


def clusters_wanted(labeled: Labeled, n: int) -> int:
    """Count the clusters to form: one for every labeled sample and every pick, but no more than MOST or n.

    On a pool without labels that is n, as one-shot methods have it: one cluster, one pick.
    """
    return min(len(labeled), max(n, min(int(labeled.sum()) + n, MOST)))


def visit(
    cluster: Int[np.ndarray, " samples"], score: Float[np.ndarray, " samples"], labeled: Labeled, n: int
) -> Visits:
    """Walk through the clusters and take the unlabeled sample with the highest score of each, then the second of each, ...

    Clusters with the fewest labeled samples come first, of these the largest, of these the one with the lowest row. Of
    equal scores the lowest row is taken. A walk ends after n samples.
    """
    _, cluster, size = np.unique(cluster, return_inverse=True, return_counts=True)
    held = np.bincount(cluster[labeled], minlength=len(size))
    turn = standing(cluster, score, ~labeled)
    rows = np.flatnonzero(~labeled)
    rows = rows[np.lexsort((_places(cluster, size, held)[cluster[rows]], turn[rows]))[:n]]
    own = cluster[rows]
    return Visits(rows, own, size[own], held[own], turn[rows] + 1)


def standing(
    cluster: Int[np.ndarray, " samples"], score: Float[np.ndarray, " samples"], among: Bool[np.ndarray, " samples"]
) -> Int[np.ndarray, " samples"]:
    """Rank the samples ``among`` which to choose within their clusters: 0 for the highest score; -1 for all others."""
    rows = np.flatnonzero(among)
    rows = rows[np.lexsort((rows, -rounded(score[rows]), cluster[rows]))]
    places = np.full(len(cluster), -1, dtype=np.int64)
    places[rows] = _count_up(cluster[rows])
    return places


def rounded(score: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Round scores to DIGITS digits, so that samples that tie on paper tie in the computer."""
    mantissa, exponent = np.frexp(np.asarray(score, dtype=np.float64))
    return np.ldexp(np.round(mantissa, DIGITS), exponent)


def _places(
    cluster: Int[np.ndarray, " samples"], size: Int[np.ndarray, " clusters"], held: Int[np.ndarray, " clusters"]
) -> Int[np.ndarray, " clusters"]:
    """Number the clusters in the order of the walk."""
    lowest_row = np.unique(cluster, return_index=True)[1]
    place = np.empty(len(size), dtype=np.int64)
    place[np.lexsort((lowest_row, -size, held))] = np.arange(len(size))
    return place


def _count_up(groups: Int[np.ndarray, " samples"]) -> Int[np.ndarray, " samples"]:
    """Number the samples of each group from 0; every group lies in one piece."""
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    lengths = np.diff(np.append(starts, len(groups)))
    return np.arange(len(groups)) - np.repeat(starts, lengths)
