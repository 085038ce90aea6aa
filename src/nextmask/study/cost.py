"""How long an annotator takes for a sample: by estimate, before it is drawn; and by what there was to draw, once it is."""

from __future__ import annotations

import numpy as np

from nextmask.data.pool import Pool, Sample
from nextmask.data.work import Work
from nextmask.study.config import SCRIBBLES, StudyConfig


def estimated_minutes(pool: Pool, config: StudyConfig) -> np.ndarray:
    """Estimate the minutes of every sample, (samples,): opening its image, and so much for each slice to draw on.

    A slice counts whole, however little of it a box shows: what takes time is the structures, not the air around them.
    Scribbles take their share of it. What is on a slice is not known yet, nor how right a prediction will be that is
    corrected: every slice counts as a typical one that is drawn anew.
    """
    return np.array([typical_minutes(slices_of(sample), config) for sample in pool.samples])


def typical_minutes(slices: int, config: StudyConfig) -> float:
    """Estimate the minutes of an image with so many slices, each as full as is typical."""
    return config.minutes_per_image + config.minutes_per_slice * _share(config) * slices


def slices_of(sample: Sample) -> int:
    """Count the slices that a sample is drawn on; a picture is one."""
    return sample.region.shape[0] if len(sample.region.start) == 3 else 1


def drawing_minutes(work: Work, config: StudyConfig) -> float:
    """Reckon the minutes of a mask or scribble by what there was to draw; on typical slices they are those estimated."""
    parts = config.drawing
    effort = parts.slice * work.slices + parts.structure * work.structures + parts.boundary * work.boundary / 100
    return config.minutes_per_image + config.minutes_per_slice * _share(config) * effort


def correcting_minutes(correction: Work, anew: Work, config: StudyConfig) -> float:
    """Reckon the minutes of correcting a mask that was drawn before; nobody corrects where drawing anew is faster."""
    return min(drawing_minutes(correction, config), drawing_minutes(anew, config))


def _share(config: StudyConfig) -> float:
    """Say what share of a mask's minutes is spent: scribbles are drawn faster."""
    return config.drawing.scribble if config.supervision in SCRIBBLES else 1.0
