"""The oracle of a simulation: a reader who draws what the table of cases already knows, and errs as far as is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np

from nextmask.data.images import read_mask
from nextmask.data.pool import Case, Pool, Sample
from nextmask.data.reader_error import reread
from nextmask.data.scribbles import draw_scribble
from nextmask.data.work import work_of, work_of_correction
from nextmask.errors import StudyError
from nextmask.study.annotations import Drawn
from nextmask.study.config import StudyConfig
from nextmask.study.cost import correcting_minutes, drawing_minutes, slices_of, typical_minutes

ERRING, SCRIBBLING = 0, 1
"""Streams of random numbers, so that a reader's scribbles do not change with the reader's errors."""


class Oracle:
    """Draws samples from the truth, as the settings say: ``supervision``, ``reader_error``, and minutes by ``drawing``.

    What is drawn at random is seeded by the study's seed and the sample: the same sample gets the same mask or scribble
    whenever, and after whatever others, it is asked for. ``predicted`` returns what a segmenter shows of a sample to a
    reader who corrects instead of drawing; that changes the minutes, not the mask.
    """

    def __init__(self, config: StudyConfig, predicted: Callable[[Sample], np.ndarray] | None = None):
        self.config, self.predicted = config, predicted

    def __call__(self, case: Case, sample: Sample) -> Drawn | None:
        if self.config.supervision == "scribble":
            return self._scribbled(case, sample)
        if case.mask is None:
            return None
        mask = _part(case.mask, self.config.mask_codes, sample)
        if self.config.reader_error:
            mask = reread(mask, self._rng(sample, ERRING), self.config.reader_error)
        minutes = self._minutes(mask, sample)
        if self.config.supervision == "drawn_scribble":
            mask = draw_scribble(mask, self._rng(sample, SCRIBBLING))
        return Drawn(mask, minutes)

    def _scribbled(self, case: Case, sample: Sample) -> Drawn | None:
        """Take the scribble of the table; where there is no mask to reckon its minutes by, they are those estimated."""
        if case.scribble is None:
            return None
        scribble = _part(case.scribble, self.config.scribble_codes, sample)
        if case.mask is None:
            return Drawn(scribble, typical_minutes(slices_of(sample), self.config))
        return Drawn(scribble, drawing_minutes(work_of(_part(case.mask, self.config.mask_codes, sample)), self.config))

    def _minutes(self, mask: np.ndarray, sample: Sample) -> float:
        anew = work_of(mask)
        if self.predicted is None:
            return drawing_minutes(anew, self.config)
        return correcting_minutes(work_of_correction(self.predicted(sample), mask), anew, self.config)

    def _rng(self, sample: Sample, stream: int) -> np.random.Generator:
        name = int.from_bytes(hashlib.sha256(sample.id.encode()).digest()[:8], "big")
        return np.random.default_rng([self.config.seed, name, stream])


class Truth:
    """What is in the masks of a pool that nobody has annotated yet. For what says in its name that it looks."""

    def __init__(self, codes: Mapping[int, int], classes: int):
        self._codes, self._classes = codes, classes
        self._shares: tuple[Pool, np.ndarray] | None = None

    def class_share(self, pool: Pool) -> np.ndarray:
        """Measure the share of every sample's voxels that is of each class but background, (samples, classes).

        Raises:
            StudyError: a case of the pool has no mask.
        """
        if self._shares is None or self._shares[0] is not pool:
            self._shares = pool, np.concatenate([self._of_case(pool, case) for case in pool.cases])
        return self._shares[1]

    def mask(self, case: Case) -> np.ndarray:
        """Read the mask of a case, on its image's grid; raise StudyError where it has none."""
        if case.mask is None:
            raise StudyError(
                f"case {case.id!r} has no mask. Expected the truth of every case, which this study reads by its strategy or "
                "its region. Choose another, or leave the case out."
            )
        return read_mask(case.mask, self._codes)[0]

    def _of_case(self, pool: Pool, case: Case) -> np.ndarray:
        mask = self.mask(case)
        parts = [mask[pool.samples[row].region.slices] for row in pool.rows_of_case[case.id]]
        return np.array([[np.mean(part == label) for label in range(1, self._classes + 1)] for part in parts])


def _part(path: str, codes: Mapping[int, int], sample: Sample) -> np.ndarray:
    """Read what a mask file shows of a sample."""
    return read_mask(path, codes)[0][sample.region.slices]
