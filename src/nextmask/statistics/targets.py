"""What it takes to reach a target, over seeds of which some never did."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from nextmask.errors import StudyError
from nextmask.statistics.paired import Array, check_same_shape


@dataclass(frozen=True)
class Target:
    """What was spent to reach a target, over seeds.

    ``median`` is infinite where half of the seeds or more never reached it; ``lower`` and ``upper`` bound it, from 0 to
    infinity where there are too few seeds to say. ``reached`` of ``seeds`` did, ``at_once`` of them with the first budget:
    these needed that or less.
    """

    median: float
    lower: float
    upper: float
    confidence: float
    reached: int
    at_once: int
    seeds: int


@dataclass(frozen=True)
class Saving:
    """The share of what a baseline spends that a strategy saves until the target: 0.62 is 62 % less, below 0 is more.

    ``low`` and ``high`` are the median over seeds; they differ where a seed never reached the target, because then only
    bounds are known. ``lower`` and ``upper`` bound the median at ``confidence``; -inf and 1 say nothing. ``seeds`` are
    the pairs, of which ``known`` reached the target in both.
    """

    low: float
    high: float
    lower: float
    upper: float
    confidence: float
    seeds: int
    known: int


def summarise_target(spent: ArrayLike, *, first: ArrayLike | None = None, confidence: float = 0.95) -> Target:
    """Summarise what seeds had spent at a target, (seeds,), inf where they never reached it.

    The median and the ranks around it need no number for a seed that never arrived, only that it is beyond the others; a
    mean over those that arrived would praise a strategy for failing. ``first`` is the first budget, of all or a seed each.
    """
    values = _checked(spent)
    if first is not None:
        _check_length(values, first)
    lower, upper = _around_median(values, confidence)
    at_once = 0 if first is None else int(np.count_nonzero(values <= np.asarray(first)))
    reached = int(np.count_nonzero(np.isfinite(values)))
    median = float(np.median(values))
    return Target(median, max(lower, 0.0), upper, confidence, reached, at_once, len(values))


def saving(
    spent: ArrayLike, baseline: ArrayLike, *, last: ArrayLike, baseline_last: ArrayLike, confidence: float = 0.95
) -> Saving:
    """Say how much less a strategy spends than a baseline until the target, paired by seed, with what is not known.

    1 - spent / baseline. Where one never arrived, all that is known is that it needs more than it had spent at its end,
    so that the share lies between two bounds; the median of the lower ones and of the higher ones are given.

    Args:
        spent: (seeds,) of the strategy, inf where it never reached the target; row i is the same seed in all of these.
        baseline: (seeds,) of the baseline.
        last: what the strategy had spent at its end, (seeds,) or one number.
        baseline_last: the same of the baseline.
        confidence: of the bounds on the median, by ranks; fewer than 6 seeds give none at 0.95.
    """
    values, others = _checked(spent), _checked(baseline)
    check_same_shape(values, others)
    for ends in (last, baseline_last):
        _check_length(values, ends)
    known = np.isfinite(values) & np.isfinite(others)
    # Where neither arrived these are 1 and -inf: nothing is known at all.
    most = 1 - np.minimum(values, last) / others
    least = 1 - values / np.minimum(others, baseline_last)
    return Saving(
        low=float(np.median(least)),
        high=float(np.median(most)),
        lower=_around_median(least, confidence)[0],
        upper=min(_around_median(most, confidence)[1], 1.0),
        confidence=confidence,
        seeds=len(values),
        known=int(np.count_nonzero(known)),
    )


def _around_median(values: Array, confidence: float) -> tuple[float, float]:
    """Bound the median by two of the values, by rank; infinite where no two are far enough apart.

    The k-th lowest and k-th highest of n miss the median of the distribution with chance 2 P(Binomial(n, 1/2) < k).
    """
    if not 0 < confidence < 1:
        raise StudyError(f"confidence is {confidence}. Expected a share, above 0 and below 1. Take 0.95.")
    n = len(values)
    ranks = [k for k in range(1, n // 2 + 1) if 2 * stats.binom.cdf(k - 1, n, 0.5) <= 1 - confidence]
    if not ranks:
        return -math.inf, math.inf
    ordered = np.sort(values)
    return float(ordered[ranks[-1] - 1]), float(ordered[n - ranks[-1]])


def _checked(spent: ArrayLike) -> Array:
    values = np.asarray(spent, dtype=np.float64)
    if values.ndim != 1 or not len(values) or np.isnan(values).any() or np.any(values <= 0):
        raise StudyError(
            f"what was spent until a target is {values.tolist()}. Expected one number above 0 a seed, inf where it never "
            "arrived. Take what spent_to_target returns."
        )
    return values


def _check_length(values: Array, given: ArrayLike) -> None:
    if np.shape(given) not in ((), values.shape):
        raise StudyError(
            f"{np.size(given)} budgets came with {len(values)} seeds. Expected one a seed, or one for all. Give what each seed "
            "had spent."
        )
