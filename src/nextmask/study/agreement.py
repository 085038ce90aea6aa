"""How far predictions moved from round to round, on a few samples of the pool; no mask is looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.data.files import atomically, digest_json
from nextmask.study.labels import Labels
from nextmask.study.rounds import Round, StoredFile, segmenters_of

SAMPLES = 16
"""So many samples, the same in every round and for every seed."""
VERSION = 1
"""Part of every key; raised when the same segmenter would be asked for others."""


def agreement(
    labels: Labels,
    folder: Path,
    rounds: Sequence[Round],
    load: Callable[[StoredFile], Any],
) -> float | None:
    """Return the mean Dice between what the last two segmenters see in the same samples of the pool, 0 to 1.

    Once it stays near 1, more masks of the same kind no longer change the segmenter; that it is right does not follow.
    Each segmenter is asked once: what it said is kept in ``folder``. None where there is one segmenter only, where the one
    before is gone and was not asked, or where neither sees anything.

    Source: M. Bloodgood and K. Vijay-Shanker, "A method for stopping active learning based on stabilizing predictions and the
    need for user-adjustable stopping", CoNLL 2009, https://aclanthology.org/W09-1107; with Dice in place of kappa, since
    nearly all voxels are background, and as a number to look at instead of a rule.
    """
    trained = segmenters_of(rounds)
    seen = [_seen(labels, folder, file, load) for file in trained[-2:]]
    if len(seen) < 2 or seen[0] is None or seen[1] is None:
        return None
    found = [_dice(one, other) for one, other in zip(*seen, strict=True) if one.shape == other.shape]
    known = [each for each in found if each is not None]
    return round(float(np.mean(known)), 6) if known else None


def chosen(samples: int) -> list[int]:
    """Choose the rows that are looked at."""
    return sorted(np.random.default_rng(0).permutation(samples)[:SAMPLES].tolist())


def _seen(
    labels: Labels,
    folder: Path,
    file: StoredFile,
    load: Callable[[StoredFile], Any],
) -> list[np.ndarray] | None:
    """Return the classes that a segmenter sees in each sample, (*working) uint8."""
    rows = chosen(len(labels.pool))
    content = [(labels.cache.keys[labels.pool.samples[row].case], labels.pool.samples[row].id) for row in rows]
    path = folder / f"{digest_json([VERSION, file.sha256, content])[:32]}.npz"
    if not path.exists():
        if not (labels.folder / file.path).is_file():
            return None
        segmenter = load(file)
        seen = [_classes(segmenter, image()) for image in _images(labels, segmenter, rows)]
        with atomically(path) as temporary:
            np.savez_compressed(temporary, *seen)
    with np.load(path) as stored:
        return [stored[name] for name in stored.files]


def _images(labels: Labels, segmenter: Any, rows: Sequence[int]) -> list[Callable[[], np.ndarray]]:
    """Return functions that open the samples, or their cases where the segmenter takes volumes only."""
    if labels.planar and getattr(segmenter, "dimensions", 2) == 3:
        cases = sorted({labels.pool.samples[row].case for row in rows})
        return [partial(labels.cache.image, case) for case in cases]
    return [partial(labels.image, row) for row in rows]


def _classes(segmenter: Any, image: np.ndarray) -> np.ndarray:
    """Return the class that a segmenter sees in every voxel, (*working) uint8."""
    return np.asarray(segmenter.predict(np.asarray(image, np.float32)).argmax(axis=0), np.uint8)


def _dice(one: np.ndarray, other: np.ndarray) -> float | None:
    """Average the Dice of the classes that either sees; None where both see none."""
    classes = (set(np.unique(one).tolist()) | set(np.unique(other).tolist())) - {0}
    both = [2 * ((one == k) & (other == k)).sum() / ((one == k).sum() + (other == k).sum()) for k in classes]
    return float(np.mean(both)) if both else None
