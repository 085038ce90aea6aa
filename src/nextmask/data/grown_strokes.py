"""What scribbles leave unsaid: of which class the strokes are that a random walk from a voxel reaches first."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from nextmask.data.pool import IGNORE

CONTRAST = 5.0
"""How much a step between unlike voxels is shunned: it weighs exp(-CONTRAST d^2), d in standard deviations of the image."""
LEAST = 1e-4
"""What the least likely step weighs besides, so that a walk leaves every voxel."""
LARGEST = 2**18
"""Voxels of a slice up to which it is walked as it is (in 2 s); a larger one in square blocks of voxels."""


def with_grown_strokes(mask: np.ndarray, image: np.ndarray, sure: Mapping[int, float]) -> np.ndarray:
    """Call a voxel what the strokes are to which voxels that look alike lead from it.

    ``mask`` is ([z, ]y, x) uint8 with 255 = not annotated, ``image`` (channels, [z, ]y, x). From each voxel that nobody
    annotated a random walk sets out within its slice; it steps to a neighbour the more readily the more that looks alike. Where it
    is ``sure`` enough (mask value -> probability, above .5) to reach strokes of a class first, the voxel is of that class. Other
    classes than those named only stop the walks. A copy is returned; what was drawn stays as it is, and so does a slice where
    only one class was drawn. Slices of more than 512 x 512 voxels are walked in blocks of voxels, which bounds time and memory.

    A walk knows no shapes: from the stroke of a thin wall it leaks into what lies behind. Name the classes that are thick.

    Grady, "Random walks for image segmentation", IEEE TPAMI 2006, https://doi.org/10.1109/TPAMI.2006.233; with a threshold, for
    training, as in Can et al. 2018, https://arxiv.org/abs/1807.04668.
    """
    planes, seen = (mask, image) if mask.ndim == 3 else (mask[None], image[:, None])
    spread = image.std(axis=tuple(range(1, image.ndim)), dtype=float).reshape(-1, 1, 1)
    grown = [_in_blocks(plane, seen[:, z] / np.maximum(spread, 1e-6), sure) for z, plane in enumerate(planes)]
    return np.stack(grown) if mask.ndim == 3 else grown[0]


def _in_blocks(plane: np.ndarray, image: np.ndarray, sure: Mapping[int, float]) -> np.ndarray:
    side = math.ceil(math.sqrt(plane.size / LARGEST))
    if side == 1:
        return _grown(plane, image, sure)
    drawn = plane != IGNORE
    low, high = _blocks(plane, side, IGNORE).min((-3, -1)), _blocks(np.where(drawn, plane, 0), side, 0).max((-3, -1))
    strokes = np.where(low == high, low, IGNORE)  # none in blocks without strokes, or with those of several classes
    grown = _grown(strokes, _blocks(image, side).mean((-3, -1)), sure)
    new = np.where(strokes == IGNORE, grown, IGNORE).repeat(side, 0).repeat(side, 1)[: len(plane), : plane.shape[1]]
    return np.where(drawn, plane, new)


def _blocks(array: np.ndarray, side: int, beyond: int | None = None) -> np.ndarray:
    """Show (..., y, x) as (..., blocks, side, blocks, side); beyond the border stands ``beyond``, or else the border again."""
    short = [(0, 0)] * (array.ndim - 2) + [(0, -n % side) for n in array.shape[-2:]]
    padded = np.pad(array, short, "edge") if beyond is None else np.pad(array, short, constant_values=beyond)
    down, right = (n // side for n in padded.shape[-2:])
    return padded.reshape(*padded.shape[:-2], down, side, right, side)


def _grown(plane: np.ndarray, image: np.ndarray, sure: Mapping[int, float]) -> np.ndarray:
    grown, open_ = plane.copy(), np.flatnonzero(plane == IGNORE)
    drawn = np.setdiff1d(plane, [IGNORE])
    if len(drawn) < 2 or not len(open_):
        return grown
    likely = _reached_first(plane, image, drawn)
    first = likely.argmax(axis=0)
    needed = np.array([sure.get(int(label), np.inf) for label in drawn])
    certain = likely.max(axis=0) >= needed[first]
    grown.ravel()[open_[certain]] = drawn[first[certain]]
    return grown


def _reached_first(plane: np.ndarray, image: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Solve for the probability that a walk from each open voxel reaches each class first, (classes, open voxels)."""
    steps, strokes = _steps(image), plane.ravel() != IGNORE
    laplacian = (sparse.diags_array(steps.sum(axis=1)) - steps).tocsr()[~strokes]
    known = plane.ravel()[strokes, None] == drawn
    solver = splu(  # symmetric and positive definite: no pivoting, and an order that keeps the factors sparse
        laplacian[:, ~strokes].tocsc(), "MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return solver.solve(-(laplacian[:, strokes] @ known.astype(float))).T


def _steps(image: np.ndarray) -> sparse.csr_array:
    """Weigh the steps between voxels that share an edge, (voxels, voxels), of an image (channels, y, x)."""
    place = np.arange(image[0].size).reshape(image.shape[1:])
    weights, here, there = [], [], []
    for axis in range(place.ndim):
        apart = np.square(np.diff(image, axis=axis + 1)).mean(axis=0)
        weights.append((np.exp(-CONTRAST * apart) + LEAST).ravel())
        here.append(np.delete(place, -1, axis).ravel())
        there.append(np.delete(place, 0, axis).ravel())
    one_way = (np.concatenate(weights), (np.concatenate(here), np.concatenate(there)))
    steps = sparse.coo_array(one_way, shape=(place.size, place.size)).tocsr()
    return (steps + steps.T).tocsr()
