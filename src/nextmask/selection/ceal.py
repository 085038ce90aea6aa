"""CEAL: undetected, random and uncertain samples for the annotator; certain ones for pseudo-labels."""

import numpy as np
from jaxtyping import Bool, Float, Int

from nextmask.errors import SelectionError
from nextmask.selection.types import Labeled, Query, Rows, Uncertainty, because, join

Share = Float[np.ndarray, " samples"]

Free = Bool[np.ndarray, " samples"]

VARIANCE = " (variance {variance:.3g})"

CERTAIN = 0.5
"""Share of the samples with a detection that counts as certain: those with the lowest variance at the contour."""


def ceal(
    contour_variance: Uncertainty,
    foreground_share: Share,
    labeled: Labeled,
    n: int,
    *,
    rng: np.random.Generator,
    undetected: float | int = 10,
    random: float | int = 15,
    uncertain: float | int = 10,
) -> Query:
    """Ask for samples without a detection, for the most uncertain ones, and for random ones that are not certain.

    Source: M. Gorriz, A. Carlier, E. Faure and X. Giro-i-Nieto, "Cost-effective active learning for melanoma
    segmentation", ML4H at NIPS 2017, https://arxiv.org/abs/1711.09168.

    Faithful: of 35 samples 10 without a detection, 10 most uncertain and 15 at random; uncertainty is the variance of
    dropout passes, weighted by the distance to the predicted contour. A detection that was missed has low variance, so
    "without a detection" takes the lowest variance first.

    Adapted: quantiles in place of a histogram with 80 bins, whose half-open last bin never held the most uncertain
    sample and whose middle could be empty: each group gets its n by largest remainder, and none is asked for twice.
    Samples without a detection have no predicted foreground; where they run out, those with the lowest variance follow,
    as in the paper. The random group is drawn from what is left with more variance than half of the samples with a
    detection; where that runs out, from all that is left. Of equals the lowest row.

    Options: ``undetected``, ``random`` and ``uncertain`` are the parts of the query that the groups get.

    Use: one lesion or organ that may be missed altogether, which other uncertainties do not see. The certain samples can
    be trained on as they are predicted: `ceal_pseudo_labels`.

    Cost: O(N log N) time, a few numbers per sample of memory.
    """
    of_missed, of_doubtful, of_drawn = _quotas((undetected, uncertain, random), n)
    variance, free = contour_variance.astype(np.float64), ~labeled
    missed = _first(np.lexsort((variance, foreground_share > 0)), free, of_missed)
    doubtful = _first(np.argsort(-variance, kind="stable"), free, of_doubtful)
    drawn = _drawn(free, variance > _certain_up_to(variance, foreground_share, labeled), of_drawn, rng)
    return join(
        [
            _because_missed(missed, variance, foreground_share),
            because(
                doubtful,
                "of the samples that are most uncertain at the contour" + VARIANCE,
                variance=variance[doubtful],
            ),
            because(drawn, "drawn at random from samples that are not certain" + VARIANCE, variance=variance[drawn]),
        ]
    )


def ceal_pseudo_labels(
    contour_variance: Uncertainty, foreground_share: Share, labeled: Labeled, n: int, rng: np.random.Generator
) -> Rows:
    """Draw up to n samples whose predicted masks are certain enough to train on as they are.

    Unlabeled, with a detection, and in the half of those with the lowest variance at the contour (the paper: in the bin of
    the histogram that holds the most samples). Fewer than n where there are fewer. They are not a query: they cost no
    budget, are drawn anew in every round, and stay in the pool. So that none is also asked for, count the query as
    labeled.
    """
    threshold = _certain_up_to(contour_variance.astype(np.float64), foreground_share, labeled)
    certain = np.flatnonzero(~labeled & (foreground_share > 0) & (contour_variance <= threshold))
    return rng.permutation(certain)[:n]


def _quotas(parts: tuple[float | int, ...], n: int) -> list[int]:
    """Split n by largest remainder; of equal remainders the first group's."""
    if min(parts) < 0 or not 0 < sum(parts) < np.inf:
        raise SelectionError(
            f"The parts of the query are {parts} (undetected, uncertain, random). Expected 0 or more each, and not all 0. "
            "Leave them out for the paper's 10, 10 and 15."
        )
    exact = n * np.array(parts, dtype=np.float64) / sum(parts)
    quotas = np.floor(exact + 1e-9).astype(np.int64)
    quotas[np.argsort(-(exact - quotas).round(9), kind="stable")[: n - quotas.sum()]] += 1
    return list(quotas.tolist())


def _first(order: Int[np.ndarray, " samples"], free: Free, count: int) -> Rows:
    """Take the first free rows of an order, and mark them as no longer free."""
    rows = order[free[order]][:count]
    free[rows] = False
    return rows


def _certain_up_to(variance: Share, foreground_share: Share, labeled: Labeled) -> float:
    """Return the variance that half of the unlabeled samples with a detection do not exceed; of all, if none has one."""
    detected = ~labeled & (foreground_share > 0)
    return float(np.quantile(variance[detected if detected.any() else ~labeled], CERTAIN, method="lower"))


def _drawn(free: Free, uncertain: Free, count: int, rng: np.random.Generator) -> Rows:
    """Draw free rows that are uncertain; where there are too few, other free rows too."""
    shuffled = rng.permutation(np.flatnonzero(free))
    return shuffled[np.argsort(~uncertain[shuffled], kind="stable")][:count]


def _because_missed(rows: Rows, variance: Share, foreground_share: Share) -> Query:
    """Tell samples without a detection from those that only have little variance."""
    found = foreground_share[rows] > 0
    nothing, little = (
        "nothing was detected here, which may be wrong",
        "hardly doubted, so nothing else would ask for it",
    )
    return join(
        because(rows[which], sentence + VARIANCE, variance=variance[rows[which]])
        for which, sentence in ((~found, nothing), (found, little))
    )
