"""Scribbles drawn from masks: what a reader marks who draws one stroke through every structure instead of its outline.

The model was fitted to the experts' scribbles of ACDC (Valvano et al., "Learning to segment from scribbles using
multi-scale adversarial attention gates", IEEE TMI 2021, https://arxiv.org/abs/2007.01152), see benchmarks/oracles.md. A
pen follows the line that lies ``depth`` of the way from a structure's edge to its middle, wandering to and fro; it stops
after so many times the structure's boundary. Around the structures it goes once, at a distance, for the background.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from nextmask.data.pool import IGNORE

EIGHT, FOUR = ndimage.generate_binary_structure(2, 2), ndimage.generate_binary_structure(2, 1)
"""Voxels of structures are connected where they touch at a corner, those of the background are not."""
STEP = 0.5
"""Voxels that the pen moves at a time."""
TURNING, CORRECTION, FLAT = 0.5, 0.4, 0.15
"""How fast the pen turns with its line, how hard it is drawn back to it, and the slope below which it goes straight on."""
TURNS = (0.0, math.pi / 4, -math.pi / 4, math.pi / 2, -math.pi / 2)
"""Turns that are tried, in this order, where the pen would leave its structure."""
WANDER, WAVE = 0.15, 12.0
"""How far the pen wanders from its line, as a share of the line's level, and over how many voxels at least."""
DEEPEST = 0.8
"""How deep a stroke may go, as a share of the deepest place: around that place it would blot."""
FULLEST = 0.2
"""Longest a stroke may be, in voxels a voxel of its structure: small structures would be filled."""
EMPTY_RADIUS = 0.3
"""Radius of the ring in a slice that shows no structure, as a share of its shorter side."""


@dataclass(frozen=True)
class ScribbleStyle:
    """How strokes are drawn. Each number is a median; where a spread is given, strokes vary log-normally by it.

    ``length`` is that of a stroke in a structure, in voxels a boundary voxel of the structure. ``depth`` is where in the
    structure, 0 at its edge and 1 in its middle. ``distance`` is that of the background's stroke from the structures, as a
    share of the root of their area; ``turns`` is how often it goes round them. ``inwards`` is how much deeper than it
    began a stroke in a structure ends.
    """

    length: float = 0.57
    length_spread: float = 0.35
    depth: float = 0.58
    depth_spread: float = 0.2
    distance: float = 0.22
    distance_spread: float = 0.4
    turns: float = 1.05
    inwards: float = 0.3


def draw_scribble(mask: np.ndarray, rng: np.random.Generator, style: ScribbleStyle | None = None) -> np.ndarray:
    """Draw a scribble from a mask, (z, y, x) slice by slice or (y, x); uint8, 255 where there is no stroke.

    Every connected structure of a slice gets one stroke of its class, of one voxel at least. The background gets one
    around each group of structures, and one somewhere in a slice without any. Strokes are one voxel wide and never leave
    what they mark. What the mask does not annotate (255) gets none.
    """
    style = style or ScribbleStyle()
    if mask.ndim == 3:
        return np.stack([draw_scribble(each, rng, style) for each in mask])
    scribble = np.full(mask.shape, IGNORE, np.uint8)
    for label in np.unique(mask[(mask != IGNORE) & (mask != 0)]):
        for box, structure in _parts(mask == label, EIGHT):
            scribble[box][_inside(structure, rng, style)] = label
    scribble[_around(mask, rng, style)] = 0
    return scribble


def _inside(structure: np.ndarray, rng: np.random.Generator, style: ScribbleStyle) -> np.ndarray:
    """Draw one stroke in a structure, (y, x) bool."""
    # Beyond the image there is nothing: a structure that it cuts has an edge there.
    depth = ndimage.distance_transform_edt(np.pad(structure, 1))[1:-1, 1:-1]
    length = _varied(style.length, style.length_spread, rng) * np.count_nonzero(depth == 1)
    length = min(length, FULLEST * np.count_nonzero(structure))
    target = min(_varied(style.depth, style.depth_spread, rng), 1) * depth.max()
    stroke, starts = np.zeros_like(structure), np.argwhere(structure)
    _follow(_Field.of(depth, structure), starts, target, length, rng, stroke, inwards=style.inwards)
    return stroke


def _around(mask: np.ndarray, rng: np.random.Generator, style: ScribbleStyle) -> np.ndarray:
    """Draw the background's strokes in a slice, (y, x) bool: around each group of structures, and in each hole of one."""
    background, stroke = mask == 0, np.zeros(mask.shape, bool)
    if background.all():
        centre, radius = rng.uniform(0.35, 0.65, 2) * mask.shape, EMPTY_RADIUS * min(mask.shape)
        field = _Field.of(np.hypot(*(np.indices(mask.shape) - centre[:, None, None])), background)
        _follow(field, np.argwhere(background), radius, style.turns * 2 * np.pi * radius, rng, stroke)
        return stroke
    away = ndimage.distance_transform_edt(background)
    distance = _varied(style.distance, style.distance_spread, rng) * np.sqrt(np.count_nonzero(~background))
    for box, part in _parts(background, FOUR):
        field = _Field.of(away[box], part)
        target = min(max(distance, 2.0), 0.6 * field.top)
        # Structures nearer to one another than twice that are a group: one line goes round them all.
        for within, line in _parts(part & (np.abs(field.level - target) <= np.sqrt(0.5)), EIGHT):
            starts = np.argwhere(line) + [each.start for each in within]
            length = style.turns * len(starts) / np.sqrt(2)  # the line is that much wider than one voxel
            _follow(field, starts, target, length, rng, stroke[box])
    return stroke


