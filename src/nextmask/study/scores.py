"""What a segmenter's predictions say of every sample: the evidence that needs one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from nextmask.selection.measures import DENSE, sample_scores
from nextmask.study.labels import Labels
from nextmask.training.views import mirrored_views

OF_MEMBERS = ("mutual_information", "contour_variance")
"""Evidence that is 0 unless several members predict each image."""

OF_CLASSES = ("class_uncertainty", "class_share", "residual")
"""Evidence that tells the classes of a study apart."""

MEASURES_OF_MEMBERS = ("expected_entropy", "mutual_information", "variance", "variance_ratio")
"""Measures that differ from others, or from 0, only where several members predict each image."""

MEASURES = DENSE
"""What `uncertainty` may be the mean of."""


Members = Literal["one", "ensemble", "flips", "dropout"]
"""Which predictions of an image are compared: one alone, those of several networks, of mirrored views, or of passes with
other activations dropped."""

PASSES, DROPPED = 10, (0,)
"""How many passes with dropout, and the seed of what they drop."""


Predictor = Callable[[np.ndarray], np.ndarray | Iterable[np.ndarray]]
"""Gives probabilities (classes, *spatial) of an image (channels, *spatial), or several of them."""


def predictor(segmenter: Any, members: Members) -> Predictor:
    """Choose how a segmenter's members are made; any segmenter can be asked for one, and for mirrored views."""
    predict: Predictor = segmenter.predict
    if members == "flips":
        predict = partial(mirrored_views, segmenter.predict)
    elif members == "ensemble":
        predict = segmenter.predict_members
    elif members == "dropout":
        predict = partial(segmenter.predict_dropout, members=PASSES, seed=DROPPED)
    return predict


def members_of(segmenter: Any) -> Members:
    """Say what of a segmenter may contradict itself: its networks if it has several, else mirrored views."""
    several = len(getattr(segmenter, "networks", ())) > 1 and hasattr(segmenter, "predict_members")
    return "ensemble" if several else "flips"


def columns(classes: int) -> dict[str, slice]:
    """Say where in a vector of scores each kind of evidence lies; ``classes`` counts the background too."""
    lengths = {
        "uncertainty": 1,
        "mutual_information": 1,
        "contour_variance": 1,
        "foreground_share": 1,
        "selective": 2,
        "class_uncertainty": classes - 1,
        "class_share": classes - 1,
        "residual": classes,
    }
    stops = accumulate(lengths.values())
    return {name: slice(stop - lengths[name], stop) for name, stop in zip(lengths, stops, strict=True)}


class Scorer:
    """Scores a sample: row -> (scores,) float64, laid out as `columns` says.

    ``members`` are what may contradict one another. Boxes, and slices where the segmenter takes volumes, are cut from the
    prediction of their whole case, so that the segmenter sees what is around them; it is made once for all of them.
    """

    def __init__(self, labels: Labels, segmenter: Any, *, measure: str, members: Members):
        self._labels, self._measure, self._predict = labels, measure, predictor(segmenter, members)
        self._segmenter = segmenter
        self._case: tuple[int, np.ndarray] | None = None

    def __call__(self, row: int) -> np.ndarray:
        pool = self._labels.pool
        if pool.unit != "box" and not self._sees_volumes():
            return self._scored(self._labels.image(row), self._labels.spacing(row))[0]
        case = pool.samples[row].case
        if self._case is None or self._case[0] != case:
            self._case = (case, self._of_boxes(case))
        # The samples of a case lie one after another in the pool.
        return self._case[1][row - pool.rows_of_case[pool.cases[case].id][0]]

    def _sees_volumes(self) -> bool:
        """Say whether slices are asked for and the segmenter takes whole volumes only."""
        return self._labels.planar and getattr(self._segmenter, "dimensions", 2) == 3

    def _of_boxes(self, case: int) -> np.ndarray:
        rows = self._labels.pool.rows_of_case[self._labels.pool.cases[case].id]
        regions = [self._labels.region(row) for row in rows]
        boxes = np.array([[*(part.start for part in each), *(part.stop for part in each)] for each in regions])
        return self._scored(self._labels.cache.image(case), self._labels.cache.spacings[case], boxes)

    def _scored(
        self, image: np.ndarray, spacing: tuple[float, ...] | None, boxes: np.ndarray | None = None
    ) -> np.ndarray:
        members = self._predict(np.asarray(image, np.float32))
        return _in_columns(sample_scores(members, boxes, spacing, measure=self._measure))


def _in_columns(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    where = columns(scores["residual"].shape[1])
    return np.concatenate([scores[name].reshape(len(scores[name]), -1) for name in where], axis=1)
