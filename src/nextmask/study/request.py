"""What is asked of a query: which strategy, how much, and within which limits."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from nextmask.errors import StudyError
from nextmask.selection import STRATEGIES, limited, select, select_within
from nextmask.selection.types import Query, Strategy


@dataclass(frozen=True)
class Request:
    """One query as it was asked for: ``n`` samples, or as many as ``minutes`` of annotation allow.

    ``limits`` are those of `limited`: per_patient, per_volume, spacing. ``options`` are the strategy's own. ``apart``
    keeps boxes that overlap from being asked for both; it follows from the study and is not recorded.
    """

    strategy: str
    n: int | None = None
    minutes: float | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    apart: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return plain types, without what was not asked for."""
        asked = {"minutes": self.minutes, "limits": dict(self.limits)}
        return {
            "strategy": self.strategy,
            "n": self.n,
            "options": dict(self.options),
            **{name: value for name, value in asked.items() if value},
        }

    def is_that_of(self, details: Mapping[str, Any]) -> bool:
        """Say whether the details of a round record this request."""
        recorded = {name: details.get(name) for name in ("strategy", "n", "options", "minutes", "limits")}
        return {name: value for name, value in recorded.items() if value} == {
            name: value for name, value in self.to_json().items() if value
        }


def find_strategy(strategy: str | Strategy) -> tuple[Strategy, str]:
    """Find a strategy and the name that the ledger knows it by."""
    if not isinstance(strategy, str):
        return strategy, getattr(strategy, "__name__", str(strategy))
    if strategy not in STRATEGIES:
        near = difflib.get_close_matches(strategy, STRATEGIES, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "Choose one of them."
        raise StudyError(f"there is no strategy {strategy!r}. Expected one of {', '.join(STRATEGIES)}. {hint}")
    return STRATEGIES[strategy], strategy


def check_amount(n: int | None, minutes: float | None) -> None:
    """Raise StudyError unless exactly one of samples and minutes says how much is asked for."""
    if (n is None) == (minutes is None):
        raise StudyError(
            f"n is {n} and minutes is {minutes}. Expected one of the two. Give how many samples to ask for, or how many "
            "minutes of annotation they may cost."
        )
    if minutes is not None and not (math.isfinite(minutes) and minutes > 0):
        raise StudyError(f"minutes is {minutes}. Expected more than 0. Give the time that the annotator has.")


def answer(
    request: Request,
    strategy: Strategy,
    evidence: Mapping[str, Callable[[], np.ndarray]],
    labeled: np.ndarray,
    rng: np.random.Generator,
) -> Query:
    """Ask the strategy, within the limits of the request."""
    asked = partial(strategy, **request.options) if request.options else strategy
    if request.limits or request.apart:
        asked = limited(asked, **request.limits)
    if request.minutes is not None:
        return select_within(asked, evidence, labeled, request.minutes, rng=rng)
    assert request.n is not None
    return select(asked, evidence, labeled, request.n, rng=rng)


def with_class_names(query: Query, classes: Sequence[str]) -> Query:
    """Call classes by their names in the reasons of a query; strategies know only their numbers."""

    def named(match: re.Match[str]) -> str:
        return f"class {classes[int(match[1]) - 1]}"

    return Query(query.rows, tuple(re.sub(r"\bclass (\d+)", named, why) for why in query.reasons), query.numbers)


def recorded(query: Query) -> dict[str, Any]:
    """Put the reasons of a query into plain types for the ledger; a number that is not defined is null."""
    if not query.reasons:
        return {}
    return {
        "reasons": list(query.reasons),
        "numbers": {name: [_plain(value) for value in values.tolist()] for name, values in query.numbers.items()},
    }


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