def _varied(median: float, spread: float, rng: np.random.Generator) -> float:
    return float(median * np.exp(spread * rng.standard_normal()))


def _parts(region: np.ndarray, connected: np.ndarray) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
    """Yield every connected part of a region: a box around it with a margin of one voxel, and the part in it, bool."""
    numbers, _ = ndimage.label(region, connected)
    for number, found in enumerate(ndimage.find_objects(numbers), start=1):
        box = tuple(slice(max(each.start - 1, 0), each.stop + 1) for each in found)
        yield box, numbers[box] == number


@dataclass(frozen=True, eq=False)
class _Field:
    """What the pen feels, (y, x) each: the level and its slope down and to the right, and where it may draw."""

    level: np.ndarray
    allowed: np.ndarray
    down: np.ndarray
    right: np.ndarray
    top: float

    @classmethod
    def of(cls, level: np.ndarray, allowed: np.ndarray) -> _Field:
        smooth = np.pad(ndimage.gaussian_filter(level.astype(float), 1.0), 1, mode="edge")  # one voxel has no slope
        down, right = (slope[1:-1, 1:-1] for slope in np.gradient(smooth))
        return cls(level, allowed, down, right, float(level[allowed].max()))


def _follow(
    field: _Field,
    starts: np.ndarray,
    target: float,
    length: float,
    rng: np.random.Generator,
    stroke: np.ndarray,
    *,
    inwards: float = 0.0,
) -> None:
    """Draw a stroke, into ``stroke``, along the line where the level is ``target``, ``length`` voxels long.

    It begins at one of ``starts``, (places, 2), wanders about the line, and ends ``inwards`` of the target beyond it.
    Where the pen can go no farther, the rest of the stroke is drawn from its beginning to the other side.
    """
    off = np.abs(field.level[tuple(starts.T)] - target)
    first = starts[rng.choice(np.flatnonzero(off <= max(off.min(), 0.5)))].tolist()
    stroke[tuple(first)] = True
    steps, heading = int(length / STEP), float(rng.choice([-1.0, 1.0]))
    targets = target * (1 + WANDER * _wander(steps, max(WAVE, target), rng) + inwards * np.linspace(-0.5, 1, steps))
    targets = np.minimum(targets, DEEPEST * field.top)
    done = _walk(field, first, heading, targets, stroke)
    _walk(field, first, -heading, targets[done:], stroke)


def _walk(field: _Field, first: list[int], heading: float, targets: np.ndarray, stroke: np.ndarray) -> int:
    """Move the pen step by step, mark where it was in ``stroke``, and return how many steps it could take."""
    (row, column), (y, x), (down, right) = first, map(float, first), (0.0, 0.0)
    for step, target in enumerate(targets):
        gy, gx = float(field.down[row, column]), float(field.right[row, column])
        steep = math.hypot(gy, gx)
        if steep > FLAT:
            gy, gx = gy / steep, gx / steep
            along = heading if step == 0 else math.copysign(1.0, gx * down - gy * right)
            back = CORRECTION * min(max(target - float(field.level[row, column]), -2.0), 2.0)
            down += TURNING * (along * gx + back * gy)
            right += TURNING * (-along * gy + back * gx)
        elif step == 0:  # the middle of a structure: any direction is along it
            down, right = heading, 0.0
        norm = math.hypot(down, right) or 1.0
        down, right = down / norm, right / norm
        down, right = _turned(field.allowed, (y, x), (down, right))
        there = round(y + STEP * down), round(x + STEP * right)
        if not _within(there, field.allowed):
            return step
        y, x = y + STEP * down, x + STEP * right
        stroke[there[0], column] |= field.allowed[there[0], column]  # the corner, as the experts' tool drew it
        stroke[there] = True
        row, column = there
    return len(targets)


def _turned(allowed: np.ndarray, at: tuple[float, float], heading: tuple[float, float]) -> tuple[float, float]:
    """Turn as little as is needed to stay where the pen may draw; not at all where it is boxed in, or leaves the image."""
    for angle in TURNS:
        cos, sin = math.cos(angle), math.sin(angle)
        down, right = heading[0] * cos - heading[1] * sin, heading[0] * sin + heading[1] * cos
        there = round(at[0] + STEP * down), round(at[1] + STEP * right)
        if _within(there, allowed):
            return down, right
        if angle == 0 and not _on(there, allowed):
            break
    return heading


def _on(place: tuple[int, int], image: np.ndarray) -> bool:
    return 0 <= place[0] < image.shape[0] and 0 <= place[1] < image.shape[1]


def _within(place: tuple[int, int], allowed: np.ndarray) -> bool:
    return _on(place, allowed) and bool(allowed[place])


def _wander(steps: int, wave: float, rng: np.random.Generator) -> np.ndarray:
    """Draw a smooth random walk about 0 of unit spread that turns every ``wave`` voxels or so, (steps,)."""
    if not steps:
        return np.zeros(0)
    noise = ndimage.gaussian_filter1d(rng.standard_normal(steps), wave / STEP, mode="wrap")
    # White noise filtered so has a standard deviation of 1 over this.
    return noise * math.sqrt(2 * math.sqrt(math.pi) * wave / STEP)
