"""A learning curve in one number a seed: area under it, or what it takes to reach a target."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import isotonic_regression

from nextmask.errors import StudyError
from nextmask.statistics.paired import Array, check_finite

Range = tuple[float, float]
Rule = Literal["isotonic", "first"]


def area_under_budget_curve(
    spent: ArrayLike | Sequence[ArrayLike],
    scores: ArrayLike | Sequence[ArrayLike],
    *,
    within: Range | None = None,
    log: bool = False,
) -> Array:
    """Average each seed's score over what was spent, by the trapezoid rule: 0 to 1 for Dice.

    AUBC = integral of score over spent, from low to high / (high - low); with ``log``, over the logarithm of spent. Source:
    X. Zhan et al., "A comparative survey: benchmarking for pool-based active learning", IJCAI 2021.

    Args:
        spent: (points,) for all seeds, or one array a seed: samples, foreground voxels or minutes. May not fall; may stand
            still, as foreground does where a query had none.
        scores: (seeds, points), or (seeds, points, patients); or one array a seed, (points,) or (points, patients).
        within: (low, high), the stretch to average over; cut curves are interpolated. By default what all of these curves
            cover. Curves of several strategies are comparable over one stretch only: hand `common_range` of all of them.
        log: average over the logarithm, where the first budgets weigh as much as the last doubling.

    Returns:
        (seeds,) or (seeds, patients).

    Raises:
        StudyError: lengths that differ, NaN, spent that falls, a stretch that a curve does not cover or that has no
            width, or a logarithm of 0.
    """
    curves = _curves(spent, scores)
    low, high = common_range(x for x, _ in curves) if within is None else within
    _check_range(low, high, log)
    return np.stack([_area(x, y, low, high, log) for x, y in curves])


def common_range(spent: Iterable[ArrayLike]) -> Range:
    """Return what all curves cover: the largest first and the smallest last value of ``spent``, one array a curve."""
    ends = [(float(np.min(x)), float(np.max(x))) for x in spent]
    return max(low for low, _ in ends), min(high for _, high in ends)


def spent_to_target(
    spent: ArrayLike | Sequence[ArrayLike],
    scores: ArrayLike | Sequence[ArrayLike],
    target: float,
    *,
    rule: Rule = "isotonic",
) -> Array:
    """Return what each seed had spent when it reached a score, (seeds,), interpolated; inf where it never did.

    A seed that begins at the target or above gets its first budget: it needed that or less. ``spent`` and ``scores`` are
    (points,) and (seeds, points), or one array a seed.

    ``rule`` decides for curves that fall in between. "isotonic" takes the non-falling curve nearest to the scores (least
    squares), so that one lucky round does not count as arriving. "first" takes the first crossing, as most papers do;
    it comes the earlier, the noisier the curve is. Both agree where a curve never falls. Raises StudyError as
    `area_under_budget_curve` does.
    """
    if rule not in ("isotonic", "first"):
        raise StudyError(f"rule is {rule!r}. Expected 'isotonic' or 'first'. Leave it out for 'isotonic'.")
    curves = _curves(spent, scores)
    if any(y.ndim != 1 for _, y in curves):
        raise StudyError("scores came by patient. Expected one score a seed and budget. Average over patients first.")
    rising = isotonic_regression if rule == "isotonic" else None
    return np.array([_crossing(x, rising(y).x if rising else np.maximum.accumulate(y), target) for x, y in curves])


def _curves(
    spent: ArrayLike | Sequence[ArrayLike], scores: ArrayLike | Sequence[ArrayLike]
) -> list[tuple[Array, Array]]:
    """Bring both ways of giving curves into one: (points,) and (points,) or (points, patients), a seed each."""
    values = [np.asarray(each, dtype=np.float64) for each in scores]  # type: ignore[union-attr]
    shared = np.ndim(spent[0]) == 0 if len(spent) else True  # type: ignore[arg-type, index]
    budgets = [spent] * len(values) if shared else list(spent)  # type: ignore[arg-type]
    if not values or len(budgets) != len(values):
        raise StudyError(
            f"{len(budgets)} rows of what was spent came with {len(values)} rows of scores. Expected one curve a seed, and "
            "at least one. Give what was spent once for all seeds, or once a seed."
        )
    curves = [(np.asarray(x, dtype=np.float64), y) for x, y in zip(budgets, values, strict=True)]
    for number, (x, y) in enumerate(curves):
        _check_curve(number, x, y)
    return curves


def _area(x: Array, y: Array, low: float, high: float, log: bool) -> Array:
    if low < x[0] or high > x[-1]:
        raise StudyError(
            f"a curve from {x[0]:g} to {x[-1]:g} was to be averaged from {low:g} to {high:g}. Expected a stretch that every "
            "curve covers. Take common_range of all curves."
        )
    # Every point inside is kept, those on the ends too: where spent stood still, the score of an end is not one number.
    kept = (x >= low) & (x <= high)
    inside, values = x[kept], y[kept]
    ends = [end for end in (low, high) if end not in inside]
    places = np.searchsorted(inside, ends)
    inside = np.insert(inside, places, ends)
    values = np.insert(values, places, [_interpolated(x, y, end) for end in ends], axis=0) if ends else values
    places_on_axis = np.log(inside) if log else inside
    return np.trapezoid(values, places_on_axis, axis=0) / (places_on_axis[-1] - places_on_axis[0])


def _interpolated(x: Array, y: Array, at: float) -> Array:
    after = int(np.searchsorted(x, at))
    share = (at - x[after - 1]) / (x[after] - x[after - 1])
    return y[after - 1] + share * (y[after] - y[after - 1])


def _crossing(x: Array, y: Array, target: float) -> float:
    """Return where a non-falling curve reaches a target."""
    reached = int(np.searchsorted(y, target))
    if reached == len(y):
        return math.inf
    if reached == 0:
        return float(x[0])
    share = (target - y[reached - 1]) / (y[reached] - y[reached - 1])
    return float(x[reached - 1] + share * (x[reached] - x[reached - 1]))


def _check_curve(number: int, x: Array, y: Array) -> None:
    if x.ndim != 1 or not len(x) or y.ndim not in (1, 2) or len(x) != len(y):
        raise StudyError(
            f"curve {number} has scores of shape {y.shape} for what was spent of shape {x.shape}. Expected one score a "
            "budget, at least one. Leave a budget that was skipped out of both."
        )
    check_finite(x, f"values of what curve {number} spent")
    check_finite(y, f"scores of curve {number}")
    if np.any(np.diff(x) < 0):
        raise StudyError(
            f"what curve {number} spent falls: {x.tolist()}. Expected sums that grow from round to round. Sort the rounds, "
            "and add up what each of them cost."
        )


def _check_range(low: float, high: float, log: bool) -> None:
    if not low < high:
        raise StudyError(
            f"the curves have from {low:g} to {high:g} in common. Expected a stretch of some width. Compare strategies at "
            "two budgets or more, or leave out the run that ends before another begins."
        )
    if log and low <= 0:
        raise StudyError(
            f"the curves begin at {low:g} on a logarithmic axis. Expected more than 0. Begin after the first labels with "
            "within=(low, high), or take log=False."
        )
