"""Distances to what is predicted, in millimetres, as far as anyone asks."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import find_objects

from nextmask.errors import SelectionError
from nextmask.selection.measures.running import CHUNK

Map = Float[np.ndarray, "*spatial"]
Mask = Bool[np.ndarray, "*spatial"]
Spacing = Sequence[float] | None
"""Millimetres from voxel to voxel along each axis. None, unknown: voxels of 1 in the plane (y, x), slices far apart."""

ROUNDING = 1 + 1e-6
"""Three voxels of 0.7 mm reach 2.1 mm, whatever becomes of it in binary."""


def distance_within(mask: Mask, reach: float, spacing: Spacing = None) -> Map:
    """Map the distance to the nearest voxel of a mask, (*spatial) float32 in mm, centre to centre; at most ``reach``.

    Exact up to ``reach`` and cheap for that: a voxel looks no farther. An empty mask is ``reach`` away from all voxels.
    """
    steps = _steps(spacing, mask.ndim)
    distance = np.full(mask.shape, reach, dtype=np.float32)
    if mask.any():
        box = _surroundings(mask, reach, steps)
        squared = np.where(mask[box], np.float32(0), np.float32(np.inf))
        for axis, step in enumerate(steps):
            for part in _parts(squared, axis):
                _spread(part, axis, step, reach)
        np.minimum(np.sqrt(squared, out=squared), np.float32(reach), out=distance[box])
    return distance


def signed_distance(mask: Mask, reach: float, spacing: Spacing = None) -> Map | None:
    """Map how far each voxel is from the other side of a mask's contour, in mm: below 0 inside, cut off at ``reach``.

    None where the mask is empty: there is no contour. Where it fills the image, the contour is out of reach.
    """
    if not mask.any():
        return None
    distance = distance_within(mask, reach, spacing)
    box = _surroundings(mask, 1.0, (1.0,) * mask.ndim)  # from inside, nothing is nearer than what lies around the mask
    distance[box] -= distance_within(~mask[box], reach, spacing)
    return distance


def grown(mask: Mask, radius: float, spacing: Spacing = None) -> Mask:
    """Add to a mask every voxel whose centre is within ``radius`` mm of the centre of one of its voxels."""
    steps = _steps(spacing, mask.ndim)
    if radius < min(steps) or not mask.any():
        return mask
    # Beyond by a trifle, so that a voxel at the radius itself is told from those that are farther.
    return distance_within(mask, radius * ROUNDING**2, steps) <= radius * ROUNDING


def _spread(squared: Map, axis: int, step: float, reach: float) -> None:
    """Take along one axis, in place, the smallest of squared distance + squared way, over the ways up to ``reach``."""
    after = np.moveaxis(squared, axis, 0)
    before = after.copy()
    for voxels in range(1, min(int(reach * ROUNDING / step), len(before) - 1) + 1):
        way = np.float32((voxels * step) ** 2)
        np.minimum(after[voxels:], before[:-voxels] + way, out=after[voxels:])
        np.minimum(after[:-voxels], before[voxels:] + way, out=after[:-voxels])


def _parts(values: Map, axis: int) -> Iterator[Map]:
    """Cut a map into parts that stay in the processor's cache, and are whole along one axis."""
    if values.ndim == 1:
        yield values
        return
    other = 0 if axis else 1
    across = np.moveaxis(values, other, 0)
    rows = max(1, 2 * CHUNK * len(across) // values.size)
    for start in range(0, len(across), rows):
        yield np.moveaxis(across[start : start + rows], 0, other)


def _surroundings(mask: Mask, reach: float, steps: tuple[float, ...]) -> tuple[slice, ...]:
    """Cut out the mask and what is within reach of it; farther voxels need no look."""
    box = find_objects(mask.view(np.uint8))[0]
    margins = (int(reach * ROUNDING / step) for step in steps)
    return tuple(slice(max(0, side.start - more), side.stop + more) for side, more in zip(box, margins, strict=True))


def _steps(spacing: Spacing, axes: int) -> tuple[float, ...]:
    steps = (np.inf,) * (axes - 2) + (1.0,) * min(axes, 2) if spacing is None else tuple(map(float, spacing))
    if len(steps) != axes or not all(step > 0 for step in steps):
        raise SelectionError(
            f"spacing is {spacing} for an image of {axes} axes. Expected one number of millimetres an axis, above 0. "
            "Leave it out where it is unknown."
        )
    return steps
