"""What there was to draw in a mask: slices, structures, length of outlines. What annotating costs is reckoned from it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from nextmask.data.pool import IGNORE

EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Work:
    """What a reader goes through, slice by slice: ``structures`` are connected in their slice, outlines in voxel edges."""

    slices: int
    structures: int
    boundary: int

    def __add__(self, other: Work) -> Work:
        return Work(self.slices + other.slices, self.structures + other.structures, self.boundary + other.boundary)


def work_of(mask: np.ndarray) -> Work:
    """Count what there was to draw in a mask, (z, y, x) or (y, x).

    An outline that two classes share counts once, the image's edge not at all, nor does what is not annotated (255).

    >>> work_of(np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]))
    Work(slices=1, structures=1, boundary=6)
    """
    if mask.ndim == 3:
        return sum((work_of(each) for each in mask), start=Work(0, 0, 0))
    labels = np.unique(mask[(mask != IGNORE) & (mask != 0)])
    structures = sum(ndimage.label(mask == label, EIGHT)[1] for label in labels)
    return Work(1, structures, _edges(mask, np.ones(mask.shape, bool)))


def work_of_correction(before: np.ndarray, after: np.ndarray) -> Work:
    """Count what there was to mend in a mask that somebody, or a segmenter, had drawn before; both of one shape.

    Every slice is looked at. Each connected place that was changed counts as a structure, and of the new outlines only
    what lies on such a place counts. So a mask that was right costs a look, and one that was all wrong as much as drawing.
    """
    if after.ndim == 3:
        pairs = zip(before, after, strict=True)
        return sum((work_of_correction(*pair) for pair in pairs), start=Work(0, 0, 0))
    changed = (before != after) & (after != IGNORE)
    return Work(1, ndimage.label(changed, EIGHT)[1], _edges(after, changed))


def _edges(mask: np.ndarray, where: np.ndarray) -> int:
    """Count the edges between voxels of different classes, of which at least one voxel is in ``where``."""
    found = 0
    for axis in (0, 1):
        one, other = (np.take(mask, np.arange(start, mask.shape[axis] - 1 + start), axis) for start in (0, 1))
        near = [np.take(where, np.arange(start, mask.shape[axis] - 1 + start), axis) for start in (0, 1)]
        drawn = (one != other) & (one != IGNORE) & (other != IGNORE)
        found += int(np.count_nonzero(drawn & (near[0] | near[1])))
    return found
