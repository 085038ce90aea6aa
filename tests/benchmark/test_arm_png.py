"""Figures as PNG: every mark of the geometry has its colour at its place, with any font."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageFont
from tests.benchmark.test_arm_figures import point, row

from nextmask.benchmark import arm_png
from nextmask.benchmark.arm_figures import band_chart, forest
from nextmask.benchmark.arm_png import SCALE, curves_png, forest_png, plain
from nextmask.statistics import Comparison

STYLES = ("#0072b2", "#d55e00")


def opened(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def color(picture: np.ndarray, at: tuple[float, float]) -> tuple[int, ...]:
    return tuple(picture[round(at[1] * SCALE), round(at[0] * SCALE)])


@pytest.fixture
def chart():
    return band_chart(
        {
            "one": [point(10, 0.5, 0.05), point(40, 0.7, 0.05)],
            "other − ſélection 肝": [point(10, 0.91, math.inf), point(40, 0.93, math.inf)],
        }
    )


def test_points_lines_and_labels_have_the_colour_of_their_arm(chart):
    picture = opened(curves_png(chart, "samples"))
    assert picture.shape == (chart.height * SCALE, chart.width * SCALE, 3)
    for line, style in zip(chart.lines, STYLES, strict=True):
        (x, y), (to_x, to_y) = line.points
        for place in [*line.points, ((x + to_x) / 2, (y + to_y) / 2), (chart.right + 23, line.label_y)]:
            assert color(picture, place) == ImageColor.getrgb(style)
    assert color(picture, (chart.right - 3, chart.top + 3)) == (255, 255, 255)


def test_a_band_is_a_tint_between_its_ends_and_nothing_where_there_is_none(chart):
    picture = opened(curves_png(chart, "samples"))
    (x, y), (to_x, to_y) = chart.lines[0].points
    beside = ((x + to_x) / 2, (y + to_y) / 2 + 6)
    tint = np.array(ImageColor.getrgb(STYLES[0])) * 0.13 + 255 * 0.87
    assert np.abs(np.array(color(picture, beside)) - tint).max() <= 2
    (x, y), (to_x, to_y) = chart.lines[1].points
    assert color(picture, ((x + to_x) / 2 + 40, (y + to_y) / 2 + 8)) == (255, 255, 255)


def test_a_line_of_the_second_dozen_is_dashed():
    bands = {
        f"arm {number}": [point(0, 0.513 + 0.05 * number, 0), point(40, 0.513 + 0.05 * number, 0)]
        for number in range(7)
    }
    chart = band_chart(bands)
    picture = opened(curves_png(chart, "samples"))
    for line, dashed in ((chart.lines[0], False), (chart.lines[6], True)):
        (x, y), (to_x, _) = line.points
        along = picture[round(y * SCALE), round((x + 20) * SCALE) : round((to_x - 20) * SCALE)]
        assert (along.min(axis=1) == 255).any() == dashed


def test_whiskers_and_dots_have_the_colour_of_their_decision():
    table = Comparison("random", 0.01, 0.95, (row("one", 0.05, 0.02), row("two", -0.03, math.inf)), ())
    figure = forest(table, {"one": "+0.050", "two": "−0.030"})
    picture = opened(forest_png(figure, "random"))
    soft = ImageColor.getrgb("#59626c")
    for each in figure.rows:
        assert color(picture, (each.dot, each.y)) == soft
    low, _ = figure.rows[0].ends
    assert color(picture, (low + 2, figure.rows[0].y)) == soft
    assert color(picture, (figure.margin[0] + 2, 4)) == ImageColor.getrgb("#f6f7f8")
    assert color(picture, (figure.rows[1].dot - 12, figure.rows[1].y)) == (255, 255, 255)


def test_without_any_font_of_the_system_texts_are_written_in_plain_letters(chart, monkeypatch):
    written = []
    monkeypatch.setattr(arm_png, "FONTS", ("no such font.ttf",))
    monkeypatch.setattr(arm_png, "plain", lambda text: written.append(text) or plain(text))
    arm_png._font.cache_clear()
    picture = opened(curves_png(chart, "samples"))
    arm_png._font.cache_clear()
    assert "Dice" in written
    assert picture.min() < 100
    for text in written:
        for letter in set(plain(text)) - {" "}:
            assert not _is_missing(letter), letter


def _is_missing(letter: str) -> bool:
    font = ImageFont.load_default(20)
    return bytes(font.getmask(letter)) == bytes(font.getmask("\ue000"))
