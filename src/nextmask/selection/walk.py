"""Ask a strategy again and again, and keep of its answers what some rules allow."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nextmask.selection.select import checked
from nextmask.selection.types import EVIDENCE, Labeled, Query, Rows, Strategy, join

Size = Callable[[int, Rows], int]
"""(samples taken so far, rows that may still be taken) -> how many to ask for; 0 ends the walk."""


@runtime_checkable
class Rule(Protocol):
    """Says which rows may no longer be taken; made anew for every query, because it counts."""

    def before(self, labeled: Labeled) -> Rows:
        """Return the rows that may not be taken at all."""

    def after(self, row: int) -> Rows:
        """Count a row that was taken, and return the rows that may not be taken from now on."""


def walk(
    strategy: Strategy,
    given: Mapping[str, Any],
    labeled: Labeled,
    rules: Iterable[Rule],
    size: Size,
    *,
    rng: np.random.Generator,
) -> Query:
    """Go through a strategy's answer in its own order of preference, and take what no rule forbids.

    What is forbidden leaves the pool for the rest of this query; what was taken counts as labeled; so the strategy is
    asked again until ``size`` is 0. ``given`` are its evidence and its options by name.
    """
    rules, labeled, out = tuple(rules), labeled.copy(), np.zeros(len(labeled), dtype=bool)
    for rule in rules:
        out[rule.before(labeled)] = True
    out &= ~labeled
    parts: list[Query] = []
    while n := size(sum(map(len, parts)), np.flatnonzero(~labeled & ~out)):
        there = np.flatnonzero(~out)
        part = _of(there, _ask(strategy, given, labeled, there, n, rng))
        parts.append(_later(part) if parts else part)
        parts[-1] = parts[-1].take(_take(part.rows, rules, labeled, out))
    return join(parts)


def _ask(
    strategy: Strategy, given: Mapping[str, Any], labeled: Labeled, there: Rows, n: int, rng: np.random.Generator
) -> Query:
    """Ask a strategy as if the pool were the rows ``there``; the answer counts from 0 in them."""
    if len(there) < len(labeled):
        given = {name: _rows_of(name, value, there) for name, value in given.items()}
        labeled = labeled[there]
    answer = strategy(**given, labeled=labeled.copy(), n=n, rng=rng)
    return checked(strategy, answer, labeled, n)


def _rows_of(name: str, value: Any, there: Rows) -> Any:
    return value[there] if name in EVIDENCE and isinstance(value, np.ndarray) else value


def _of(there: Rows, answer: Query) -> Query:
    return Query(there[answer.rows], answer.reasons, answer.numbers)


def _later(part: Query) -> Query:
    """Say of ranks and counts that they were taken after the limits had left less of the pool."""
    return Query(part.rows, tuple(f"{reason}; of what the limits left" for reason in part.reasons), part.numbers)


def _take(rows: Rows, rules: tuple[Rule, ...], labeled: Labeled, out: Labeled) -> list[int]:
    """Take rows in turn, mark what they forbid in ``labeled`` and ``out``, and return the places of those taken."""
    places = []
    for place, row in enumerate(rows.tolist()):
        if out[row]:
            continue
        places.append(place)
        labeled[row] = True
        for rule in rules:
            forbidden = rule.after(row)
            out[forbidden[~labeled[forbidden]]] = True
    return places
