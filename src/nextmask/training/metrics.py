"""How well a predicted mask agrees with a reference: Dice, HD95, NSD and ASSD of every class of one image.

Computed on the grid of the image as acquired, distances in millimetres. Definitions follow Metrics Reloaded
(Maier-Hein et al. 2024, https://doi.org/10.1038/s41592-023-02151-z) and give MONAI's numbers wherever MONAI defines one.

A surface is the set of voxels of a structure with a neighbour (across a face) that is not of it, the outside of the
image included, measured between voxel centres. An axis of one voxel is not an axis: a volume of one slice is a picture.

Empty masks are decided here, once:

* Neither mask has the class: every number is nan. The class is absent and rightly not predicted; such a case is left
  out of means and counted.
* Only one of them has it: Dice and NSD are 0, HD95 and ASSD the diagonal of the image, the largest distance there is.
  Finite, so that means exist, and worst, so that predicting nothing never improves a mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import KDTree

from nextmask.data.pool import IGNORE
from nextmask.errors import DataError

Array = np.ndarray


@dataclass(frozen=True)
class ClassScore:
    """The agreement of one class in one image; nan where the class is in neither mask.

    ``dice`` and ``nsd`` (normalised surface Dice) run from 0 to 1, ``hd95`` and ``assd`` are millimetres. The last
    three are None where the spacing is not known.
    """

    name: str
    dice: float
    hd95: float | None
    nsd: float | None
    assd: float | None


@dataclass(frozen=True)
class ClassSummary:
    """Means of one class over the cases in which it was present or predicted.

    ``cases`` were scored in all, of which ``absent`` had the class in neither mask. A millimetre mean covers the cases
    of known spacing and is None if there is none; a mean over no case is nan.
    """

    name: str
    dice: float
    hd95: float | None
    nsd: float | None
    assd: float | None
    cases: int
    absent: int


def score_case(
    prediction: Array,
    reference: Array,
    classes: Sequence[str],
    spacing: Sequence[float] | None,
    tolerance_mm: float = 2.0,
) -> list[ClassScore]:
    """Score every foreground class of one image; class i of ``classes`` has the mask value i + 1.

    ``prediction`` and ``reference`` are (z, y, x) or (y, x) uint8; where the reference is 255 neither counts, as if
    both masks ended there. ``spacing`` is millimetres per axis in the same order. ``tolerance_mm`` is the distance up
    to which the NSD calls two surfaces equal. Raises DataError if shapes or spacing do not fit.
    """
    _check(prediction, reference, spacing)
    scored = reference != IGNORE
    step = None if spacing is None else [float(s) for s, n in zip(spacing, reference.shape, strict=True) if n > 1]
    diagonal = 0.0 if spacing is None else math.hypot(*(n * s for n, s in zip(reference.shape, spacing, strict=True)))
    scores = []
    for label, name in enumerate(classes, start=1):
        predicted, true = np.squeeze((prediction == label) & scored), np.squeeze(reference == label)
        scores.append(_score_class(name, predicted, true, step, diagonal, tolerance_mm))
    return scores


def summarise(cases: Sequence[Sequence[ClassScore]]) -> list[ClassSummary]:
    """Average the scores of many cases class by class, in the order of the classes; nan is left out."""
    return [_summarise_class(scores) for scores in zip(*cases, strict=True)]


def _score_class(
    name: str, predicted: Array, true: Array, step: Sequence[float] | None, diagonal: float, tolerance_mm: float
) -> ClassScore:
    sizes = int(np.count_nonzero(predicted)), int(np.count_nonzero(true))
    if not any(sizes):
        missing = None if step is None else math.nan
        return ClassScore(name, math.nan, missing, missing, missing)
    dice = 2 * int(np.count_nonzero(predicted & true)) / sum(sizes)
    if step is None:
        return ClassScore(name, dice, None, None, None)
    if not all(sizes):
        return ClassScore(name, dice, diagonal, 0.0, diagonal)
    from_predicted, from_true = surface_distances(predicted, true, step)
    both = np.concatenate([from_predicted, from_true])
    hd95 = max(float(np.percentile(from_predicted, 95)), float(np.percentile(from_true, 95)))
    return ClassScore(name, dice, hd95, float(np.mean(both <= tolerance_mm)), float(both.mean()))


def surface_distances(one: Array, other: Array, spacing: Sequence[float]) -> tuple[Array, Array]:
    """Measure from each surface voxel of one mask to the nearest of the other, and back; both masks must have some."""
    box = _bounding_box(one | other)
    points, others = (_surface(mask[box]) * np.asarray(spacing) for mask in (one, other))
    # A tree of surface voxels is several times faster than distance maps, and does not grow with the volume between.
    return KDTree(others).query(points)[0], KDTree(points).query(others)[0]


def _surface(mask: Array) -> Array:
    """List the surface voxels of a mask, (n, axes)."""
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def _bounding_box(mask: Array) -> tuple[slice, ...]:
    """Return the smallest box with all of a mask: beyond it there is no surface, and most of an image is beyond it."""
    box = []
    for axis in range(mask.ndim):
        hit = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        box.append(slice(int(hit[0]), int(hit[-1]) + 1))
    return tuple(box)


def _summarise_class(scores: Sequence[ClassScore]) -> ClassSummary:
    names = {score.name for score in scores}
    if len(names) != 1:
        raise DataError(
            f"Scores of the classes {sorted(names)} stand at one place. Expected the same classes in the same order in "
            "every case. Score all cases with one list of classes."
        )
    present = [score for score in scores if not math.isnan(score.dice)]
    millimetres = {name: _mean_known([getattr(s, name) for s in scores]) for name in ("hd95", "nsd", "assd")}
    dice = float(np.mean([score.dice for score in present])) if present else math.nan
    return ClassSummary(scores[0].name, dice, **millimetres, cases=len(scores), absent=len(scores) - len(present))


def _mean_known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    present = [value for value in known if not math.isnan(value)]
    if not known:
        return None
    return float(np.mean(present)) if present else math.nan


def _check(prediction: Array, reference: Array, spacing: Sequence[float] | None) -> None:
    if prediction.shape != reference.shape:
        raise DataError(
            f"A prediction of shape {prediction.shape} was compared with a reference of shape {reference.shape}. "
            "Expected the same grid. Bring the prediction back to the image's own grid first."
        )
    if spacing is not None and (len(spacing) != reference.ndim or not all(0 < s < math.inf for s in spacing)):
        raise DataError(
            f"The spacing {tuple(spacing)} was given for an image of shape {reference.shape}. Expected one positive "
            "number of millimetres per axis, or None where it is not known. Correct the spacing."
        )
