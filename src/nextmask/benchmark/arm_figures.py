"""Geometry of a benchmark's figures: learning curves with bands, and differences from the baseline with their margin."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nextmask.benchmark.arm_numbers import BandPoint
from nextmask.statistics import Comparison
from nextmask.study.figures import (
    LABEL_GAP,
    LEFT,
    LINE_STYLES,
    TOP,
    WIDTH,
    Frame,
    round_ticks,
    shorten_apart,
    spread_labels,
)

STEPS = (0.02, 0.05, 0.1, 0.2)
ROW, NAMES, ENDS = 30, 268, 640
CURVES_END, LABEL = 612, 32
"""Where curves end, and how many letters there is room for beside them."""
Place = Callable[[float, float], tuple[float, float]]


@dataclass(frozen=True)
class BandLine:
    """One arm: its mean curve, the outline of its band (empty where no interval is known), and its label."""

    name: str
    label: str
    style: int
    dash: int
    last: float
    points: tuple[tuple[float, float], ...]
    band: tuple[tuple[float, float], ...]
    label_y: float


@dataclass(frozen=True)
class BandChart(Frame):
    """Learning curves with bands over one axis."""

    lines: tuple[BandLine, ...]
    banded: bool


@dataclass(frozen=True)
class Whisker:
    """One arm's difference from the baseline: its dot, and the ends of its interval; None where it is not known."""

    name: str
    label: str
    y: float
    dot: float
    ends: tuple[float, float] | None
    text: str
    decision: str


@dataclass(frozen=True)
class Forest:
    """Differences from the baseline; between ``margin`` they would not matter."""

    width: int
    height: int
    left: int
    right: int
    bottom: int
    zero: float
    margin: tuple[float, float]
    x_ticks: tuple[tuple[float, str], ...]
    rows: tuple[Whisker, ...]


def band_chart(bands: Mapping[str, Sequence[BandPoint]]) -> BandChart:
    """Lay out curves of Dice over what was spent (from 0), the Dice axis no longer than the bands need."""
    bottom = TOP + max(330, LABEL_GAP * len(bands))
    low, high, step = _dice_range([end for points in bands.values() for p in points for end in _ends(p)])
    most = max(point.spent for points in bands.values() for point in points)
    ticks = round_ticks(max(math.ceil(most), 1), 6)
    across = (CURVES_END - LEFT) / ticks[-1]
    down = (bottom - TOP) / (high - low)

    def place(spent: float, dice: float) -> tuple[float, float]:
        return round(LEFT + spent * across, 1), round(bottom - (dice - low) * down, 1)

    marks = [low + number * step for number in range(round((high - low) / step) + 1)]
    lines = _lines(bands, place, bottom)
    return BandChart(
        WIDTH,
        bottom + 48,
        LEFT,
        CURVES_END,
        TOP,
        bottom,
        tuple((place(tick, low)[0], f"{tick:,}") for tick in ticks),
        tuple((place(0, mark)[1], f"{mark:.2f}") for mark in marks),
        lines,
        any(line.band for line in lines),
    )


def forest(table: Comparison, texts: Mapping[str, str]) -> Forest | None:
    """Lay out the differences of all arms from the baseline, ``texts`` beside them; None where there are none."""
    found = [(row, row.difference.interval) for row in table.rows if row.difference is not None]
    if not found:
        return None
    reach = max(
        [2 * table.margin, 0.02, *(abs(i.estimate) for _, i in found)]
        + [abs(end) for _, i in found for end in (i.lower, i.upper) if math.isfinite(end)]
    )
    reach = min(reach, 1.0)
    step = next((step for step in (0.01, *STEPS, 0.5) if step * 4 >= reach), 0.5)
    count = math.ceil(reach / step - 1e-9)
    scale = (ENDS - NAMES) / (2 * count * step)

    def place(value: float) -> float:
        return round(NAMES + (min(max(value, -count * step), count * step) + count * step) * scale, 1)

    labels = shorten_apart([row.strategy for row, _ in found], 34)
    rows = tuple(
        Whisker(
            row.strategy,
            label,
            22 + ROW * number,
            place(interval.estimate),
            (place(interval.lower), place(interval.upper)) if math.isfinite(interval.upper) else None,
            texts[row.strategy],
            row.decision or "",
        )
        for number, ((row, interval), label) in enumerate(zip(found, labels, strict=True))
    )
    bottom = ROW * len(rows) + 8
    marks = [number * step for number in range(-count, count + 1)]
    ticks = tuple((place(mark), f"{mark:+.2f}".replace("-", "−") if round(mark, 3) else "0") for mark in marks)
    return Forest(
        WIDTH, bottom + 46, NAMES, ENDS, bottom, place(0), (place(-table.margin), place(table.margin)), ticks, rows
    )


def _ends(point: BandPoint) -> tuple[float, ...]:
    """Return the Dice values that a point needs room for; intervals may leave 0 to 1, or be infinite."""
    known = [end for end in (point.dice.lower, point.dice.upper) if math.isfinite(end)]
    return tuple(min(max(end, 0.0), 1.0) for end in (point.dice.estimate, *known))


def _dice_range(values: Sequence[float]) -> tuple[float, float, float]:
    """Choose round ends around the values, at least 0.1 apart, and the step between them."""
    low, high = min(values), max(values)
    step = next((step for step in STEPS if step * 6 >= high - low), 0.2)
    low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
    while high - low < 0.1 - 1e-9:
        low, high = max(low - step, 0.0), min(high + step, 1.0)
    return low, high, step


def _lines(bands: Mapping[str, Sequence[BandPoint]], place: Place, bottom: int) -> tuple[BandLine, ...]:
    curves = [[place(p.spent, p.dice.estimate) for p in points] for points in bands.values()]
    heights = spread_labels([curve[-1][1] for curve in curves], TOP, bottom)
    labels = shorten_apart(tuple(bands), LABEL)
    return tuple(
        BandLine(
            name=name,
            label=label,
            style=number % LINE_STYLES,
            dash=number // LINE_STYLES % 3,
            last=points[-1].dice.estimate,
            points=tuple(curve),
            band=_outline(points, place),
            label_y=height,
        )
        for number, ((name, points), label, curve, height) in enumerate(
            zip(bands.items(), labels, curves, heights, strict=True)
        )
    )


def _outline(points: Sequence[BandPoint], place: Place) -> tuple[tuple[float, float], ...]:
    """Walk along the upper ends of the intervals and back along the lower ones."""
    known = [p for p in points if math.isfinite(p.dice.lower) and math.isfinite(p.dice.upper)]
    upper = [place(p.spent, min(p.dice.upper, 1.0)) for p in known]
    lower = [place(p.spent, max(p.dice.lower, 0.0)) for p in known]
    return (*upper, *reversed(lower))
