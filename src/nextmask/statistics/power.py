"""What a planned number of seeds can show, said before it is run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import stats
from scipy.optimize import brentq

from nextmask.errors import StudyError
from nextmask.statistics.paired import Array

POINTS = 20_000
MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Plan:
    """What so many seeds can show; effects are in SDs of the paired difference of two strategies on the same seed.

    ``found`` is the share of studies that find a difference of ``effect``; ``smallest`` the effect that a share of
    ``power`` finds, infinite for one seed, and ``smallest_dice`` the same in Dice where the SD is known; ``needed`` the
    seeds that find ``effect`` in a share of ``power``, None if no reasonable number does.
    """

    seeds: int
    comparisons: int
    alpha: float
    power: float
    effect: float
    found: float
    smallest: float
    smallest_dice: float | None
    needed: int | None

    @property
    def sentence(self) -> str:
        """Say it in words, for the report."""
        seeds = "1 seed" if self.seeds == 1 else f"{self.seeds} seeds"
        several = f"paired t-tests with Holm's correction for {self.comparisons} comparisons"
        test = "a paired t-test" if self.comparisons == 1 else several
        return (
            f"With {seeds} and {test}, a true difference between two strategies of {self.effect:g} SD (of what they differ "
            f"by from seed to seed) is found in {_share(self.found)} studies; {self._smallest()}{self._needed()}"
        )

    def _smallest(self) -> str:
        if math.isinf(self.smallest):
            return "no difference, however large, can be shown"
        dice = "" if self.smallest_dice is None else f" ({self.smallest_dice:.3f} Dice)"
        return f"the smallest that is found in {_share(self.power)} studies is {self.smallest:.1f} SD{dice}"

    def _needed(self) -> str:
        if self.found >= self.power:
            return "."
        if self.needed is None:
            return f". More than {MOST_SEEDS} seeds would be needed to find {self.effect:g} SD."
        return f". {self.needed} seeds would be needed to find {self.effect:g} SD."


def plan(
    seeds: int,
    comparisons: int,
    *,
    effect: float = 2.0,
    sd: float | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Plan:
    """Say what ``seeds`` seeds can show in ``comparisons`` paired comparisons.

    ``sd`` is the SD of the paired difference in Dice: of two strategies on the same seed. Where only the SD of one
    strategy from seed to seed is known, sqrt(2) times that is what it comes to if seeds have nothing in common.
    """
    smallest = smallest_effect(seeds, comparisons, alpha=alpha, power=power)
    return Plan(
        seeds=seeds,
        comparisons=comparisons,
        alpha=alpha,
        power=power,
        effect=effect,
        found=power_of_paired_test(effect, seeds, comparisons, alpha=alpha),
        smallest=smallest,
        smallest_dice=None if sd is None else smallest * sd,
        needed=seeds_needed(effect, comparisons, alpha=alpha, power=power),
    )


def count_comparisons(strategies: int, *, budgets: int = 1, with_one: bool = False) -> int:
    """Count the comparisons of all pairs of strategies, or of all ``with_one`` of them, at every budget.

    >>> count_comparisons(9, budgets=5), count_comparisons(9, with_one=True)
    (180, 8)
    """
    return budgets * (strategies - 1 if with_one else strategies * (strategies - 1) // 2)


def power_of_paired_test(effect: float, seeds: int, comparisons: int = 1, *, alpha: float = 0.05) -> float:
    """Return the share of studies in which a two-sided paired t-test over seeds finds an effect, 0 to 1.

    ``effect`` is the true mean difference over its SD from seed to seed. With several ``comparisons``, at ``alpha`` /
    ``comparisons``: Holm's first threshold, which the first difference of a study has to pass. Holm grants later ones a
    little more; without any correction, that is with 1 comparison, it would be the upper bound. One seed finds nothing.
    """
    _check(seeds, comparisons, alpha)
    if seeds < 2:
        return 0.0
    # Averaged over the SDs that so few seeds may show, instead of scipy's noncentral t, which is NaN far out.
    needed = stats.t.isf(alpha / comparisons / 2, seeds - 1) * _spreads(seeds - 1)
    shift = effect * math.sqrt(seeds)
    return float(np.mean(stats.norm.sf(needed - shift) + stats.norm.cdf(-needed - shift)))


def smallest_effect(seeds: int, comparisons: int = 1, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """Return the effect, in SDs of the paired difference, that a share of ``power`` of studies finds; inf for one seed."""
    _check(seeds, comparisons, alpha)
    if not alpha < power < 1:
        raise StudyError(f"power is {power}. Expected a share above alpha, {alpha}, and below 1. Take 0.8.")
    if seeds < 2:
        return math.inf
    upper = 1.0
    while power_of_paired_test(upper, seeds, comparisons, alpha=alpha) < power:
        upper *= 2
    return float(
        brentq(lambda effect: power_of_paired_test(effect, seeds, comparisons, alpha=alpha) - power, 0.0, upper)
    )


def seeds_needed(effect: float, comparisons: int = 1, *, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Return the fewest seeds that find ``effect`` in a share of ``power`` of studies; None if 10,000 do not."""
    low, high = 1, 2
    while power_of_paired_test(effect, high, comparisons, alpha=alpha) < power:
        low, high = high, 2 * high
        if high > MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = power_of_paired_test(effect, middle, comparisons, alpha=alpha) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


@cache
def _spreads(freedom: int) -> Array:
    """Return SDs that a sample of ``freedom`` + 1 may show where the truth is 1, all equally likely."""
    shares = (np.arange(POINTS) + 0.5) / POINTS
    spreads = np.sqrt(stats.chi2.ppf(shares, freedom) / freedom)
    spreads.setflags(write=False)
    return spreads


def _share(share: float) -> str:
    return f"{100 * share:.2g} % of" if share < 0.995 else "nearly all"


def _check(seeds: int, comparisons: int, alpha: float) -> None:
    if seeds < 1 or comparisons < 1 or not 0 < alpha < 1:
        raise StudyError(
            f"{seeds} seeds, {comparisons} comparisons and alpha {alpha} were planned. Expected at least one seed and one "
            "comparison, and alpha between 0 and 1. Count the comparisons that the table will show."
        )
