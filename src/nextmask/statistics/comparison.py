"""Which strategies can be told apart, in a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from nextmask.errors import StudyError
from nextmask.statistics.bootstrap import DRAWS, Difference, Interval, interval_of_difference, interval_of_mean
from nextmask.statistics.paired import Scores, holm, pair

Decision = Literal["better", "worse", "equivalent", "undecided"]


@dataclass(frozen=True)
class Row:
    """One strategy in the table; ``difference``, ``p`` and ``decision`` are None for the baseline itself.

    ``p`` is adjusted by Holm over the comparisons with the baseline. ``letters``: two strategies that share one cannot be
    told apart. ``seeds`` are the strategy's own, ``paired`` those that the baseline has too.
    """

    strategy: str
    seeds: int
    paired: int
    mean: Interval
    difference: Difference | None
    p: float | None
    decision: Decision | None
    letters: str


@dataclass(frozen=True)
class Comparison:
    """The table, best mean first; ``told_apart`` lists (better, worse) of all pairs, by Holm over all of them."""

    baseline: str
    margin: float
    confidence: float
    rows: tuple[Row, ...]
    told_apart: tuple[tuple[str, str], ...]


def compare(
    scores: Mapping[str, Scores],
    baseline: str,
    *,
    rng: np.random.Generator,
    margin: float = 0.01,
    confidence: float = 0.95,
    draws: int = DRAWS,
    ends: tuple[float, float] = (-math.inf, math.inf),
) -> Comparison:
    """Compare strategies with a baseline and with one another.

    Args:
        scores: by strategy: (seeds, patients), for example the area under each patient's curve, or the Dice at the last
            budget; or (seeds,), which leaves the luck of the test patients out. No budgets: those of one curve are not
            repetitions of anything.
        baseline: the strategy that the others are measured by.
        rng: of the bootstrap.
        margin: the largest difference that would not matter in practice; half the width of the region of practical
            equivalence.
        confidence: of all intervals; the tests' level is 1 - confidence.
        draws: of the bootstrap; p is at least 2 / (draws + 1), so that many comparisons want many.
        ends: the lowest and the highest score that there can be, (0, 1) for Dice; intervals of means end there.

    Raises:
        StudyError: a baseline that is not there, scores by budget, or a strategy that shares no seed or patient with another.
    """
    _check(scores, baseline, margin)
    means = {
        name: interval_of_mean(s.values, rng=rng, confidence=confidence, draws=draws).within(*ends)
        for name, s in scores.items()
    }
    names = sorted(scores, key=lambda name: -means[name].estimate)
    pairs = {both: _difference(scores, *both, rng, confidence, draws) for both in combinations(names, 2)}
    of_pairs = zip(pairs.items(), holm([found.p for found in pairs.values()]), strict=True)
    apart = tuple(_better_first(both, found) for (both, found), p in of_pairs if p <= 1 - confidence)
    letters = dict(zip(names, letters_of(names, apart), strict=True))
    against = {name: _against(pairs, name, baseline) for name in names if name != baseline}
    adjusted = dict(zip(against, holm([found.p for found in against.values()]), strict=True))
    rows = tuple(
        Row(
            strategy=name,
            seeds=len(scores[name].seeds),
            paired=len(set(scores[name].seeds) & set(scores[baseline].seeds)),
            mean=means[name],
            difference=against.get(name),
            p=float(adjusted[name]) if name in adjusted else None,
            decision=decide(against[name].interval, float(adjusted[name]), margin) if name in adjusted else None,
            letters=letters[name],
        )
        for name in names
    )
    return Comparison(baseline, margin, confidence, rows, apart)


def decide(interval: Interval, p: float, margin: float) -> Decision:
    """Say what the interval of a difference means, with a region of practical equivalence from -margin to margin.

    "better" and "worse": the whole interval lies beyond the margin, and p, adjusted for all comparisons, is no larger than
    1 - confidence. "equivalent": the whole interval lies within the margin. "undecided": all else; it is no equivalence.

    Source: J. K. Kruschke, "Rejecting or accepting parameter values in Bayesian estimation", AMPPS 1(2), 2018, with
    confidence intervals; the middle decision is D. J. Schuirmann's two one-sided tests, 1987, each at half of
    1 - confidence.
    """
    if -margin <= interval.lower and interval.upper <= margin:
        return "equivalent"
    if p <= 1 - interval.confidence:
        if interval.lower > margin:
            return "better"
        if interval.upper < -margin:
            return "worse"
    return "undecided"


def letters_of(names: Sequence[str], apart: Iterable[tuple[str, str]]) -> list[str]:
    """Give letters to strategies so that two share one if, and only if, they cannot be told apart.

    Source: H.-P. Piepho, "An algorithm for a letter-based representation of all-pairwise comparisons", Journal of
    Computational and Graphical Statistics 13(2), 2004: insert and absorb.

    >>> letters_of(["a", "b", "c"], [("a", "c")])
    ['a', 'ab', 'b']
    """
    groups = [frozenset(names)]
    for one, other in apart:
        split = [g - {name} for g in groups for name in ((one, other) if {one, other} <= g else ("",))]
        groups = [g for g in split if not any(g < h for h in split)]
    groups.sort(key=lambda group: [name not in group for name in names])
    return ["".join(_letter(i) for i, group in enumerate(groups) if name in group) for name in names]


def _letter(i: int) -> str:
    return "abcdefghijklmnopqrstuvwxyz"[i % 26] + "'" * (i // 26)


def _difference(
    scores: Mapping[str, Scores], one: str, other: str, rng: np.random.Generator, confidence: float, draws: int
) -> Difference:
    first, second = pair(scores[one], scores[other])
    if not first.size:
        raise StudyError(
            f"{one} and {other} share no seed, or no patient: {scores[one].values.shape} and {scores[other].values.shape}. "
            "Expected at least one of each. Run them with the same seeds on the same split."
        )
    return interval_of_difference(first, second, rng=rng, confidence=confidence, draws=draws)


def _against(pairs: Mapping[tuple[str, str], Difference], name: str, baseline: str) -> Difference:
    if (name, baseline) in pairs:
        return pairs[name, baseline]
    found = pairs[baseline, name]
    same = found.interval
    return Difference(Interval(-same.estimate, -same.upper, -same.lower, same.confidence), found.p)


def _better_first(both: tuple[str, str], difference: Difference) -> tuple[str, str]:
    """Put the better one first: on the seeds that both have, which need not be the order of their means."""
    return both if difference.interval.estimate > 0 else (both[1], both[0])


def _check(scores: Mapping[str, Scores], baseline: str, margin: float) -> None:
    if baseline not in scores or len(scores) < 2:
        raise StudyError(
            f"{baseline!r} is to be the baseline of {', '.join(scores) or 'no strategies'}. Expected one of at least two "
            "strategies. Name one that was run, a random one by preference."
        )
    curves = [name for name, each in scores.items() if each.budgets]
    if curves:
        raise StudyError(
            f"the scores of {', '.join(curves)} come by budget. Expected one number a seed and patient, or a seed. Take "
            "area_under_budget_curve, or the last budget."
        )
    if not margin >= 0:
        raise StudyError(f"margin is {margin}. Expected 0 or more. Take the difference in score that would not matter.")
