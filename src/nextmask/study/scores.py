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


AT_ONCE, VOXELS_AT_ONCE = 8, 2**19
"""Slices of a case that a segmenter of slices predicts at once, and how many voxels they may have, all members being in memory."""


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
    prediction of their whole case, so that the segmenter sees what is around them; it is made once for all of them. A
    segmenter of slices is asked for several of a case at once, which takes half as long as one at a time.
    """

    def __init__(self, labels: Labels, segmenter: Any, *, measure: str, members: Members):
        self._labels, self._measure, self._predict = labels, measure, predictor(segmenter, members)
        self._segmenter = segmenter
        # Passes with dropout drop the same of every slice that is asked for alone: noise that all of them share.
        self._at_once = 1 if members == "dropout" else AT_ONCE
        self._scored: tuple[range, np.ndarray] = (range(0), np.empty(0))

    def __call__(self, row: int) -> np.ndarray:
        if row not in self._scored[0]:
            rows = self._together(row)
            self._scored = (rows, self._of_case(rows) if self._cut_from_case() else self._of_slices(rows))
        return self._scored[1][self._scored[0].index(row)]

    def _together(self, row: int) -> range:
        """Return the rows that are predicted with this one: parts of one case, which lie one after another in the pool.

        Which they are does not depend on the row that is asked for first, so that shards of a pool find the same numbers.
        """
        rows = self._labels.pool.rows_of_case[self._labels.pool.cases[self._labels.pool.samples[row].case].id]
        first, last = int(rows[0]), int(rows[-1]) + 1
        if self._cut_from_case():
            return range(first, last)
        size = max(1, min(self._at_once, VOXELS_AT_ONCE // self._labels.image(row)[0].size))
        start = first + (row - first) // size * size
        return range(start, min(start + size, last))

    def _cut_from_case(self) -> bool:
        """Say whether samples are boxes, or slices where the segmenter takes whole volumes only."""
        volumes = self._labels.planar and getattr(self._segmenter, "dimensions", 2) == 3
        return self._labels.pool.unit == "box" or volumes

    def _of_case(self, rows: range) -> np.ndarray:
        case = self._labels.pool.samples[rows[0]].case
        regions = [self._labels.region(row) for row in rows]
        boxes = np.array([[*(part.start for part in each), *(part.stop for part in each)] for each in regions])
        members = self._predict(np.asarray(self._labels.cache.image(case), np.float32))
        return self._scores(members, self._labels.cache.spacings[case], boxes)

    def _of_slices(self, rows: range) -> np.ndarray:
        images = [np.asarray(self._labels.image(row), np.float32) for row in rows]
        if len(rows) == 1:  # pictures; and whole volumes, of which not all members are to be in memory together
            return self._scores(self._predict(images[0]), self._labels.spacing(rows[0]))
        predicted = self._predict(np.stack(images, axis=1))
        members = [predicted] if isinstance(predicted, np.ndarray) else list(predicted)
        each = ([member[:, place] for member in members] for place in range(len(rows)))
        scores = [self._scores(of_slice, self._labels.spacing(row)) for of_slice, row in zip(each, rows, strict=True)]
        return np.concatenate(scores)

    def _scores(
        self,
        members: np.ndarray | Iterable[np.ndarray],
        spacing: tuple[float, ...] | None,
        boxes: np.ndarray | None = None,
    ) -> np.ndarray:
        return _in_columns(sample_scores(members, boxes, spacing, measure=self._measure))


def _in_columns(scores: Mapping[str, np.ndarray]) -> np.ndarray:
    where = columns(scores["residual"].shape[1])
    return np.concatenate([scores[name].reshape(len(scores[name]), -1) for name in where], axis=1)
