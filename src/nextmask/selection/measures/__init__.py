"""One image's probabilities -> maps of uncertainty -> numbers, and the boxes in which a map is highest.

Pure and of one image at a time: the probabilities of a whole pool do not fit in memory.
"""

from nextmask.selection.measures.classes import class_maps, class_share, class_uncertainty, foreground_share, residual
from nextmask.selection.measures.contour import contour_variance, contour_variance_map
from nextmask.selection.measures.dense import (
    DENSE,
    DenseMeasures,
    dense_measures,
    entropy,
    expected_entropy,
    least_confidence,
    margin,
    mutual_information,
    variance,
    variance_ratio,
)
from nextmask.selection.measures.distance import distance_within, grown, signed_distance
from nextmask.selection.measures.patches import best_patches, box_means
from nextmask.selection.measures.reductions import (
    REDUCTIONS,
    image_uncertainty,
    mean_over,
    means_in_boxes,
    means_of_classes,
    predicted_foreground,
    region,
)
from nextmask.selection.measures.scores import sample_scores
from nextmask.selection.measures.selective import selective_scores

__all__ = [
    "DENSE",
    "REDUCTIONS",
    "DenseMeasures",
    "best_patches",
    "box_means",
    "class_maps",
    "class_share",
    "class_uncertainty",
    "contour_variance",
    "contour_variance_map",
    "dense_measures",
    "distance_within",
    "entropy",
    "expected_entropy",
    "foreground_share",
    "grown",
    "image_uncertainty",
    "least_confidence",
    "margin",
    "mean_over",
    "means_in_boxes",
    "means_of_classes",
    "mutual_information",
    "predicted_foreground",
    "region",
    "residual",
    "sample_scores",
    "selective_scores",
    "signed_distance",
    "variance",
    "variance_ratio",
]
