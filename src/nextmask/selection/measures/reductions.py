"""A map -> numbers. Always means: a sum rewards a large field of view."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from nextmask.errors import SelectionError
from nextmask.selection.measures.dense import Members, dense_measures
from nextmask.selection.measures.distance import Spacing, grown
from nextmask.selection.measures.running import Probabilities

Map = Float[np.ndarray, "*spatial"]
Mask = Bool[np.ndarray, "*spatial"]
Boxes = Int[np.ndarray, "boxes sides"]

REDUCTIONS = ("foreground", "whole")
"""What a map of uncertainty may be averaged over."""

RADIUS = 3.0
"""Millimetres by which predicted foreground is grown: most errors are at its rim."""


def mean_over(values: Map, mask: Mask | None = None) -> float:
    """Average a map over the voxels of a mask, or over all of them.

    Raises SelectionError where the mask is empty.
    """
    if mask is not None and not mask.any():
        raise SelectionError(
            "The mask to average over is empty. Expected one voxel or more. Average over the whole image."
        )
    return float(np.mean(values, where=True if mask is None else mask, dtype=np.float64))


def means_in_boxes(
    values: Map, boxes: Boxes | Sequence[Sequence[int]], mask: Mask | None = None
) -> tuple[Float[np.ndarray, " boxes"], Int[np.ndarray, " boxes"]]:
    """Average a map over each box, or over the part of a mask in it; and count the voxels that each mean is of.

    A box is a slice, a box or all of the image: the first voxel of every axis, then the last plus one of every axis.
    Where no voxel of the mask lies in the box the count is 0, and the mean is 0 and means nothing.
    """
    regions = [region(box) for box in np.asarray(boxes)]
    counts = [values[part].size if mask is None else int(np.count_nonzero(mask[part])) for part in regions]
    means = [
        mean_over(values[part], None if mask is None else mask[part]) if count else 0.0
        for part, count in zip(regions, counts, strict=True)
    ]
    return np.array(means, dtype=np.float64), np.array(counts, dtype=np.int64)


def means_of_classes(
    values: Map, probabilities: Probabilities, radius: float = RADIUS, spacing: Spacing = None
) -> tuple[Float[np.ndarray, " foreground_classes"], Int[np.ndarray, " foreground_classes"]]:
    """Average a map over what is predicted of each foreground class, grown by ``radius`` mm; and count the voxels.

    Where a class is not predicted at all the count is 0, and the mean is 0 and means nothing.
    """
    predicted = np.argmax(probabilities, axis=0)
    masks = (grown(predicted == label, radius, spacing) for label in range(1, len(probabilities)))
    found = [(mean_over(values, mask), int(np.count_nonzero(mask))) if mask.any() else (0.0, 0) for mask in masks]
    means, counts = zip(*found, strict=True) if found else ((), ())
    return np.array(means, dtype=np.float64), np.array(counts, dtype=np.int64)


def region(box: Sequence[int] | Int[np.ndarray, " sides"]) -> tuple[slice, ...]:
    """Turn first and last-plus-one voxels (z, y, x, z, y, x) into the slices of an array of the image."""
    first, stop = np.reshape(np.asarray(box), (2, -1)).tolist()
    return tuple(slice(a, b) for a, b in zip(first, stop, strict=True))


def predicted_foreground(probabilities: Probabilities, radius: float = RADIUS, spacing: Spacing = None) -> Mask:
    """Mark the voxels that are likelier of some class than background, and those within ``radius`` mm of them.

    Without ``spacing`` the radius is in voxels of the plane (y, x), and nothing grows across slices: those are often
    ten times as thick as a pixel is wide.
    """
    return grown(probabilities[1:].max(axis=0, initial=0) > probabilities[0], radius, spacing)


def image_uncertainty(
    members: Members,
    reduction: str = "foreground",
    radius: float = RADIUS,
    spacing: Spacing = None,
    measure: str = "entropy",
) -> float:
    """Score one image: the mean of a dense measure, 0 to 1; higher is less sure.

    "foreground": over the predicted foreground and what is within ``radius`` mm of it, where the errors are; over the
    whole image where no foreground is predicted. "whole": over the whole image.

    The mean over a whole image depends on how much easy background the field of view holds. So an image whose organ was
    missed altogether scores low, and nothing in the probabilities can tell it from an image without the organ.
    """
    if reduction not in REDUCTIONS:
        raise SelectionError(
            f"reduction is {reduction!r}. Expected one of {', '.join(REDUCTIONS)}. Leave it out for 'foreground'."
        )
    measured = dense_measures(members, (measure,))
    if reduction == "whole":
        return mean_over(measured[measure])
    foreground = predicted_foreground(measured.probabilities, radius, spacing)
    return mean_over(measured[measure], foreground if foreground.any() else None)
