"""Numbers a class, of one image's mean probabilities."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float

from nextmask.selection.measures.reductions import mean_over
from nextmask.selection.measures.running import Probabilities

Map = Float[np.ndarray, "*spatial"]
Mask = Bool[np.ndarray, "*spatial"]


def class_maps(probabilities: Probabilities, values: Map) -> Iterator[Map]:
    """Yield one map a foreground class: its probability x a map of uncertainty, p_c x H where that is the entropy.

    Source: Lüth, Traub et al., "Finally outshining the random baseline" (ClaSP PE), TMLR 2026,
    https://arxiv.org/abs/2601.13677.
    """
    for of_class in probabilities[1:]:
        yield np.multiply(of_class, values, dtype=np.float32)


def class_uncertainty(
    probabilities: Probabilities, values: Map, mask: Mask | None = None
) -> Float[np.ndarray, " foreground_classes"]:
    """Average each of `class_maps` over a mask, or over all voxels; a class that is nowhere likely scores about 0.

    Raises SelectionError where the mask is empty.
    """
    return np.array([mean_over(of_class, mask) for of_class in class_maps(probabilities, values)], dtype=np.float64)


def residual(probabilities: Probabilities) -> Float[np.ndarray, " classes"]:
    """Subtract from each class's mean probability the share of voxels that it is predicted for, -1 to 1.

    Above 0: often possible, seldom predicted. Over all classes, background included, it sums to 0.
    """
    voxels = probabilities.reshape(len(probabilities), -1)
    return voxels.mean(axis=1, dtype=np.float64) - _predicted_share(voxels)


def class_share(probabilities: Probabilities) -> Float[np.ndarray, " foreground_classes"]:
    """Tell the share of voxels that each class but background is predicted for, 0 to 1; of equal classes the first."""
    return _predicted_share(probabilities.reshape(len(probabilities), -1))[1:]


def _predicted_share(voxels: Float[np.ndarray, "classes voxels"]) -> Float[np.ndarray, " classes"]:
    return np.bincount(np.argmax(voxels, axis=0), minlength=len(voxels)) / voxels.shape[1]


def foreground_share(probabilities: Probabilities) -> float:
    """Tell the share of voxels that are likelier of some class than background, 0 to 1."""
    return float(np.mean(probabilities[1:].max(axis=0, initial=0) > probabilities[0]))
