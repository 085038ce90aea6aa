"""Pseudo-labels of a round: what the last segmenter is certain of, to be learned from as if somebody had drawn it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.data.files import atomically
from nextmask.data.pool import IGNORE
from nextmask.selection.ceal import ceal_pseudo_labels
from nextmask.study.evidence import Evidence
from nextmask.study.labels import Labels, Load

SURE = 0.95
"""Probability from which a predicted voxel is a pseudo-label; the others are 255."""
SHARE = 0.1
"""Pseudo-labeled samples of the second round, as a share of the labeled ones; so many more in every round after it."""


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Predicted masks of the samples that a segmenter is most certain of (CEAL, https://arxiv.org/abs/1711.09168).

    They are made anew for every round, cost no budget, and their samples stay in the pool. Adapted: the number follows the
    labels, where the paper counts 20 to 120 beside 600 to 950 of them, and a voxel that is not sure is left open.
    """

    labels: Labels
    evidence: Evidence
    labeled: np.ndarray

    def choose(self, number: int, seed: Sequence[int]) -> np.ndarray:
        """Draw the rows for round ``number``, (count,) int; none in the first."""
        count = round(SHARE * (number - 1) * int(self.labeled.sum()))
        found = self.evidence.mapping()
        variance, share = found["contour_variance"](), found["foreground_share"]()
        return ceal_pseudo_labels(variance, share, self.labeled, count, np.random.default_rng(seed))

    def write(self, rows: np.ndarray, segmenter: Any, sha256: str, folder: Path) -> list[Load]:
        """Predict the masks into files, so that of a volume one patch is read at a time; return what opens each pair."""
        loads = []
        for row in rows.tolist():
            path = folder / f"pseudo-{sha256[:12]}-{row}.npy"
            if not path.exists():
                _write(path, segmenter.predict(np.asarray(self.labels.image(row), np.float32)))
            loads.append(partial(_pair, self.labels, row, path))
        return [load for load in loads if (load()[1] != IGNORE).any()]


def _write(path: Path, probabilities: np.ndarray) -> None:
    sure = probabilities.max(axis=0) >= SURE
    with atomically(path) as temporary:
        np.save(temporary, np.where(sure, probabilities.argmax(axis=0), IGNORE).astype(np.uint8))


def _pair(labels: Labels, row: int, path: Path) -> tuple[np.ndarray, np.ndarray]:
    return labels.image(row), np.load(path, mmap_mode="r")
