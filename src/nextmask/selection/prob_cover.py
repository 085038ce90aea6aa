"""ProbCover: the samples whose neighbourhoods cover most of the pool."""

import numpy as np
from jaxtyping import Float

from nextmask.errors import SelectionError
from nextmask.selection.geometry.coverage import Coverage, Pick, Similarity, greedy
from nextmask.selection.geometry.groups import SortedPool, sorted_pool
from nextmask.selection.geometry.k_means import k_means
from nextmask.selection.geometry.purity import pure_radius
from nextmask.selection.geometry.sketch import as_they_are
from nextmask.selection.geometry.visiting import clusters_wanted
from nextmask.selection.k_center import k_center
from nextmask.selection.types import Cost, Embeddings, Labeled, Query, Rows, because, join

BALLS = 1000
"""Balls whose purity is measured, each against the whole pool, where the pool holds more."""


def prob_cover(
    embeddings: Embeddings,
    labeled: Labeled,
    n: int,
    *,
    rng: np.random.Generator,
    radius: float | None = None,
    purity: float = 0.95,
    classes: int | None = None,
    cost: Cost | None = None,
) -> Query:
    """Take, one by one, the sample with the most samples around it that no labeled or taken one has nearby.

    ``radius``: how near is nearby; without it, the largest radius at which a share ``purity`` of the balls hold samples of
    one pseudo-class only, where k-means makes ``classes`` pseudo-classes. ``cost`` (minutes): take what newly covers most
    samples per minute.

    Source: Yehuda, Dekel, Hacohen and Weinshall, "Active learning through a covering lens", NeurIPS 2022,
    https://arxiv.org/abs/2205.11320.

    Faithful: Euclidean balls, nearer than the radius and not as near; a sample covers itself; what labeled samples cover is
    covered from the beginning; then the greedy maximum of newly covered samples, which covers at least 1 - 1/e of what the
    best n samples could. The radius is that of the paper: 95 % of the balls are pure. Of equals the lowest row.

    Adapted: segmentation has no number of classes, so there are as many pseudo-classes as samples labeled and asked for (at
    least 2, at most 500 or n): one for each ball. The radius is exact, not one of a grid: it is a quantile of the samples'
    distances to the nearest sample of another pseudo-class, over 1,000 random samples of a pool that holds more. Embeddings
    are taken as they are (theirs: unit length). Once everything is covered, the sample farthest from all labeled and taken
    ones follows, as in k_center, whatever it costs (theirs: rows that are labeled or taken already).

    Use: for the first rounds on a small budget, where some kinds of image are much more frequent than others. The radius
    matters much; max_herding depends on no such edge.

    Cost: N^2 p / 2 steps at most for sketches of p <= 128 coordinates (all d where a pool has no main axes), of which a
    pool in clusters skips most, N p for each sample that gets covered, and few distances in float64; with the radius unknown
    also k-means and 1,000 N p. Memory beside the embeddings: 8 p bytes a sample, never all pairs and no graph.
    """
    pool = sorted_pool(as_they_are(embeddings))
    radius = _radius(pool, embeddings, labeled, n, rng, purity, classes) if radius is None else _checked(radius)
    coverage = Coverage(pool, Similarity(lambda squared: (np.sqrt(squared) < radius).astype(np.float64), radius))
    for row in np.flatnonzero(labeled):
        coverage.add(int(row))
    before = int(coverage.best.sum())
    picks = greedy(coverage, ~labeled, n, cost, end_when_full=True)
    covering = _explained(picks, before, len(labeled), radius)
    return join([covering, _farthest(embeddings, labeled, covering.rows, n - len(picks), rng)])


def _explained(picks: list[Pick], before: int, samples: int, radius: float) -> Query:
    newly = np.array([pick.closer for pick in picks], dtype=np.int64)
    return because(
        [pick.row for pick in picks],
        "newly covers {newly_covered} samples ({share:.1%} of the pool) that lie within {ball_radius:.3g} of it; "
        "with it, {coverage:.1%} of the pool are covered",
        newly_covered=newly,
        share=newly / samples,
        coverage=(before + np.cumsum(newly)) / samples,
        ball_radius=radius,
    )


def _farthest(embeddings: Embeddings, labeled: Labeled, taken: Rows, n: int, rng: np.random.Generator) -> Query:
    """Go on where nothing is left to cover."""
    known = labeled.copy()
    known[taken] = True
    if not n:
        return because([], "")
    rest = k_center(embeddings, known, n, rng=rng)
    sentence = "the pool is covered; least like all labeled or already chosen samples ({distance:.3g} from the nearest)"
    return because(rest.rows, sentence, distance=rest.numbers["distance"])


def _radius(
    pool: SortedPool,
    embeddings: Float[np.ndarray, "samples dims"],
    labeled: Labeled,
    n: int,
    rng: np.random.Generator,
    purity: float,
    classes: int | None,
) -> float:
    if not 0 < purity <= 1:
        raise SelectionError(
            f"purity is {purity}. Expected a share above 0, at most 1. Leave it out for the paper's 0.95."
        )
    k = max(2, clusters_wanted(labeled, n)) if classes is None else classes
    if k < 1:
        raise SelectionError(f"classes is {k}. Expected 1 or more. Leave it out for as many as samples are asked for.")
    pseudo = k_means(embeddings, k, rng).labels
    rows = np.arange(len(labeled))
    if len(rows) > BALLS:
        rows = np.sort(rng.choice(len(rows), BALLS, replace=False))
    return pure_radius(pool, pseudo, rows, purity)


def _checked(radius: float) -> float:
    if not 0 < radius < np.inf:
        raise SelectionError(
            f"radius is {radius}. Expected a distance above 0. Leave it out to have it found by purity."
        )
    return float(radius)
