"""A map of the pool: every sample as a point where its embedding lies, and what was asked for among them."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

MOST_POINTS = 3000
"""A map shows at most so many samples, and always those that were asked for."""

SIDE, MARGIN = 460, 14
"""Sides of one panel and its margin, in units of the view box."""

TURN = 0.381966
"""Share of the colour circle from one patient to the next, the golden section's: neighbours in number differ most."""

ALONG = ("#440154", "#3b528b", "#21918c", "#5ec962", "#fde725")
"""Colours from the first slice to the last: viridis, which grows lighter evenly and colour-blind readers can order."""

Method = Literal["pca", "tsne"]


@dataclass(frozen=True)
class Point:
    """One sample: where it lies, in view-box units, its colours, its name, and the round that asked for it (0: none)."""

    x: float
    y: float
    by_patient: str
    by_position: str
    name: str
    round: int


@dataclass(frozen=True)
class PoolMap:
    """The points, those asked for last, so that they lie on top; ``encoder`` and ``method`` say how they were placed.

    ``explained`` is the share of variance that two principal components show; None for t-SNE. ``positions``: samples lie
    along a slice axis, so that a second panel in those colours says something.
    """

    points: tuple[Point, ...]
    encoder: str
    method: Method
    explained: float | None
    positions: bool
    samples: int
    side: int = SIDE


def map_of_pool(
    embeddings: np.ndarray,
    names: tuple[str, ...],
    patient: np.ndarray,
    position: np.ndarray,
    asked: Mapping[int, int],
    *,
    encoder: str,
    method: Method = "pca",
) -> PoolMap | None:
    """Lay a pool out in two dimensions; ``asked`` maps rows to rounds. None for fewer than three samples."""
    if len(embeddings) < 3:
        return None
    rows = _shown(len(embeddings), asked)
    placed, explained = (_tsne if method == "tsne" else _principal)(np.asarray(embeddings, dtype=np.float64), rows)
    low, spread = placed.min(axis=0), max(float(np.ptp(placed, axis=0).max()), 1e-12)
    middle = (SIDE - (SIDE - 2 * MARGIN) * np.ptp(placed, axis=0) / spread) / 2
    x, y = (middle + (placed - low) / spread * (SIDE - 2 * MARGIN)).T
    points = [
        Point(
            round(float(a), 1), round(float(b), 1), *_colors(patient[row], position[row]), names[row], asked.get(row, 0)
        )
        for row, a, b in zip(rows.tolist(), x, y, strict=True)
    ]
    points.sort(key=lambda point: point.round)
    return PoolMap(tuple(points), encoder, method, explained, len(np.unique(position)) > 1, len(embeddings))


def _shown(samples: int, asked: Mapping[int, int]) -> np.ndarray:
    """Choose rows at even steps, and all that were asked for."""
    even = np.linspace(0, samples - 1, min(samples, MOST_POINTS)).round().astype(int)
    return np.union1d(even, np.fromiter(asked, dtype=int, count=len(asked)))


def _principal(embeddings: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, float | None]:
    centred = embeddings - embeddings.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1, 1)
    placed = centred[rows] @ axes
    if placed.shape[1] < 2:
        placed = np.column_stack([placed, np.zeros(len(placed))])
    return placed, float(values[::-1][:2].sum() / max(values.sum(), 1e-300))


def _tsne(embeddings: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Van der Maaten and Hinton, JMLR 2008, https://jmlr.org/papers/v9/vandermaaten08a.html: what is near stays near."""
    from sklearn.manifold import TSNE

    few = min(30.0, (len(rows) - 1) / 3)
    return TSNE(perplexity=few, init="pca", random_state=0).fit_transform(embeddings[rows]).astype(np.float64), None


def _colors(patient: int, position: float) -> tuple[str, str]:
    """Colour a sample by its patient's number and by its place along the slice axis."""
    hue = patient * TURN % 1
    lightness = (0.42, 0.55, 0.66)[int(patient) % 3]
    own = colorsys.hls_to_rgb(hue, lightness, 0.62)
    at = min(max(float(position), 0.0), 1.0) * (len(ALONG) - 1)
    first = min(int(at), len(ALONG) - 2)
    pair = [np.array(tuple(bytes.fromhex(color[1:]))) / 255 for color in ALONG[first : first + 2]]
    return _hex(np.array(own)), _hex(pair[0] + (pair[1] - pair[0]) * (at - first))


def _hex(color: np.ndarray) -> str:
    return "#" + "".join(f"{round(float(part) * 255):02x}" for part in color)
