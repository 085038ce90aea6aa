"""One image's probabilities -> a map of uncertainty -> one number.

Pure and of one image at a time: the probabilities of a whole pool do not fit in memory.
"""

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import binary_dilation
from scipy.special import entr

from nextmask.errors import SelectionError

Probabilities = Float[np.ndarray, "classes *spatial"]
Map = Float[np.ndarray, "*spatial"]
Mask = Bool[np.ndarray, "*spatial"]

REDUCTIONS = ("foreground", "whole")
"""What a map of uncertainty may be averaged over."""


def entropy(probabilities: Probabilities) -> Map:
    """Map how undecided each voxel is, 0 (certain) to 1 (all classes alike).

    Shannon entropy over all classes, divided by its largest value log(classes), so that studies with different classes
    compare. The background counts: over the foreground alone, p log p peaks at p = 0.37, so that a voxel at 0.5 would
    score less. ``probabilities`` is (classes, *spatial), taken as it is: float16 rounding is no reason for a softmax.
    """
    total = np.zeros(probabilities.shape[1:], dtype=np.float32)
    for of_class in probabilities:
        total += entr(np.maximum(of_class, 0, dtype=np.float32))
    return np.clip(total / np.log(max(len(probabilities), 2)), 0, 1)


def mean_over(values: Map, mask: Mask | None = None) -> float:
    """Average a map over the voxels of a mask, or over all of them.

    A mean, never a sum: a sum rewards a large field of view. Raises SelectionError where the mask is empty.
    """
    if mask is not None and not mask.any():
        raise SelectionError(
            "The mask to average over is empty. Expected one voxel or more. Average over the whole image."
        )
    return float(np.mean(values, where=True if mask is None else mask, dtype=np.float64))


def predicted_foreground(probabilities: Probabilities, margin: int = 3) -> Mask:
    """Mark the voxels predicted to be foreground, grown by ``margin`` voxels in the plane (y, x).

    Not across slices: those are often ten times as thick as a pixel is wide.
    """
    foreground = np.argmax(probabilities, axis=0) > 0
    if not margin or not foreground.any():
        return foreground
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
    return binary_dilation(foreground, cross.reshape((1,) * (foreground.ndim - 2) + (3, 3)), iterations=margin)


def image_uncertainty(probabilities: Probabilities, reduction: str = "foreground", margin: int = 3) -> float:
    """Score one image: its mean entropy, 0 to 1; higher is less sure.

    "foreground": over the predicted foreground and ``margin`` voxels around it, where the errors are; over the whole
    image where no foreground is predicted. "whole": over the whole image.

    The mean over a whole image depends on how much easy background the field of view holds. So an image whose organ was
    missed altogether scores low, and nothing in the probabilities can tell it from an image without the organ.
    """
    if reduction not in REDUCTIONS:
        raise SelectionError(
            f"reduction is {reduction!r}. Expected one of {', '.join(REDUCTIONS)}. Leave it out for 'foreground'."
        )
    values = entropy(probabilities)
    if reduction == "whole":
        return mean_over(values)
    foreground = predicted_foreground(probabilities, margin)
    return mean_over(values, foreground if foreground.any() else None)
