"""Uncertainty of the voxels that matter: the likely foreground, and the boundary between classes."""

import numpy as np
from jaxtyping import Float

from nextmask.selection.measures.dense import margin
from nextmask.selection.measures.reductions import mean_over
from nextmask.selection.measures.running import Probabilities

Map = Float[np.ndarray, "*spatial"]


def selective_scores(
    probabilities: Probabilities, values: Map, target: float = 0.1, boundary: float = 0.1
) -> Float[np.ndarray, " scores"]:
    """Average a map over the likely foreground, and over the voxels near a decision boundary: (2,), each 0 to 1.

    Source: Ma et al., "Breaking the barrier: selective uncertainty-based active learning for medical image
    segmentation", 2024, https://arxiv.org/abs/2401.16298.

    Faithful: of two classes, the mean over p >= ``target`` and the mean over abs(p - 1/2) <= ``boundary``, p the
    foreground's probability. Their thresholds are chosen by hand for each measure: 0.10 to 0.20 and 0.08 to 0.11.

    Adapted: of more classes, p is the probability of any foreground, and near a boundary is where the two likeliest
    classes, background or not, are within 2 x ``boundary`` of one another; of two classes both say the same as above.
    A score is 0 where no voxel is selected, as in their code.
    """
    of_target = 1 - probabilities[0] >= target
    of_boundary = margin(probabilities) >= np.float32(1 - 2 * boundary - 1e-6)
    return np.array([mean_over(values, mask) if mask.any() else 0.0 for mask in (of_target, of_boundary)])
