"""Whether uncertainty ranks errors: of cases, and of the voxels of one case."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from nextmask.errors import StudyError
from nextmask.statistics.bootstrap import Interval
from nextmask.statistics.paired import Array

FEWEST = 4
"""Patients below which no rank correlation says anything: of three, all six orders are common by chance."""


def rank_correlation(uncertainty: ArrayLike, risk: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Correlate the ranks of uncertainty and risk, each (patients,): 1 where the more unsure is always the worse.

    Spearman's, bounded on Fisher's scale with the variance (1 + r^2 / 2) / (patients - 3). A perfect order is brought in by
    half of the step to the next one, since few patients come to it by chance: without that, four would.

    Source: D. G. Bonett and T. A. Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman
    correlations", Psychometrika 65, 2000, https://doi.org/10.1007/BF02294183. The bringing in is ours; a test holds how often
    chance is taken for order.

    Returns:
        The correlation, NaN where one of both is the same for all; bounds are -1 and 1 where nothing tells them: with
        fewer than `FEWEST` patients.

    Raises:
        StudyError: the two differ in length, or a value is not finite.
    """
    one, other = _paired(uncertainty, risk)
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(other) == 0:
        return Interval(math.nan, -1.0, 1.0, confidence)
    r = float(np.corrcoef(stats.rankdata(one), stats.rankdata(other))[0, 1])
    if len(one) < FEWEST:
        return Interval(r, -1.0, 1.0, confidence)
    most = 1 - 6 / (len(one) * (len(one) ** 2 - 1))
    inner = min(max(r, -most), most)
    reach = float(stats.norm.ppf((1 + confidence) / 2)) * math.sqrt((1 + inner**2 / 2) / (len(one) - 3))
    return Interval(r, math.tanh(math.atanh(inner) - reach), max(r, math.tanh(math.atanh(inner) + reach)), confidence)


def area_under_risk_coverage(uncertainty: ArrayLike, risk: ArrayLike) -> tuple[float, float]:
    """Average the risk of the surest k patients over all k; return that, and its excess over the ideal order.

    Low is good. With an order that says nothing it is the mean risk; the excess is 0 where the surest are the best. Equally
    unsure patients are taken in any order, on average.

    Source: Y. Geifman, G. Uziel and R. El-Yaniv, "Bias-reduced uncertainty estimation for deep neural classifiers", ICLR
    2019, https://arxiv.org/abs/1805.08206 (AURC and E-AURC), with 1 - Dice in place of a wrong class.

    >>> area_under_risk_coverage([0.1, 0.2, 0.3], [0.0, 0.3, 0.6])[1]
    0.0
    """
    unsure, lost = _paired(uncertainty, risk)
    if not len(lost):
        return math.nan, math.nan
    _, group = np.unique(unsure, return_inverse=True)
    alike = np.bincount(group, lost) / np.bincount(group)
    area = _area(alike[group][np.argsort(unsure, kind="stable")])
    return area, area - _area(np.sort(lost))


def auroc(uncertainty: Array, wrong: Array) -> float:
    """Return how often a wrong voxel is less sure than a right one, ties half: 0.5 tells nothing, 1 finds every error.

    ``uncertainty`` and ``wrong`` (bool) are of any one shape, the voxels of one case. NaN where all are right, or all wrong.
    """
    of_wrong, of_right = uncertainty[wrong], np.sort(uncertainty[~wrong])
    if not len(of_wrong) or not len(of_right):
        return math.nan
    below, upto = (np.searchsorted(of_right, of_wrong, side).mean() for side in ("left", "right"))
    return float((below + upto) / 2 / len(of_right))


def _area(risk: Array) -> float:
    return float(np.mean(np.cumsum(risk) / np.arange(1, len(risk) + 1)))


def _paired(uncertainty: ArrayLike, risk: ArrayLike) -> tuple[Array, Array]:
    one, other = np.asarray(uncertainty, float), np.asarray(risk, float)
    if one.shape != other.shape or one.ndim != 1 or not np.isfinite([one, other]).all():
        raise StudyError(
            f"uncertainties of shape {one.shape} came with risks of shape {other.shape}. Expected one finite number each for "
            "every patient. Leave out patients without a score."
        )
    return one, other
