"""Several predictions of one image: their mean, and mirrored or turned views of whatever predicts once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from scipy import ndimage

MIRRORED = ((), (-2,), (-1,), (-2, -1))
"""Axes along which an image is mirrored for each view: none, y, x, both."""


def mirrored_views(predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray) -> Iterator[np.ndarray]:
    """Yield four predictions of one image (channels, *spatial): as it is, and mirrored along y, x and both.

    Each is mirrored back onto the image's grid, (classes, *spatial). They stand in for the members of an ensemble where
    there is one network: what it says of an organ should not depend on how the patient lay. Made one at a time, so that no
    more than one need be in memory.
    """
    for axes in MIRRORED:
        yield np.ascontiguousarray(np.flip(predict(np.flip(image, axes)), axes))


def turned_views(
    predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray, degrees: Sequence[float]
) -> Iterator[np.ndarray]:
    """Yield predictions of one image (channels, *spatial): as it is, and turned about its centre by each of some angles.

    A volume is turned within its slices. Each prediction is turned back onto the image's grid, (classes, *spatial); around
    an image its border is repeated. Their mean is surer of an outline than any of them. Made one at a time.
    """
    yield predict(image)
    for angle in degrees:
        yield _turned(predict(_turned(image, angle)), -angle)


def _turned(array: np.ndarray, degrees: float) -> np.ndarray:
    # Linear, so that probabilities stay between 0 and 1 and add up to 1.
    return ndimage.rotate(array, degrees, axes=(-1, -2), reshape=False, order=1, mode="nearest")


def mean_of(members: Iterator[np.ndarray]) -> np.ndarray:
    """Average predictions of equal shape, of which there is at least one; three are in memory at a time.

    What a segmenter gave is never written to: it may be an array of its own.
    """
    total, count = next(members), 1
    for member in members:
        total = np.add(total, member, out=None if count == 1 else total)
        count += 1
    return total if count == 1 else np.divide(total, count, out=total)
