"""Intervals that hold for other seeds and for other patients than those at hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nextmask.errors import StudyError
from nextmask.statistics.paired import Array, check_finite, check_same_shape

DRAWS = 10_000
AT_ONCE = 2**22
"""Picks held in memory at a time, 32 MiB of them."""


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds that hold it at the stated confidence; infinite where the data cannot give any."""

    estimate: float
    lower: float
    upper: float
    confidence: float

    def within(self, lowest: float, highest: float) -> Interval:
        """Cut off what no score can be: the stretch for few seeds does not know that a Dice ends at 0 and 1."""
        known = math.isfinite(self.lower) and math.isfinite(self.upper)
        return replace(self, lower=max(self.lower, lowest), upper=min(self.upper, highest)) if known else self


@dataclass(frozen=True)
class Difference:
    """How much one strategy is ahead of another, and the two-sided p of no difference at all."""

    interval: Interval
    p: float


def interval_of_mean(
    values: Array | Sequence[Array], *, rng: np.random.Generator, confidence: float = 0.95, draws: int = DRAWS
) -> Interval:
    """Bound the mean score of a strategy, for seeds and test patients like these but not these.

    A hierarchical bootstrap of residuals: each draw picks seeds anew and, apart from them, patients anew, and adds what
    these deviate from the mean. Two corrections make it hold with few of either:

    - Deviations of n are stretched by sqrt(n / chi2), chi2 of n - 1 degrees of freedom drawn anew each time: they lie closer
      to their own mean than to the truth, and their spread is itself an estimate. For normal scores this makes Student's t
      out of a normal distribution.
    - Those of patients are shrunken to what patients have in common over the seeds, because noise of single scores is in
      those of seeds already.

    Source: A. C. Davison and D. V. Hinkley, "Bootstrap methods and their application", 1997, section 3.8; J. R. Carpenter,
    H. Goldstein and J. Rasbash, "A novel bootstrap procedure for assessing the relationship between class size and
    achievement", JRSS C 52, 2003 (residuals made to have the estimated variance). The stretch is ours; tests hold its
    coverage.

    Args:
        values: (seeds, patients), every seed scored on the same patients; or one array a seed, each on patients of its
            own, whose number may differ; or (seeds,), which bounds the luck of seeds alone.
        confidence: of the interval.
        draws: of the bootstrap.

    Returns:
        The mean, in which every seed weighs the same, and its bounds. They are infinite for one seed or one patient.

    Raises:
        StudyError: no scores, or NaN among them.
    """
    mean, drawn = _draw(values, rng, draws)
    return _interval(mean, drawn, confidence)


def interval_of_difference(
    one: Array | Sequence[Array],
    other: Array | Sequence[Array],
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    draws: int = DRAWS,
) -> Difference:
    """Bound by how much one strategy is ahead of another, row i and column j of both being the same seed and patient.

    As `interval_of_mean`, of the differences. p is the share of draws on the wrong side of 0, twice; it is at least
    2 / (draws + 1), and 1 where the interval is infinite. Raises StudyError if the two differ in shape.
    """
    mean, drawn = _draw(_differences(one, other), rng, draws)
    if drawn is None:
        return Difference(_interval(mean, drawn, confidence), 1.0)
    rarer = 1 + min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
    return Difference(_interval(mean, drawn, confidence), min(1.0, 2 * rarer / (draws + 1)))


def _differences(one: Array | Sequence[Array], other: Array | Sequence[Array]) -> Array | list[Array]:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        check_same_shape(one, other)
        return one - other
    if len(one) != len(other):
        raise StudyError(
            f"{len(one)} seeds of one strategy were paired with {len(other)} of another. Expected the same seeds in both. "
            "Keep those that both have."
        )
    for first, second in zip(one, other, strict=True):
        check_same_shape(first, second)
    return [first - second for first, second in zip(one, other, strict=True)]


def _draw(values: Array | Sequence[Array], rng: np.random.Generator, draws: int) -> tuple[float, Array | None]:
    """Return the mean and the draws of it; None where a level has one member, whose spread nothing tells."""
    mean, levels = _levels(values)
    if any(len(deviations) < 2 for deviations in levels):
        return mean, None
    return mean, mean + sum((_draw_level(deviations, rng, draws) for deviations in levels), np.zeros(draws))


def _levels(values: Array | Sequence[Array]) -> tuple[float, list[Array]]:
    """Return the mean, and the deviations of seeds from it; and those of patients where all seeds share them."""
    if not isinstance(values, np.ndarray):
        values = np.array([_mean_of_seed(seed) for seed in values])
    if values.ndim not in (1, 2) or not values.size:
        raise StudyError(
            f"scores of shape {values.shape} were given. Expected (seeds, patients) or (seeds,), with at least one of "
            "each. Average classes and budgets first."
        )
    check_finite(values, "scores")
    mean = float(values.mean())
    if values.ndim == 1:
        return mean, [values - mean]
    return mean, [values.mean(1) - mean, _of_patients(values)]


def _mean_of_seed(scores: Array) -> float:
    if scores.ndim != 1 or not scores.size:
        raise StudyError(
            f"a seed has scores of shape {scores.shape}. Expected one score a patient, and at least one. Leave out seeds "
            "that were not scored."
        )
    return float(scores.mean())


def _of_patients(values: Array) -> Array:
    """Return the deviations of patients, shrunken to the share of their variance that is not noise of single scores.

    The mean square of columns expects noise + seeds * patients' variance, that of residuals noise (two-way analysis of
    variance without repetition).
    """
    seeds, patients = values.shape
    deviations = values.mean(0) - values.mean()
    if seeds < 2 or patients < 2 or not deviations.any():
        return deviations
    residuals = values - values.mean(1, keepdims=True) - deviations
    noise = (residuals**2).sum() / ((seeds - 1) * (patients - 1))
    between = seeds * (deviations**2).sum() / (patients - 1)
    return deviations * np.sqrt(max(0.0, 1.0 - noise / between))


def _draw_level(deviations: Array, rng: np.random.Generator, draws: int) -> Array:
    members = len(deviations)
    picked = np.concatenate(
        [
            deviations[rng.integers(members, size=(min(step, draws - start), members))].mean(1)
            for step in [max(1, AT_ONCE // members)]
            for start in range(0, draws, step)
        ]
    )
    return picked * np.sqrt(members / rng.chisquare(members - 1, draws))


def _interval(mean: float, drawn: Array | None, confidence: float) -> Interval:
    if not 0 < confidence < 1:
        raise StudyError(f"confidence is {confidence}. Expected a share, above 0 and below 1. Take 0.95.")
    if drawn is None:
        return Interval(mean, -np.inf, np.inf, confidence)
    lower, upper = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(mean, float(lower), float(upper), confidence)
