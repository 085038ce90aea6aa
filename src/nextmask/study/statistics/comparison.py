"""Which strategies can be told apart, in a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from nextmask.errors import StudyError
from nextmask.study.statistics.bootstrap import DRAWS, Difference, Interval, interval_of_difference, interval_of_mean
from nextmask.study.statistics.paired import Scores, holm, pair

Decision = Literal["better", "worse", "equivalent", "undecided"]


@dataclass(frozen=True)
class Row:
    """One strategy in the table; ``difference``, ``p`` and ``decision`` are None for the reference itself.

    ``p`` is adjusted by Holm over the comparisons with the reference. ``letters``: two strategies that share one cannot be
    told apart. ``seeds`` are the strategy's own, ``paired`` those that the reference has too.
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

    reference: str
    margin: float
    confidence: float
    rows: tuple[Row, ...]
    told_apart: tuple[tuple[str, str], ...]


def compare(
    scores: Mapping[str, Scores],
    reference: str,
    *,
    rng: np.random.Generator,
    margin: float = 0.01,
    confidence: float = 0.95,
    draws: int = DRAWS,
) -> Comparison:
    """Compare strategies with a reference and with one another.

    Args:
        scores: by strategy: (seeds, patients), for example the area under each patient's curve, or the Dice at the last
            budget; or (seeds,), which leaves the luck of the test patients out. Budgets of one curve are not repetitions of
            anything: make one number of them first.
        reference: the strategy that the others are measured by.
        rng: of the bootstrap.
        margin: the largest difference that would not matter in practice; half the width of the region of practical
            equivalence.
        confidence: of all intervals; the tests' level is 1 - confidence.
        draws: of the bootstrap; p is at least 2 / (draws + 1), so that many comparisons want many.

    Raises:
        StudyError: a reference that is not there, or a strategy that shares no seed or patient with another.
    """
    _check(scores, reference, margin)
    means = {
        name: interval_of_mean(s.values, rng=rng, confidence=confidence, draws=draws) for name, s in scores.items()
    }
    names = sorted(scores, key=lambda name: -means[name].estimate)
    pairs = {
        (one, other): _difference(scores, one, other, rng, confidence, draws) for one, other in combinations(names, 2)
    }
    p_of_pairs = dict(zip(pairs, holm([found.p for found in pairs.values()]), strict=True))
    apart = [_ordered(names, pairs[names]) for names, p in p_of_pairs.items() if p <= 1 - confidence]
    letters = dict(zip(names, letters_of(names, apart), strict=True))
    others = {name: _against(pairs, name, reference) for name in names if name != reference}
    adjusted = dict(zip(others, holm([found.p for found in others.values()]), strict=True))
    rows = [
        Row(
            strategy=name,
            seeds=len(scores[name].seeds),
            paired=len(set(scores[name].seeds) & set(scores[reference].seeds)),
            mean=means[name],
            difference=others.get(name),
            p=None if name == reference else float(adjusted[name]),
            decision=None if name == reference else decide(others[name].interval, float(adjusted[name]), margin),
            letters=letters[name],
        )
        for name in names
    ]
    return Comparison(reference, margin, confidence, tuple(rows), tuple(apart))


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
        groups = [g for i, g in enumerate(split) if not any(g < h or (g == h and j < i) for j, h in enumerate(split))]
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


def _against(pairs: Mapping[tuple[str, str], Difference], name: str, reference: str) -> Difference:
    if (name, reference) in pairs:
        return pairs[name, reference]
    found = pairs[reference, name]
    same = found.interval
    return Difference(Interval(-same.estimate, -same.upper, -same.lower, same.confidence), found.p)


def _ordered(names: tuple[str, str], difference: Difference) -> tuple[str, str]:
    """Put the better one first: on the seeds that both have, which need not be the order of their means."""
    return names if difference.interval.estimate > 0 else (names[1], names[0])


def _check(scores: Mapping[str, Scores], reference: str, margin: float) -> None:
    if reference not in scores or len(scores) < 2:
        raise StudyError(
            f"{reference!r} is to be the reference of {', '.join(scores) or 'no strategies'}. Expected one of at least two "
            "strategies. Name one that was run, a random one by preference."
        )
    if not margin >= 0:
        raise StudyError(f"margin is {margin}. Expected 0 or more. Take the difference in score that would not matter.")
