"""Values that change as more of the pool is labeled; how many rounds there will be need not be known."""

import math
from collections.abc import Callable

from nextmask.errors import SelectionError

Schedule = Callable[[float | int], float]
"""Labeled share of the pool, 0 to 1 -> a value."""

Dial = float | int | Schedule
"""A value, or a schedule of one."""


def constant(value: float | int) -> Schedule:
    """Keep one value."""
    return lambda share: float(value)


def exponential(start: float | int, end: float | int, until: float | int = 1.0) -> Schedule:
    """Go from ``start`` to ``end`` by equal factors, until a share of ``until`` is labeled; then stay.

    >>> beta = exponential(1, 100, until=0.2)
    >>> [round(beta(share), 6) for share in (0, 0.1, 0.2, 0.9)]
    [1.0, 10.0, 100.0, 100.0]
    """
    _check_until(until)
    if not (0 < start < math.inf and 0 < end < math.inf):
        raise SelectionError(
            f"start is {start} and end is {end}. Expected numbers above 0, which factors can join. Take a sigmoid."
        )
    return lambda share: float(end if share >= until else start * (end / start) ** (max(share, 0.0) / until))


def sigmoid(start: float | int, end: float | int, until: float | int = 1.0, temperature: float | int = 2.0) -> Schedule:
    """Go from ``start`` to ``end`` slowly, then fast, then slowly, until a share of ``until`` is labeled; then stay.

    1 / (1 + exp(-x / ``temperature``)) for x from -6 to 6, stretched so that it starts and ends where it is said to.
    Temperature 2 is smooth, 0.5 is nearly a step.

    >>> beta = sigmoid(0, 10, until=0.5)
    >>> [round(beta(share), 6) for share in (0, 0.25, 0.5, 0.9)]
    [0.0, 5.0, 10.0, 10.0]
    """
    _check_until(until)
    if not temperature > 0:
        raise SelectionError(f"temperature is {temperature}. Expected more than 0. Take 2 (smooth) or 0.5 (sharp).")

    def at_share(share: float | int) -> float:
        # The logistic curve as a tanh, which does not overflow; divided by its value at the end, so that it gets there.
        rise = math.tanh((6.0 * max(share, 0.0) / until - 3.0) / temperature) / math.tanh(3.0 / temperature)
        return float(end if share >= until else start + (end - start) * (rise + 1.0) / 2.0)

    return at_share


def at(dial: Dial, share: float | int) -> float:
    """Read a value, or a schedule where ``share`` of the pool is labeled."""
    return float(dial(share) if callable(dial) else dial)


def _check_until(until: float | int) -> None:
    if not 0 < until <= 1:
        raise SelectionError(
            f"until is {until}. Expected a share of the pool, above 0 and at most 1. Take 0.2 for a fifth."
        )
