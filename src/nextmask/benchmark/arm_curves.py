"""The learning curves of a benchmark's arms, by seed and test patient, told from what came of its units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nextmask.benchmark.grid import Unit

Array = np.ndarray
Played = tuple[Unit, str, Mapping[str, Any]]
"""A unit that is done, its key, and what came of it."""

AXES: Mapping[str, str] = {
    "samples": "samples asked for",
    "foreground_voxels": "foreground voxels annotated",
    "minutes": "minutes of annotation",
}
"""What a curve is drawn over."""


@dataclass(frozen=True, eq=False)
class ArmCurves:
    """One arm on one study: what each seed had spent, and what it scored, after each round.

    ``spent[axis]`` is (seeds, points); ``dice`` (seeds, points, patients), the mean over a patient's classes and scans.
    ``samples`` names the points: how many samples had been asked for.
    """

    name: str
    strategy: str
    seeds: tuple[int, ...]
    samples: tuple[int, ...]
    patients: tuple[str, ...]
    spent: Mapping[str, Array]
    dice: Array


@dataclass(frozen=True)
class _Point:
    """One round: what was spent up to it, and the Dice of each patient; None where no class is defined."""

    spent: Mapping[str, float]
    dice: Mapping[str, float | None]


_Seeds = Mapping[int, Mapping[int, Sequence[_Point]]]
"""By seed and samples asked for: the points of all units that came there."""


def curves_of(played: Sequence[Played]) -> tuple[ArmCurves, ...]:
    """Put the units of one study together to curves, in the order of the arms.

    Units that each ask for one budget at once make one curve; an arm whose labels grow in several ways makes one for
    each. A seed is that of the queries, and what differs by the seed of the training alone is averaged; where all
    queries have the same seed, it is that of the training. A seed that lacks points that others have is left out until
    it has them. Of the patients those stay that have a score at every point of every arm.
    """
    several = len({unit.seed for unit, _, _ in played}) > 1
    names = _names([unit for unit, _, _ in played])
    groups: dict[str, dict[int, dict[int, list[_Point]]]] = {}
    for unit, _, done in played:
        seeds = groups.setdefault(names[unit.arm, unit.sizes], {})
        points = seeds.setdefault(unit.seed if several else unit.training_seed, {})
        for round in done["rounds"]:
            points.setdefault(round["samples"], []).append(_point(round))
    strategies = {names[unit.arm, unit.sizes]: unit.strategy for unit, _, _ in played}
    complete = {name: _complete(seeds) for name, seeds in groups.items()}
    patients = _patients(complete.values())
    return tuple(_curves(name, strategies[name], seeds, patients) for name, seeds in complete.items() if seeds)


def by_arm(played: Sequence[Played]) -> dict[str, list[Played]]:
    """Sort units by their arm, in the order of the arms."""
    arms: dict[str, list[Played]] = {}
    for each in played:
        arms.setdefault(each[0].arm, []).append(each)
    return arms


def largest(played: Sequence[Played]) -> list[Played]:
    """Keep those units of each arm that were to label most: those that ask for each budget at once end at several."""
    most = {arm: max(sum(unit.sizes) for unit, _, _ in of) for arm, of in by_arm(played).items()}
    return [each for each in played if sum(each[0].sizes) == most[each[0].arm]]


def count_tested(played: Sequence[Played]) -> int:
    """Count the test patients of one study."""
    return len({case["patient"] for _, _, done in played for round in done["rounds"] for case in round["cases"]})


def _names(units: Iterable[Unit]) -> dict[tuple[str, tuple[int, ...]], str]:
    """Name the curve that each unit belongs to: by its arm, and where the labels grow in several ways, by the way."""
    ways: dict[str, set[tuple[int, ...]]] = {}
    for unit in units:
        ways.setdefault(unit.arm, set()).add(unit.sizes)

    def name(arm: str, sizes: tuple[int, ...]) -> str:
        at_once = all(len(each) == 1 for each in ways[arm])
        return arm if at_once or len(ways[arm]) == 1 else f"{arm}, {'+'.join(map(str, sizes))}"

    return {(arm, sizes): name(arm, sizes) for arm, each in ways.items() for sizes in each}


def _point(round: Mapping[str, Any]) -> _Point:
    scans: dict[str, dict[str, list[float]]] = {}
    for case in round["cases"]:
        scores = scans.setdefault(case["patient"], {}).setdefault(case["case"], [])
        if case["dice"] is not None:
            scores.append(case["dice"])
    dice = {patient: _mean([float(np.mean(s)) for s in of.values() if s]) for patient, of in scans.items()}
    return _Point({axis: float(round[axis]) for axis in AXES}, dice)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _complete(seeds: _Seeds) -> _Seeds:
    """Keep the seeds that have all points of the one that has most."""
    most = max((set(points) for points in seeds.values()), key=len, default=set())
    return {seed: seeds[seed] for seed in sorted(seeds) if most and set(seeds[seed]) == most}


def _patients(arms: Iterable[_Seeds]) -> tuple[str, ...]:
    """List the patients that every point of every arm has a score of."""
    scored = [
        {patient for patient, dice in point.dice.items() if dice is not None}
        for seeds in arms
        for points in seeds.values()
        for same in points.values()
        for point in same
    ]
    return tuple(sorted(set.intersection(*scored))) if scored else ()


def _curves(name: str, strategy: str, seeds: _Seeds, patients: tuple[str, ...]) -> ArmCurves:
    samples = tuple(sorted(next(iter(seeds.values()))))
    points = [[seeds[seed][at] for at in samples] for seed in seeds]
    spent = {
        axis: np.array([[np.mean([p.spent[axis] for p in same]) for same in row] for row in points]) for axis in AXES
    }
    dice = np.array([[[_average(same, patient) for patient in patients] for same in row] for row in points])
    shape = (len(seeds), len(samples), len(patients))
    return ArmCurves(name, strategy, tuple(seeds), samples, patients, spent, dice.reshape(shape))


def _average(points: Sequence[_Point], patient: str) -> float:
    return float(np.mean([point.dice[patient] for point in points]))
