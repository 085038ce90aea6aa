"""Variance far from the predicted contour."""

import numpy as np

from nextmask.selection.measures.distance import Map, Mask, Spacing, signed_distance
from nextmask.selection.measures.reductions import mean_over

REACH = 10.0
"""Millimetres from the contour at which variance counts in full."""


def contour_variance_map(variance: Map, foreground: Mask, spacing: Spacing = None, reach: float = REACH) -> Map | None:
    """Weigh a map of variance by the distance to the predicted contour: 0 at the contour, 1 from ``reach`` mm on.

    Members always differ a little about where exactly a contour runs. Variance far from it says more: a part was added
    or missed. None where no foreground is predicted: there is no contour to be far from, and such samples are a group
    of their own ("no detection").

    Source: Gorriz et al., "Cost-effective active learning for melanoma segmentation", ML4H workshop at NIPS 2017,
    https://arxiv.org/abs/1711.09168.

    Faithful: variance of stochastic passes times the Euclidean distance to the contour of the prediction.

    Adapted: the distance is of the thresholded mean prediction, in mm, on both sides of the contour (the public code
    lets a probability map through, whose distances are to a point outside of the image, and covers the inside alone);
    divided by ``reach`` and cut off there (theirs: by the image's largest distance, so by its field of view).
    """
    distance = signed_distance(foreground, reach, spacing)
    return None if distance is None else weighed(variance, distance, reach)


def contour_variance(variance: Map, foreground: Mask, spacing: Spacing = None, reach: float = REACH) -> float | None:
    """Average `contour_variance_map` over all that is less than ``reach`` outside of the contour; None without one.

    A mean (theirs: a sum), over what is near enough to the prediction (theirs: the image): empty surroundings change
    nothing.
    """
    distance = signed_distance(foreground, reach, spacing)
    return None if distance is None else mean_over(weighed(variance, distance, reach), distance < reach)


def weighed(values: Map, distance: Map, reach: float) -> Map:
    """Multiply a map by the distance to the contour, as a share of ``reach``."""
    weights = np.abs(distance)
    weights *= np.float32(1 / reach)
    weights *= values
    return weights
