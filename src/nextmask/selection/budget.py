"""A budget in minutes of annotation instead of in samples."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from nextmask.errors import SelectionError
from nextmask.selection.limits import limited
from nextmask.selection.select import checked_labeled, computed, needs, parameters_of
from nextmask.selection.types import Cost, Labeled, Query, Rows, Strategy
from nextmask.selection.walk import walk

ROUNDING = 1e-9
"""Share of the budget that sums of minutes may be off by: ten samples of 0.1 minutes fit into one minute."""


def select_within(
    strategy: Strategy,
    evidence: Mapping[str, Callable[[], np.ndarray]],
    labeled: np.ndarray,
    minutes: float | int,
    *,
    rng: np.random.Generator,
) -> Query:
    """Ask a strategy which unlabeled samples to annotate in so many minutes.

    Like `select`, with evidence "cost" (minutes of each sample) in place of n. The strategy is asked for as many samples
    as the minutes would buy at the mean cost; its answer is gone through in its own order of preference, and what still
    fits is taken. What no longer fits leaves the pool, what was taken counts as labeled, and the strategy is asked
    again while anything fits. So the budget is never exceeded, and no unlabeled sample that the limits allow is left
    that would have fitted.

    A strategy with an option ``cost`` that is None is handed the minutes, and may then prefer what gains most a minute.

    Raises SelectionError where not even the cheapest sample fits, or a cost is not above 0.
    """
    asked, labeled = limited(strategy, no_overlap=False), checked_labeled(labeled)
    given = computed(strategy, dict.fromkeys((*needs(asked), "cost")), evidence, len(labeled))
    purse = Purse(given["cost"].astype(np.float64), float(minutes))
    _refuse_too_little(purse, labeled)
    if not _takes_minutes(asked.strategy):
        del given["cost"]
    found = walk(asked.strategy, asked.own(given), labeled, [*asked.rules(given), purse], purse.affordable, rng=rng)
    if not len(found):
        raise SelectionError(
            f"No sample of at most {minutes:g} minutes can be had within the limits. Expected one or more. "
            "Loosen the limits, or give more minutes."
        )
    return _with_minutes(found, purse.cost[found.rows])


def per_minute(gain: Float[np.ndarray, " samples *classes"], cost: Cost) -> Float[np.ndarray, " samples *classes"]:
    """Divide what samples gain by what they cost; raise SelectionError unless every cost is above 0."""
    if not (cost > 0).all():
        raise SelectionError(
            f"cost is {cost.min():g} minutes for some samples. Expected more than 0. Estimate what opening an image takes."
        )
    return (gain.T / cost.astype(np.float64)).T


@dataclass(eq=False)
class Purse:
    """The minutes that are left: a rule that forbids what no longer fits."""

    cost: Float[np.ndarray, " samples"]
    left: float

    def __post_init__(self) -> None:
        self.left *= 1 + ROUNDING

    def before(self, labeled: Labeled) -> Rows:
        return np.flatnonzero(self.cost > self.left)

    def after(self, row: int) -> Rows:
        self.left -= float(self.cost[row])
        return np.flatnonzero(self.cost > self.left)

    def affordable(self, taken: int, free: Rows) -> int:
        """Count how many of the free rows the minutes would buy at their mean cost; one or more, if there are any."""
        return min(len(free), max(1, int(self.left / self.cost[free].mean()))) if len(free) else 0


def _refuse_too_little(purse: Purse, labeled: Labeled) -> None:
    unlabeled = purse.cost[~labeled]
    if not len(unlabeled):
        raise SelectionError(
            f"All {len(labeled)} samples are labeled. Expected unlabeled ones to choose from. Add cases to the pool."
        )
    per_minute(unlabeled, unlabeled)
    if not unlabeled.min() <= purse.left < math.inf:
        raise SelectionError(
            f"The budget is {purse.left:g} minutes, and the cheapest unlabeled sample costs {unlabeled.min():g}. "
            f"Expected at least {unlabeled.min():g} minutes. Give more time, or cut cases into smaller samples."
        )


def _takes_minutes(strategy: Strategy) -> bool:
    """Say whether a strategy asks for the cost of samples, or has an option for it that was left open."""
    parameter = parameters_of(strategy).get("cost")
    return parameter is not None and (parameter.default is parameter.empty or parameter.default is None)


def _with_minutes(found: Query, minutes: Float[np.ndarray, " picks"]) -> Query:
    reasons = (f"{reason}; about {cost:.3g} min" for reason, cost in zip(found.reasons, minutes, strict=False))
    return Query(found.rows, tuple(reasons), {**found.numbers, "minutes": minutes})
