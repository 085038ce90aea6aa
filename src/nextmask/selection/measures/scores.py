"""One image's members -> the numbers that strategies ask for, of each sample in it."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from nextmask.selection.measures.classes import class_share, class_uncertainty, foreground_share, residual
from nextmask.selection.measures.contour import REACH, weighed
from nextmask.selection.measures.dense import DenseMeasures, Members, dense_measures
from nextmask.selection.measures.distance import Map, Spacing, grown, signed_distance
from nextmask.selection.measures.reductions import RADIUS, mean_over, predicted_foreground, region
from nextmask.selection.measures.selective import selective_scores

Part = tuple[slice, ...]


def sample_scores(
    members: Members,
    boxes: Int[np.ndarray, "boxes sides"] | Sequence[Sequence[int]] | None = None,
    spacing: Spacing = None,
    radius: float = RADIUS,
    reach: float = REACH,
    measure: str = "entropy",
) -> Mapping[str, Float[np.ndarray, "..."]]:
    """Score the samples that one image holds, from one pass over its members: evidence by name, a row a box.

    ``boxes`` are slices or boxes, the first voxel of every axis and then the last plus one; None is the whole image.

    "uncertainty" (the ``measure``), "mutual_information", "class_uncertainty": means over the foreground predicted in
    the box, grown by ``radius`` mm in the whole image; over the whole box where there is none. "contour_variance": a
    mean over the foreground grown by ``reach``, 0 where there is none. Both cases have a "foreground_share" of 0.
    "residual" and "class_share" are of the whole box. "selective" is of the ``measure``.
    """
    measured = dense_measures(members, (measure, "entropy", "mutual_information", "variance"))
    parts = [(slice(None),)] if boxes is None else [region(box) for box in np.asarray(boxes)]
    bare = predicted_foreground(measured.probabilities, 0.0, spacing)
    around, distance = grown(bare, radius, spacing), signed_distance(bare, reach, spacing)
    rows = [
        {
            **_of_part(measured, measure, around[part], part),
            "contour_variance": _of_contour(measured["variance"], distance, reach, part),
        }
        for part in parts
    ]
    return {name: np.array([row[name] for row in rows], dtype=np.float64) for name in rows[0]} if rows else {}


def _of_part(
    measured: DenseMeasures, measure: str, around: Bool[np.ndarray, "..."], part: Part
) -> dict[str, float | np.ndarray]:
    probabilities = measured.probabilities[:, *part]
    mask = around if around.any() else None
    return {
        "uncertainty": mean_over(measured[measure][part], mask),
        "mutual_information": mean_over(measured["mutual_information"][part], mask),
        "class_uncertainty": class_uncertainty(probabilities, measured["entropy"][part], mask),
        "class_share": class_share(probabilities),
        "foreground_share": foreground_share(probabilities),
        "residual": residual(probabilities),
        "selective": selective_scores(probabilities, measured[measure][part]),
    }


def _of_contour(variance: Map, distance: Map | None, reach: float, part: Part) -> float:
    if distance is None or not (distance[part] < reach).any():
        return 0.0
    return mean_over(weighed(variance[part], distance[part], reach), distance[part] < reach)
