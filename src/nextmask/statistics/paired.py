"""Scores of a strategy with named seeds, and what follows from pairing two strategies by those names."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from nextmask.errors import StudyError

Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of one strategy, with a name for every seed, budget and patient.

    ``values`` are (seeds, budgets, patients); an axis without names is not there, so that a curve a seed is (seeds,
    budgets), and one number a seed (seeds,). Two strategies are paired by these names, never by their order. A budget that
    was skipped is a column that is not there, not a NaN. Raises StudyError if names and shape disagree, a name comes
    twice, or a value is not finite.
    """

    values: Array
    seeds: tuple[Hashable, ...]
    budgets: tuple[Hashable, ...] = ()
    patients: tuple[Hashable, ...] = ()

    def __post_init__(self) -> None:
        expected = tuple(len(names) for names in self.axes)
        if self.values.shape != expected:
            raise StudyError(
                f"scores of shape {self.values.shape} came with {len(self.seeds)} seeds, {len(self.budgets)} budgets and "
                f"{len(self.patients)} patients. Expected the shape {expected}. Name what was run, and leave out the rest."
            )
        for names in self.axes:
            _check_distinct(names)
        check_finite(self.values, "scores")

    @property
    def axes(self) -> tuple[tuple[Hashable, ...], ...]:
        """Return the names along each axis of the values."""
        return (self.seeds, *(names for names in (self.budgets, self.patients) if names))


def pair(one: Scores, other: Scores) -> tuple[Array, Array]:
    """Return the values of two strategies on the seeds, budgets and patients that both have, in one order.

    Where they share none of a kind, the arrays are empty. Raises StudyError if only one of them has budgets, or patients.
    """
    if (bool(one.budgets), bool(one.patients)) != (bool(other.budgets), bool(other.patients)):
        raise StudyError(
            f"scores of shape {one.values.shape} were paired with scores of shape {other.values.shape}. Expected budgets in "
            "both or in none, and patients in both or in none. Average those of one, or give those of the other."
        )
    shared = [_shared(first, second) for first, second in zip(one.axes, other.axes, strict=True)]
    return _taken(one, shared), _taken(other, shared)


def paired_t_test(one: ArrayLike, other: ArrayLike) -> float:
    """Return the two-sided p of the paired t-test over seeds, (seeds,) each, row i of both the same seed.

    A single seed says nothing: p is 1. Differences that are all the same and not 0 give 0.

    >>> round(paired_t_test([0.71, 0.74, 0.70], [0.69, 0.70, 0.69]), 4)
    0.1181
    """
    difference = _difference(one, other)
    seeds = len(difference)
    if seeds < 2 or not difference.any():
        return 1.0
    error = float(difference.std(ddof=1)) / np.sqrt(seeds)
    if error == 0:
        return 0.0
    return float(2 * stats.t.sf(abs(difference.mean()) / error, seeds - 1))


def holm(p: ArrayLike) -> Array:
    """Adjust p-values, (comparisons,), so that rejecting those up to 0.05 errs anywhere in at most 5 % of studies.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6, 1979.
    The smallest of m is multiplied by m, the next by m - 1, and so on; none may fall below the one before.

    >>> [round(float(p), 3) for p in holm([0.01, 0.04, 0.03, 0.005])]
    [0.03, 0.06, 0.06, 0.02]
    """
    values = np.asarray(p, dtype=np.float64)
    check_finite(values, "p-values")
    if values.ndim != 1 or np.any((values < 0) | (values > 1)):
        raise StudyError(
            f"p-values of shape {values.shape} were {values.tolist()}. Expected one row of numbers from 0 to 1. Give one "
            "p-value a comparison."
        )
    order = np.argsort(values, kind="stable")
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return adjusted


def check_finite(values: Array, what: str) -> None:
    """Raise StudyError if a value is NaN or infinite, saying how many and where the first one is."""
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        raise StudyError(
            f"{len(wrong)} of {values.size} {what} are not finite, the first at {tuple(int(i) for i in wrong[0])}. Expected "
            "a number everywhere. Leave out the seed, budget or patient that has none; do not put 0 in its place."
        )


def check_same_shape(one: Array, other: Array) -> None:
    """Raise StudyError unless two strategies have as many seeds and patients as each other."""
    if one.shape != other.shape:
        raise StudyError(
            f"scores of shape {one.shape} were paired with scores of shape {other.shape}. Expected the same seeds and the "
            "same patients in both. Keep those that both have."
        )


def _difference(one: ArrayLike, other: ArrayLike) -> Array:
    first, second = np.asarray(one, dtype=np.float64), np.asarray(other, dtype=np.float64)
    check_same_shape(first, second)
    check_finite(first, "scores")
    check_finite(second, "scores")
    return np.atleast_1d(first - second)


def _check_distinct(names: Sequence[Hashable]) -> None:
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise StudyError(
            f"the names {', '.join(twice)} come more than once among {len(names)}. Expected every seed, budget and patient "
            "once. Average what was run twice, or name it apart."
        )


def _shared(one: Sequence[Hashable], other: Sequence[Hashable]) -> list[Hashable]:
    kept = set(other)
    return [name for name in one if name in kept]


def _taken(scores: Scores, kept: Sequence[Sequence[Hashable]]) -> Array:
    places = [[names.index(name) for name in some] for names, some in zip(scores.axes, kept, strict=True)]
    return scores.values[np.ix_(*places)]
