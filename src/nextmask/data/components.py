"""Connected components: a structure that is one piece has one, whatever else a segmenter takes for it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import ndimage


def keep_largest(mask: np.ndarray, labels: Iterable[int]) -> np.ndarray:
    """Return a mask (z, y, x) or (y, x) in which each of ``labels`` is its largest connected component; the rest is 0.

    Voxels are connected across faces, edges and corners. Of components of one size the first in memory order stays. What
    stands in the place of a dropped piece is not asked again, as nnU-Net has it too.
    """
    kept = mask.copy()
    boxes = ndimage.find_objects(mask)
    for label in labels:
        box = boxes[label - 1] if label <= len(boxes) else None
        if box is not None:  # in its box alone: most of an image is not of the structure
            here = mask[box] == label
            kept[box][here & ~_largest(here)] = 0
    return kept


def _largest(structure: np.ndarray) -> np.ndarray:
    pieces, count = ndimage.label(structure, np.ones((3,) * structure.ndim))
    return structure if count == 1 else pieces == 1 + np.bincount(pieces.ravel())[1:].argmax()
