"""What a report draws: the geometry of learning curves, and pictures with their masks as PNG inside the page.

The chart is geometry only; the template draws it as SVG with the page's own fonts and colours, so that it is sharp in
print, follows the light and the dark theme, and names in any script are set and escaped as all other text is.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from nextmask.data.pool import IGNORE

STYLE = Path(__file__).with_name("figures.css.jinja")
"""Colours of figures, of light and of dark pages."""
COLORS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
"""Colours of classes 1, 2, ...: those of Okabe and Ito (2008), https://jfly.uni-koeln.de/color, that colour-blind
readers tell apart. They repeat from class 8 on."""

LINE_STYLES = 6
"""How many lines of a chart look different (the template's colours); after that they repeat with another dash."""

WIDTH, LEFT, RIGHT, TOP, LABEL_GAP = 960, 52, 664, 16, 19
"""Of every chart: its width, where the axes begin and end, and how far names stand apart at least."""


@dataclass(frozen=True)
class Curve:
    """Mean foreground Dice of one study after each round, against how many samples were labeled then.

    Curves with the same ``group`` are repetitions of one thing (a strategy with several seeds): they are drawn thin, and
    their mean thick under the group's name. Without a group a curve stands for itself.
    """

    name: str
    labeled: tuple[int, ...]
    dice: tuple[float | None, ...]
    group: str = ""


@dataclass(frozen=True)
class Line:
    """One thing in a chart: its points in the chart's coordinates, those of its repetitions, and where its name stands."""

    name: str
    label: str
    style: int
    dash: int
    last: float
    points: tuple[tuple[float, float], ...]
    repetitions: tuple[tuple[tuple[float, float], ...], ...]
    label_y: float


@dataclass(frozen=True)
class Frame:
    """Where the axes of a chart stand, in units of a ``width`` x ``height`` view box, y down; ticks are places and names."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Chart(Frame):
    """Learning curves as geometry."""

    lines: tuple[Line, ...]


def learning_curves(curves: Sequence[Curve]) -> Chart | None:
    """Lay out curves of Dice (0 to 1) against labeled samples (from 0); None where no curve has a finite point."""
    series = {name: [_finite(curve) for curve in members] for name, members in _grouped(curves).items()}
    series = {name: [points for points in members if len(points)] for name, members in series.items()}
    series = {name: members for name, members in series.items() if members}
    if not series:
        return None
    most = max(points[:, 0].max() for members in series.values() for points in members)
    bottom = TOP + max(330, LABEL_GAP * len(series))
    ticks = round_ticks(int(most))
    scale = np.array([(RIGHT - LEFT) / max(most, ticks[-1], 1), TOP - bottom])
    origin = np.array([LEFT, bottom])
    lines = _lines(series, scale, origin, bottom)
    return Chart(
        WIDTH,
        bottom + 48,
        LEFT,
        RIGHT,
        TOP,
        bottom,
        tuple((round(LEFT + tick * scale[0], 1), str(tick)) for tick in ticks),
        tuple((round(bottom + tick / 5 * scale[1], 1), f"{tick / 5:.1f}") for tick in range(6)),
        lines,
    )


def _grouped(curves: Iterable[Curve]) -> dict[str, list[Curve]]:
    groups: dict[str, list[Curve]] = {}
    for curve in curves:
        groups.setdefault(curve.group or curve.name, []).append(curve)
    return groups


def _finite(curve: Curve) -> np.ndarray:
    """Sort a curve's points by labeled samples and leave out those that were not measured: (points, 2)."""
    points = np.array(sorted(zip(curve.labeled, (np.nan if d is None else d for d in curve.dice), strict=True)), float)
    return points.reshape(-1, 2)[np.isfinite(points.reshape(-1, 2)).all(axis=1)]


def _mean(members: Sequence[np.ndarray]) -> np.ndarray:
    """Average curves over the range that all of them reach, between their own points linearly."""
    low, high = max(points[0, 0] for points in members), min(points[-1, 0] for points in members)
    at = np.unique(np.concatenate([points[:, 0] for points in members]))
    at = at[(at >= low) & (at <= high)]
    if not len(at):
        return members[0]
    return np.stack([at, np.mean([np.interp(at, *points.T) for points in members], axis=0)], axis=1)


def _lines(
    series: Mapping[str, Sequence[np.ndarray]], scale: np.ndarray, origin: np.ndarray, bottom: int
) -> tuple[Line, ...]:
    means = [_mean(members) for members in series.values()]
    heights = spread_labels([float(origin[1] + mean[-1, 1] * scale[1]) for mean in means], TOP, bottom)
    lines = []
    for row, ((name, members), mean, height) in enumerate(zip(series.items(), means, heights, strict=True)):
        runs = f", {len(members)} runs" if len(members) > 1 else ""
        shown = shorten(name, 28 - len(runs)) + runs
        repetitions = tuple(_place(points, scale, origin) for points in members) if len(members) > 1 else ()
        style, dash = row % LINE_STYLES, row // LINE_STYLES % 3
        last = float(mean[-1, 1])
        lines.append(Line(name, shown, style, dash, last, _place(mean, scale, origin), repetitions, height))
    return tuple(lines)


def _place(points: np.ndarray, scale: np.ndarray, origin: np.ndarray) -> tuple[tuple[float, float], ...]:
    return tuple((round(float(x), 1), round(float(y), 1)) for x, y in points * scale + origin)


def spread_labels(wanted: Sequence[float], top: float, bottom: float) -> list[float]:
    """Move labels apart vertically until none covers another, and none leaves the chart."""
    order = np.argsort(wanted, kind="stable")
    heights = np.array(wanted, float)[order]
    for row in range(1, len(heights)):
        heights[row] = max(heights[row], heights[row - 1] + LABEL_GAP)
    limit = bottom
    for row in range(len(heights) - 1, -1, -1):
        heights[row] = min(heights[row], limit)
        limit = heights[row] - LABEL_GAP
    placed = np.empty_like(heights)
    placed[order] = heights
    return [round(float(height), 1) for height in placed]


def round_ticks(most: int, wanted: int = 8) -> tuple[int, ...]:
    """Choose round numbers from 0 to at least ``most``."""
    step = next(
        step for power in range(12) for step in (10**power, 2 * 10**power, 5 * 10**power) if step * wanted >= most
    )
    return tuple(range(0, max(most, 1) + step, step)) if most % step else tuple(range(0, max(most, 1) + 1, step))


def shorten(name: str, length: int, tail: int | None = None) -> str:
    """Cut a name's middle, because names of one kind tend to differ at the end; ``tail`` letters of that stay.

    >>> shorten("sixteen slices by margin, seed 4", 20)
    'sixteen slice…seed 4'
    """
    tail = length // 3 if tail is None else tail
    return name if len(name) <= length else f"{name[: length - 1 - tail].rstrip()}…{name[-tail:]}"


def shorten_apart(names: Sequence[str], length: int) -> tuple[str, ...]:
    """Shorten the names of one figure so that none reads like another: settings lose their keys first, then middles go.

    >>> shorten_apart(["k_center encoder=contrastive", "k_center encoder=group_contrastive"], 22)
    ('k_center contrastive', 'k_center group…rastive')
    """
    bare = [re.sub(r"(?<= )\w+=", "", name) for name in names] if max(map(len, names), default=0) > length else names
    bare = bare if len(set(bare)) == len(set(names)) else names
    cut = [tuple(shorten(name, length, tail) for name in bare) for tail in range(length // 3, length)]
    return next((short for short in cut if len(set(short)) == len(set(names))), cut[0])


def color_of(label: int) -> str:
    """Return the colour of class ``label``, counted from 1."""
    return COLORS[(label - 1) % len(COLORS)]


def picture_png(image: np.ndarray, longest: int = 320) -> str:
    """Encode a (y, x) or (y, x, 3) image as PNG for a data URI, at most ``longest`` pixels wide and high.

    Anything but uint8 is stretched between its 0.5th and 99.5th percentile; a constant image becomes mid-grey and what is
    not finite black.
    """
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(_to_bytes(np.asarray(image))))
    if max(picture.size) > longest:
        picture.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return _encode(picture.quantize(128) if picture.mode == "RGB" else picture)


def _to_bytes(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    image = image.astype(np.float32)
    finite = np.isfinite(image)
    low, high = np.quantile(image[finite], [0.005, 0.995]) if finite.any() else (0.0, 0.0)
    if high <= low:
        return np.where(finite, 128, 0).astype(np.uint8)
    stretched = (np.where(finite, image, low) - low) / (high - low)
    return np.where(finite, np.rint(stretched.clip(0, 1) * 255), 0).astype(np.uint8)


def overlay_png(mask: np.ndarray, learned: np.ndarray | None = None, shown: int = 448) -> str:
    """Encode a mask (y, x) as a transparent PNG: classes tinted with a firm outline, to be laid over the picture.

    A scribble (mostly 255) is drawn as strokes, the background's in white; in other masks what is not annotated is striped.
    ``learned`` is what is concluded from a scribble, if anything is: an area beneath its strokes.
    """
    from PIL import Image

    strokes, area = (mask, learned) if is_scribble(mask) else (None, mask)
    fine = _refine(np.asarray(mask), shown)
    rgba = np.zeros((*fine.shape, 4), np.uint8)
    if area is not None:
        _tint(rgba, _refine(np.asarray(area), shown))
    if strokes is not None:
        rgba[fine == 0] = (255, 255, 255, 235)
        for label in classes_in(mask):
            rgba[fine == label] = (*_rgb(color_of(label)), 235)
    # A palette of all colours and their opacities: exact here, since an overlay has few, and a tenth of the size.
    return _encode(Image.fromarray(rgba).quantize(256, Image.Quantize.FASTOCTREE))


def _tint(rgba: np.ndarray, fine: np.ndarray) -> None:
    """Tint and outline the classes of a mask, and stripe what is not annotated."""
    stripes = np.add.outer(*map(np.arange, fine.shape)) // max(1, max(fine.shape) // 80) % 3 == 0
    rgba[(fine == IGNORE) & stripes] = (190, 190, 190, 150)
    for label in classes_in(fine):
        region = fine == label
        rgba[region] = (*_rgb(color_of(label)), 78)
        rgba[_outline(region)] = (*_rgb(color_of(label)), 255)


def is_scribble(mask: np.ndarray) -> bool:
    """Tell strokes from an area: more than half of a scribble is not annotated."""
    return bool(np.mean(np.asarray(mask) == IGNORE) > 0.5)


def classes_in(mask: np.ndarray) -> list[int]:
    """List the classes that a mask shows, without background and what is not annotated."""
    return [int(label) for label in np.unique(mask) if label not in (0, IGNORE)]


def _refine(mask: np.ndarray, shown: int) -> np.ndarray:
    """Repeat, or skip, pixels until the longest side is about ``shown``: outlines of small masks come out thin."""
    longest = max(mask.shape)
    if longest > shown:
        step = -(-longest // shown)
        return mask[::step, ::step]
    times = max(1, round(shown / longest))
    return mask.repeat(times, 0).repeat(times, 1)


def _outline(region: np.ndarray) -> np.ndarray:
    width = max(1, max(region.shape) // 150)
    return region & ~ndimage.binary_erosion(region, np.ones((3, 3)), iterations=width, border_value=1)


def _rgb(color: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(color[1:]))


def _encode(picture: object) -> str:
    from PIL import Image

    assert isinstance(picture, Image.Image)
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")
