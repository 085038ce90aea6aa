"""Facility location: the samples that represent the pool best, by cosine."""

import math

import numpy as np
from jaxtyping import Float

from nextmask.selection.geometry.coverage import Coverage, Pick, Similarity, greedy, some_targets
from nextmask.selection.geometry.groups import sorted_pool
from nextmask.selection.geometry.side_by_side import side_by_side, slices
from nextmask.selection.geometry.sketch import Points, of_unit_length
from nextmask.selection.types import Cost, Embeddings, Labeled, Query, Rows, because

REFERENCES = 4096
"""Samples that are to be represented, where the pool holds more."""

RISK = 0.01
"""Probability that the bound of the approximation does not hold."""

BLOCK = 512
"""Rows that are compared with all picks at a time."""

Coverages = Float[np.ndarray, " picks"]


def facility_location(
    embeddings: Embeddings,
    labeled: Labeled,
    n: int,
    *,
    rng: np.random.Generator,
    references: int | None = None,
    cost: Cost | None = None,
) -> Query:
    """Take, one by one, the sample that most raises the mean of each sample's similarity to its most similar taken one.

    Similarity is (1 + cosine) / 2. ``references``: how many random samples stand for the pool as what is to be represented;
    without it, the whole pool up to 4,096 samples, and 4,096 of a larger one. Any sample may be taken. ``cost`` (minutes): take
    what raises it most per minute.

    Source: Wei, Iyer and Bilmes, "Submodularity in data subset selection and active learning", ICML 2015,
    https://proceedings.mlr.press/v37/wei15.html. The greedy rule and its bound: Nemhauser, Wolsey and Fisher, "An analysis of
    approximations for maximizing submodular set functions", Mathematical Programming 1978,
    https://doi.org/10.1007/BF01588971.

    Faithful: the greedy maximum of the facility location function; labeled samples count as taken. It raises the mean by at
    least 1 - 1/e of what the best samples could. Of equals the lowest row.

    Adapted: cosines are shifted and halved, so that they are never negative; that changes no pick. They are rounded to 12
    digits, so that the order of a sum decides nothing. All unlabeled samples are
    candidates (theirs: the most uncertain ones of each round). On a sample of m references the picks are those of the
    sample. How good they are for the whole pool is bounded: a fixed choice of samples raises the mean over the references by
    at most epsilon = sqrt(ln(n / 0.01) / 2m) less than that over the pool (Hoeffding's inequality, and a union bound over the
    best choices of 1, ..., n samples), except in 1 % of the draws. So the best choice raises the pool's mean by at most
    rise on the references / (1 - 1/e) + epsilon. The rise that the picks bring is computed over the whole pool; its share of
    that is ``share_of_best``, and ``epsilon`` is given beside it. With ``cost`` no such share is known.

    Use: for a query that stands for the pool as it is, frequent kinds of image first. Cosines change slowly with distance, so
    that rare kinds count little; k_center and prob_cover look for those.

    Cost: N m p for sketches of p <= 128 coordinates (all d where a pool has no main axes), N p for each time that a
    reference comes closer to a pick, and N d for each pick. Memory beside the embeddings: 8 p bytes a sample.
    """
    points = of_unit_length(embeddings)
    chosen = some_targets(len(labeled), REFERENCES if references is None else references, rng)
    coverage = Coverage(sorted_pool(points), Similarity(lambda squared: np.maximum(1 - squared / 4, 0)), chosen)
    for row in np.flatnonzero(labeled):
        coverage.add(int(row))
    before = float(coverage.best.mean())
    picks = greedy(coverage, ~labeled, n, cost)
    after = before + np.cumsum([pick.added for pick in picks]) / len(coverage.targets)
    if len(coverage.targets) == len(labeled):
        return _explained(picks, len(labeled), before, after, after - before, 0.0, cost)
    whole = _over_the_pool(points, labeled, np.array([pick.row for pick in picks]))
    epsilon = math.sqrt(math.log(n / RISK) / (2 * len(coverage.targets)))
    return _explained(picks, len(coverage.targets), whole[0], whole[1:], after - before, epsilon, cost)


def _explained(
    picks: list[Pick],
    references: int,
    before: float,
    after: Coverages,
    rise: Coverages,
    epsilon: float,
    cost: Cost | None,
) -> Query:
    """Say what each pick represents; ``rise`` is what the picks so far bring on the references."""
    closer = np.array([pick.closer for pick in picks])
    best = rise / (1 - 1 / math.e) + epsilon
    share = np.divide(after - before, best, out=np.ones_like(best), where=best > 0)
    bound = {} if cost is not None else {"share_of_best": np.minimum(share, 1), "epsilon": epsilon}
    return because(
        [pick.row for pick in picks],
        "represents {closer} of {references} samples ({share:.1%}) better than any labeled or already chosen sample; "
        "mean similarity to the nearest of these rises by {gain:.2g} to {coverage:.3f} of 1",
        closer=closer,
        references=references,
        share=closer / references,
        gain=np.diff(after, prepend=before),
        coverage=np.minimum(after, 1),
        **bound,
    )


def _over_the_pool(points: Points, labeled: Labeled, picks: Rows) -> Float[np.ndarray, " states"]:
    """Average over the whole pool how similar the most similar one is, of the labeled, and after each pick."""
    known = np.flatnonzero(labeled)
    centres = points.at(np.concatenate([known, picks]))
    lengths = np.einsum("ij,ij->i", centres, centres)

    def add_up(rows: slice) -> Float[np.ndarray, " states"]:
        own = points.at(rows)
        squared = np.einsum("ij,ij->i", own, own)[:, None] + lengths - 2 * (own @ centres.T)
        similarity = np.clip(1 - squared / 4, 0, 1)
        begun = similarity[:, : len(known)].max(axis=1, initial=0)
        similarity[:, len(known)] = np.maximum(similarity[:, len(known)], begun)
        after = np.maximum.accumulate(similarity[:, len(known) :], axis=1)
        return np.append(begun.sum(), after.sum(axis=0))

    with side_by_side() as run:
        return np.sum(list(run(add_up, slices(len(points), BLOCK))), axis=0) / len(points)
