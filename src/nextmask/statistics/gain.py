"""What the next samples would buy, told from a fitted learning curve, with what is not known of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from nextmask.errors import StudyError
from nextmask.statistics.bootstrap import Interval
from nextmask.statistics.paired import Array

PARAMETERS = 3
"""A saturating curve has a ceiling, a height and a rate; fewer rounds cannot tell it."""

ROOMS = np.linspace(0.0, 1.0, 201)
"""How far a curve may rise yet, in Dice: all equally likely before any score is seen."""
RATES = np.linspace(0.1, 2.5, 25)
"""Exponents of the power law, all equally likely."""
NOISES = np.geomspace(0.005, 0.15, 14)
"""SDs of one round's score about its curve, equally likely by their logarithm: trainings on equally many samples differ
by .02 to .13 Dice with 1 to 5 % annotated (Vepa et al., NeurIPS 2024), by less with more."""
NEGLIGIBLE = 1e-6


@dataclass(frozen=True)
class Gain:
    """What ``samples`` more would buy in Dice: ``curve`` of the learning curve itself, never below 0; ``measured`` of the
    next round's score over the last one's, which is what will be seen, with the luck of two trainings in it."""

    samples: int
    curve: Interval
    measured: Interval


@dataclass(frozen=True, eq=False)
class _Fit:
    """Every curve that is considered: its gain, how likely it is, its height now (mean and SD), and its noise; (curves,)."""

    gain: Array
    weight: Array
    height: Array
    unsure: Array
    noise: Array


def gain_of_next(
    labeled: Sequence[int], dice: Sequence[float], samples: int, *, confidence: float = 0.95
) -> Gain | None:
    """Predict what ``samples`` more samples would buy; None with fewer rounds than the curve has parameters.

    The curve is an inverse power law, ceiling - room * (labeled / labeled now) ** -rate, that cannot fall nor leave 0 to 1.
    With a handful of noisy rounds the best-fitting one means little: many fit about as well and go on differently. So all
    of a fine grid are weighed by how well they fit (a Bayesian fit with flat priors: `ROOMS`, `RATES`, `NOISES`), and the
    median and the bounds are of all together. Nothing is drawn: equal scores give equal answers. Later rounds weigh more,
    in proportion to their number.

    Source: R. L. Figueroa et al., "Predicting sample size required for classification performance", BMC Medical Informatics
    and Decision Making 12:8, 2012, https://doi.org/10.1186/1472-6947-12-8 (the curve and its weights). That curves of all
    shapes be averaged instead of one fitted: T. Domhan et al., IJCAI 2015. Shapes: T. Viering and M. Loog, "The shape of
    learning curves: a review", 2021, https://arxiv.org/abs/2103.10948.

    Args:
        labeled: samples that were labeled after each round, (rounds,), growing.
        dice: the mean Dice after each round, (rounds,).
        samples: how many more.
        confidence: of both intervals.

    Raises:
        StudyError: a round without a Dice of 0 to 1, or numbers of samples that do not grow.
    """
    _check(labeled, dice, samples)
    if len(labeled) < PARAMETERS:
        return None
    fit = _fit(np.asarray(labeled, float), np.asarray(dice, float), samples)
    ends = (1 - confidence) / 2, 0.5, (1 + confidence) / 2
    curve = [_weighted_quantile(fit.gain, fit.weight, share) for share in ends]
    shift, spread = fit.height + fit.gain - dice[-1], np.hypot(fit.unsure, fit.noise)
    measured = [_mixed_quantile(shift, spread, fit.weight, share) for share in ends]
    return Gain(samples, _interval(curve, confidence), _interval(measured, confidence))


def _fit(labeled: Array, dice: Array, samples: int) -> _Fit:
    """Weigh all curves of the grid; how high they lie is integrated out, which for a flat prior is exact."""
    rounds, now = len(labeled), labeled[-1]
    room, rate, noise = (each.ravel() for each in np.meshgrid(ROOMS, RATES, NOISES, indexing="ij"))
    trust = (
        2 * np.arange(1, rounds + 1) / (rounds + 1)
    )  # 1 on average, so that the noise is not taken for less than it is
    below = room[:, None] * (1 - (labeled / now) ** -rate[:, None])  # what each round lies below the height now
    height = (dice - below) @ trust / trust.sum()
    misfit = (dice - below - height[:, None]) ** 2 @ trust
    unsure = noise / np.sqrt(trust.sum())
    possible = ndtr((1 - room - height) / unsure) - ndtr(-height / unsure)
    with np.errstate(divide="ignore"):
        score = -(rounds - 1) * np.log(noise) - misfit / (2 * noise**2) + np.log(np.maximum(possible, 0.0))
    weight = np.exp(score - score.max())
    kept = weight > NEGLIGIBLE
    gain = room * (1 - ((now + samples) / now) ** -rate)
    return _Fit(gain[kept], weight[kept] / weight[kept].sum(), height[kept], unsure[kept], noise[kept])


def _weighted_quantile(values: Array, weights: Array, share: float) -> float:
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), share).clip(max=len(values) - 1)])


def _mixed_quantile(means: Array, spreads: Array, weights: Array, share: float) -> float:
    """Return the quantile of a mixture of normal distributions."""

    def excess(value: float) -> float:
        return float(weights @ ndtr((value - means) / spreads)) - share

    far = 10 * float(spreads.max())
    return float(brentq(excess, float(means.min()) - far, float(means.max()) + far, xtol=1e-5))


def _interval(quantiles: Sequence[float], confidence: float) -> Interval:
    lower, estimate, upper = quantiles
    return Interval(estimate, lower, upper, confidence)


def _check(labeled: Sequence[int], dice: Sequence[float], samples: int) -> None:
    grows = all(0 < one < other for one, other in pairwise(labeled)) and all(labeled)
    if len(labeled) != len(dice) or not grows or not all(0 <= each <= 1 for each in dice) or samples < 1:
        raise StudyError(
            f"a learning curve of {list(dice)} at {list(labeled)} samples was to be continued by {samples}. Expected a Dice of 0 "
            "to 1 at numbers of samples that grow, and one sample more at least. Leave out rounds that were not scored."
        )
