"""How long an annotator will take for a sample, by estimate."""

from __future__ import annotations

import numpy as np

from nextmask.data.pool import Pool
from nextmask.study.config import StudyConfig


def estimated_minutes(pool: Pool, config: StudyConfig) -> np.ndarray:
    """Estimate the minutes of every sample, (samples,): opening its image, and so much for each slice to draw on.

    A slice counts whole, however little of it a box shows: what takes time is the structures, not the air around them.
    """
    slices = np.array([s.region.shape[0] if len(s.region.start) == 3 else 1 for s in pool.samples])
    return config.minutes_per_image + config.minutes_per_slice * slices
