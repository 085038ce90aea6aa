"""A benchmark's figures as PNG, for slides and papers: drawn with Pillow from the geometry that the SVG is made of."""

from __future__ import annotations

import io
import math
import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Literal

from PIL import Image, ImageColor, ImageDraw, ImageFont

from nextmask.benchmark.arm_figures import BandChart, BandLine, Forest, Whisker
from nextmask.study.figures import STYLE, shorten

SCALE, SMOOTH = 2, 2
"""Pixels of the picture in a unit of the figure, and how many times finer it is drawn, for smooth edges."""
FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "arial.ttf")
"""Tried in this order; without any, the one that is part of Pillow, which knows no letters beyond English ones."""
DASHES: tuple[tuple[float, ...], ...] = ((), (8, 5), (1.5, 5))
DECIDED = {"better": "s2", "worse": "s1", "equivalent": "s0"}
"""Colours of decisions and dashes of lines, as figures.css.jinja has them."""

Point = tuple[float, float]
Align = Literal["start", "middle", "end"]


def curves_png(chart: BandChart, axis: str) -> bytes:
    """Draw learning curves over ``axis`` on white, as arm_figures.jinja does."""
    page = _Page(chart.width, chart.height)
    for y, text in chart.y_ticks:
        page.line([(chart.left, y), (chart.right, y)], "line", 1)
        page.text((chart.left - 10, y + 4.5), text, 13, "soft", "end")
    page.line([(chart.left, chart.bottom), (chart.right, chart.bottom)], "soft", 1)
    for x, text in chart.x_ticks:
        page.line([(x, chart.bottom), (x, chart.bottom + 5)], "soft", 1)
        page.text((x, chart.bottom + 21), text, 13, "soft", "middle")
    page.text(((chart.left + chart.right) / 2, chart.bottom + 43), axis, 13, "soft", "middle")
    page.text((chart.left + 8, chart.top + 16), "Dice", 13, "soft")
    for line in reversed(chart.lines):
        _curve(page, line, chart)
    return page.png()


def forest_png(figure: Forest, baseline: str) -> bytes:
    """Draw differences from ``baseline`` on white, as arm_figures.jinja does."""
    page = _Page(figure.width, figure.height)
    low, high = figure.margin
    page.area([(low, 0), (high, 0), (high, figure.bottom), (low, figure.bottom)], "panel", 1.0)
    for x, text in figure.x_ticks:
        page.line([(x, 0), (x, figure.bottom)], "soft" if x == figure.zero else "line", 1)
        page.text((x, figure.bottom + 18), text, 13, "soft", "middle")
    middle = (figure.left + figure.right) / 2
    page.text((middle, figure.bottom + 40), f"Dice ahead of {shorten(baseline, 40)}", 13, "soft", "middle")
    for row in figure.rows:
        _whisker(page, row, figure)
    return page.png()


def _curve(page: _Page, line: BandLine, chart: BandChart) -> None:
    color, (x, y) = f"s{line.style}", line.points[-1]
    if line.band:
        page.area(line.band, color, 0.04 if len(chart.lines) > 6 else 0.13)
    for dash in _dashed(line.points, DASHES[line.dash]):
        page.line(dash, color, 2.6)
    for point in line.points:
        page.dot(point, color, 4)
    page.line([(x + 7, y), (chart.right + 6, y), (chart.right + 18, line.label_y)], "soft", 0.8)
    page.dot((chart.right + 23, line.label_y), color, 5)
    page.text((chart.right + 33, line.label_y + 4.5), f"{line.last:.3f}  {line.label}", 13.5, "ink")


def _whisker(page: _Page, row: Whisker, figure: Forest) -> None:
    color = DECIDED.get(row.decision, "soft")
    page.text((0, row.y + 4.5), row.label, 13.5, "ink")
    if row.ends:
        page.line([(row.ends[0], row.y), (row.ends[1], row.y)], color, 2.4)
    page.dot((row.dot, row.y), color, 5)
    page.text((figure.right + 22, row.y + 4.5), row.text, 13, "soft")


class _Page:
    """A white picture, drawn upon in the figure's units."""

    def __init__(self, width: int, height: int) -> None:
        self.fine = SCALE * SMOOTH
        self.image = Image.new("RGB", (width * self.fine, height * self.fine), _colors()["page"])
        self.draw = ImageDraw.Draw(self.image)

    def line(self, points: Sequence[Point], color: str, width: float) -> None:
        self.draw.line(self._fine(points), _colors()[color], max(1, round(width * self.fine)), joint="curve")

    def dot(self, at: Point, color: str, radius: float) -> None:
        (center,) = self._fine([at])
        edge = round(1.5 * self.fine)
        self.draw.circle(center, radius * self.fine + edge / 2, _colors()[color], _colors()["page"], edge)

    def area(self, points: Sequence[Point], color: str, opacity: float) -> None:
        cover = Image.new("L", self.image.size)
        ImageDraw.Draw(cover).polygon(self._fine(points), round(255 * opacity))
        self.image.paste(ImageColor.getrgb(_colors()[color]), (0, 0), cover)

    def text(self, at: Point, text: str, size: float, color: str, align: Align = "start") -> None:
        (place,) = self._fine([at])
        font, every = _font(round(size * self.fine))
        anchor = {"start": "ls", "middle": "ms", "end": "rs"}[align]
        self.draw.text(place, text if every else plain(text), _colors()[color], font, anchor)

    def png(self) -> bytes:
        file = io.BytesIO()
        self.image.reduce(SMOOTH).save(file, "PNG", optimize=True)
        return file.getvalue()

    def _fine(self, points: Sequence[Point]) -> list[Point]:
        return [(x * self.fine, y * self.fine) for x, y in points]


def plain(text: str) -> str:
    """Write a text with the letters that every font has.

    >>> plain("−0.031, sélection…, 肝")
    '-0.031, selection..., ?'
    """
    bare = unicodedata.normalize("NFKD", text.replace("−", "-"))
    return "".join(letter for letter in bare if not unicodedata.combining(letter)).encode("ascii", "replace").decode()


@cache
def _font(size: int) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, bool]:
    """Return a font, and whether it has more letters than English ones."""
    for name in FONTS:
        try:
            return ImageFont.truetype(name, size), True
        except OSError:
            continue
    return ImageFont.load_default(size), False


@cache
def _colors() -> dict[str, str]:
    """Read the colours of the light theme off the style sheet of the SVG."""
    style = STYLE.read_text(encoding="utf-8")
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", style.partition("@media")[0]))


def _dashed(points: Sequence[Point], dashes: Sequence[float]) -> Iterator[Sequence[Point]]:
    """Cut a line into its dashes, which go on round corners; without a pattern it is one."""
    if not dashes or len(points) < 2:
        yield points
        return
    drawn, gap = dashes
    done = 0.0
    for (x, y), (to_x, to_y) in pairwise(points):
        length = math.hypot(to_x - x, to_y - y)
        start = done - done % (drawn + gap)
        while start < done + length:
            low, high = max(start, done) - done, min(start + drawn, done + length) - done
            if high > low:
                yield [(x + (to_x - x) * at / length, y + (to_y - y) * at / length) for at in (low, high)]
            start += drawn + gap
        done += length
