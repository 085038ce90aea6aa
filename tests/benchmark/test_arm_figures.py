"""Figures: every mark where its number is, and inside the figure."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nextmask.benchmark.arm_figures import band_chart, forest
from nextmask.benchmark.arm_numbers import BandPoint
from nextmask.statistics import Comparison, Difference, Interval, Row

INF = math.inf


def point(spent: float, dice: float, half: float) -> BandPoint:
    return BandPoint(spent, Interval(dice, dice - half, dice + half, 0.95))


def row(name: str, estimate: float, half: float) -> Row:
    difference = Difference(Interval(estimate, estimate - half, estimate + half, 0.95), 0.5)
    return Row(name, 5, 5, Interval(0.7, 0.6, 0.8, 0.95), difference, 0.5, "undecided", "a")


def value_at(ticks, place: float) -> float:
    """Read a number off an axis."""
    places, values = zip(*((at, float(text.replace(",", "").replace("−", "-"))) for at, text in ticks), strict=True)
    slope, start = np.polyfit(places, values, 1)
    return float(slope * place + start)


def test_curves_and_bands_lie_where_their_numbers_are():
    points = [point(10, 0.5, 0.05), point(40, 0.7, 0.02)]
    chart = band_chart({"one": points, "other": [point(5, 0.61, 0.01)]})
    line = chart.lines[0]
    for (x, y), told in zip(line.points, points, strict=True):
        assert value_at(chart.x_ticks, x) == pytest.approx(told.spent, abs=0.1)
        assert value_at(chart.y_ticks, y) == pytest.approx(told.dice.estimate, abs=0.001)
    ends = [value_at(chart.y_ticks, y) for _, y in line.band]
    assert ends == pytest.approx([0.55, 0.72, 0.68, 0.45], abs=0.001)
    assert [value_at(chart.x_ticks, x) for x, _ in line.band] == pytest.approx([10, 40, 40, 10], abs=0.1)


def test_an_interval_that_is_not_known_draws_no_band_and_one_beyond_0_to_1_is_cut():
    chart = band_chart({"one": [point(10, 0.5, INF)], "wide": [point(10, 0.9, 0.5)]})
    assert chart.lines[0].band == ()
    assert chart.banded
    places = [y for _, y in chart.lines[1].band]
    assert all(chart.top <= y <= chart.bottom for y in places)
    assert not band_chart({"one": [point(10, 0.5, INF)]}).banded


@pytest.mark.parametrize("dice", [0.0, 0.004, 0.5, 0.999, 1.0])
def test_the_dice_axis_stays_within_0_to_1_and_holds_the_curve(dice):
    chart = band_chart({"one": [point(0.2, dice, INF)]})
    values = [float(text) for _, text in chart.y_ticks]
    assert values[0] <= dice <= values[-1] + 1e-9
    assert 0 <= values[0] < values[-1] <= 1
    assert all(chart.top <= y <= chart.bottom for _, y in chart.lines[0].points)


def test_curves_that_look_alike_differ_in_their_dash():
    chart = band_chart({f"arm {number}": [point(1, 0.5, INF)] for number in range(12)})
    assert len({(line.style, line.dash) for line in chart.lines}) == 12
    heights = sorted(line.label_y for line in chart.lines)
    assert min(np.diff(heights)) >= 19 - 1e-6


ALIKE = [
    f"{strategy} encoder={encoder}"
    for strategy in ("kmeans_medoids", "expected_coverage_gain")
    for encoder in (
        "contrastive",
        "group_contrastive",
        "restoration_2x2_of_the_left_side",
        "reconstruction_2x2_of_the_left_side",
    )
]


def test_no_two_arms_are_labelled_alike():
    chart = band_chart({name: [point(1, 0.5, INF)] for name in ALIKE})
    table = Comparison("random", 0.01, 0.95, tuple(row(name, 0.03, 0.02) for name in ALIKE), ())
    found = forest(table, dict.fromkeys(ALIKE, ""))
    for labels, most in (([line.label for line in chart.lines], 32), ([line.label for line in found.rows], 34)):
        assert len(set(labels)) == len(ALIKE)
        assert max(map(len, labels)) <= most
        assert labels[:2] == ["kmeans_medoids contrastive", "kmeans_medoids group_contrastive"]
    assert [line.name for line in chart.lines] == ALIKE


def test_names_that_fit_keep_the_keys_of_their_settings():
    names = ["random start=scratch", "random start=contrastive"]
    assert [line.label for line in band_chart({name: [point(1, 0.5, INF)] for name in names}).lines] == names


def test_differences_lie_where_their_numbers_are():
    table = Comparison("random", 0.01, 0.95, (row("a", 0.03, 0.02), row("b", -0.01, INF)), ())
    found = forest(table, {"a": "told a", "b": "told b"})
    first, second = found.rows
    assert value_at(found.x_ticks, first.dot) == pytest.approx(0.03, abs=0.0005)
    assert [value_at(found.x_ticks, x) for x in first.ends] == pytest.approx([0.01, 0.05], abs=0.0005)
    assert [value_at(found.x_ticks, x) for x in found.margin] == pytest.approx([-0.01, 0.01], abs=0.0005)
    assert second.ends is None
    assert (first.text, second.text) == ("told a", "told b")


def test_huge_differences_stay_inside_and_none_draw_nothing():
    table = Comparison("random", 0.01, 0.95, (row("a", 0.9, 3.0),), ())
    found = forest(table, {"a": ""})
    assert all(found.left <= x <= found.right for x in (*found.rows[0].ends, found.rows[0].dot))
    assert forest(Comparison("random", 0.01, 0.95, (), ()), {}) is None
