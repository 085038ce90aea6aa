"""What the curves of a study's arms show: intervals, comparisons with the baseline, savings, and what cannot be said."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nextmask.benchmark.arm_curves import AXES, ArmCurves, Array
from nextmask.errors import StudyError
from nextmask.statistics import (
    Comparison,
    Interval,
    PenaltyMatrix,
    Saving,
    Scores,
    Target,
    area_under_budget_curve,
    common_range,
    compare,
    interval_of_mean,
    penalty_matrix,
    saving,
    spent_to_target,
    summarise_target,
)

DICE = (0.0, 1.0)
"""The lowest and the highest that there can be."""
BAND_DRAWS = 2000
"""Draws of the bootstrap of a band; its ends are drawn, not tested."""
SHARE_OF_BASELINE = 0.95
"""The target, if none was set: this share of the Dice that the baseline ends with."""


@dataclass(frozen=True)
class BandPoint:
    """One point of a curve: what had been spent, mean over seeds, and the mean Dice with its interval."""

    spent: float
    dice: Interval


@dataclass(frozen=True)
class Measure:
    """One number a seed and patient, compared; ``why`` says why not, where ``table`` is None."""

    name: str
    title: str
    table: Comparison | None
    why: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reaching:
    """What an arm spent until the target, and the share that it saves of what the baseline spends; None: not known."""

    arm: str
    axis: str
    target: Target | None
    saving: Saving | None


@dataclass(frozen=True, eq=False)
class Numbers:
    """All numbers of one study; ``measures[0]`` is the one that the answer rests on."""

    baseline: str
    bands: Mapping[str, Mapping[str, tuple[BandPoint, ...]]]
    measures: tuple[Measure, ...]
    penalty: PenaltyMatrix | None
    target: float | None
    target_given: bool
    reaching: tuple[Reaching, ...]
    spread: float | None


def numbers_of(
    arms: Sequence[ArmCurves], baseline: str, *, margin: float, target: float | None = None
) -> Numbers | None:
    """Compare the arms of one study; None where none has a point with a scored patient.

    Args:
        arms: their curves.
        baseline: the arm that the others are measured by; one of ``arms``.
        margin: the largest difference in Dice that would not matter.
        target: the Dice that is good enough; `SHARE_OF_BASELINE` of what the baseline ends with, if not given.
    """
    scored = [arm for arm in arms if arm.dice.size]
    own = next((arm for arm in scored if arm.name == baseline), None)
    if own is None:
        return None
    measures = tuple(_measures(scored, baseline, margin))
    goal = target if target is not None else round(SHARE_OF_BASELINE * float(own.dice[:, -1].mean()), 3)
    several = len(scored) > 1
    return Numbers(
        baseline=baseline,
        bands={axis: {arm.name: _band(arm, axis) for arm in scored} for axis in AXES},
        measures=measures,
        penalty=penalty_matrix({arm.name: _by_budget(arm) for arm in scored}) if several else None,
        target=goal,
        target_given=target is not None,
        reaching=tuple(_reaching(arm, own, axis, goal) for axis in AXES for arm in scored),
        spread=_spread(scored, own),
    )


def choose_baseline(arms: Sequence[ArmCurves], wanted: str | None) -> str | None:
    """Name the baseline: the arm or strategy that is wanted, else plain random, else any random, else the first arm."""
    tests: tuple[Callable[[ArmCurves], bool], ...] = (
        lambda arm: wanted in (arm.name, arm.strategy),
        lambda arm: arm.strategy == "random",
        lambda arm: "random" in arm.strategy,
        lambda arm: True,
    )
    return next((arm.name for test in tests for arm in arms if test(arm)), None)


def _band(arm: ArmCurves, axis: str) -> tuple[BandPoint, ...]:
    rng = np.random.default_rng(0)
    means = arm.spent[axis].mean(axis=0)
    points = enumerate(means.tolist())
    return tuple(BandPoint(x, _interval(arm.dice[:, at], rng)) for at, x in points)


def _interval(dice: Array, rng: np.random.Generator) -> Interval:
    return interval_of_mean(dice, rng=rng, draws=BAND_DRAWS).within(*DICE)


# -- comparisons -------------------------------------------------------------------------------------------------------


def _measures(arms: Sequence[ArmCurves], baseline: str, margin: float) -> list[Measure]:
    """Compare by the area under the curve over samples, at the last budget that all have, and over the other axes.

    Where the areas over samples cannot be had, as of one budget, the last budget comes first.
    """
    areas = [_compared(f"aubc_{axis}", _area_title(axis), arms, baseline, margin, _areas(arms, axis)) for axis in AXES]
    last = _last_common(arms)
    title = "Dice at the last budget" if last is None else f"Dice at {last} samples"
    at_last = _compared("last", title, arms, baseline, margin, lambda kept: _at(kept, last))
    return [areas[0], at_last, *areas[1:]] if areas[0].table else [at_last, *areas]


def _area_title(axis: str) -> str:
    return f"AUBC: mean Dice along the curve, over {AXES[axis]}"


_Values = Callable[[Sequence[ArmCurves]], Mapping[str, Array]]


def _areas(arms: Sequence[ArmCurves], axis: str) -> _Values:
    def areas(kept: Sequence[ArmCurves]) -> Mapping[str, Array]:
        within = common_range(row for arm in kept for row in arm.spent[axis])
        return {a.name: area_under_budget_curve(list(a.spent[axis]), list(a.dice), within=within) for a in kept}

    return areas


def _at(arms: Sequence[ArmCurves], samples: int | None) -> Mapping[str, Array]:
    if samples is None:
        raise StudyError("the arms have no budget in common. Expected one at least. Give them the same budgets.")
    return {arm.name: arm.dice[:, arm.samples.index(samples)] for arm in arms}


def _last_common(arms: Sequence[ArmCurves]) -> int | None:
    return max(set.intersection(*(set(arm.samples) for arm in arms)), default=None)


def _compared(
    name: str, title: str, arms: Sequence[ArmCurves], baseline: str, margin: float, values: _Values
) -> Measure:
    kept, left_out = _comparable(arms, baseline)
    try:
        of_arms = values(kept)
        scores = {arm.name: Scores(of_arms[arm.name], arm.seeds, patients=arm.patients) for arm in kept}
        table = compare(scores, baseline, rng=np.random.default_rng(0), margin=margin, ends=DICE)
    except StudyError as error:
        return Measure(name, title, None, str(error), left_out)
    return Measure(name, title, table, left_out=left_out)


def _comparable(arms: Sequence[ArmCurves], baseline: str) -> tuple[list[ArmCurves], tuple[str, ...]]:
    """Keep the baseline and the arms that share a seed with all that are kept; name the others."""
    kept: list[ArmCurves] = []
    for arm in sorted(arms, key=lambda arm: arm.name != baseline):
        if all(set(arm.seeds) & set(other.seeds) for other in kept):
            kept.append(arm)
    return kept, tuple(arm.name for arm in arms if arm not in kept)


def _by_budget(arm: ArmCurves) -> Scores:
    return Scores(arm.dice, arm.seeds, arm.samples, arm.patients)


def _spread(arms: Sequence[ArmCurves], baseline: ArmCurves) -> float | None:
    """Return the SD over seeds of what arms are ahead of the baseline, in Dice along the curve, pooled over the arms.

    None with fewer than three common seeds: two tell nothing of a spread.
    """
    variances = []
    for arm in arms:
        seeds = sorted(set(arm.seeds) & set(baseline.seeds))
        if arm is not baseline and len(seeds) >= 3 and arm.samples == baseline.samples:
            one, other = (each.dice[[each.seeds.index(s) for s in seeds]].mean(axis=(1, 2)) for each in (arm, baseline))
            variances.append(float(np.var(one - other, ddof=1)))
    return math.sqrt(float(np.mean(variances))) if variances else None


# -- savings -----------------------------------------------------------------------------------------------------------


def _reaching(arm: ArmCurves, baseline: ArmCurves, axis: str, goal: float) -> Reaching:
    try:
        spent, others = _until(arm, axis, goal), _until(baseline, axis, goal)
        target = summarise_target(spent, first=arm.spent[axis][:, 0])
    except StudyError:  # nothing was spent at the first budget, or less at a larger one
        return Reaching(arm.name, axis, None, None)
    seeds = [seed for seed in arm.seeds if seed in baseline.seeds]
    if arm is baseline or not seeds:
        return Reaching(arm.name, axis, target, None)
    own, their = ([each.seeds.index(seed) for seed in seeds] for each in (arm, baseline))
    return Reaching(
        arm.name,
        axis,
        target,
        saving(
            spent[own],
            others[their],
            last=arm.spent[axis][own, -1],
            baseline_last=baseline.spent[axis][their, -1],
        ),
    )


def _until(arm: ArmCurves, axis: str, goal: float) -> Array:
    return spent_to_target(list(arm.spent[axis]), list(arm.dice.mean(axis=2)), goal)
