"""Small pools without masks: patients, each with two volumes of a few slices, drawn as blobs that move with the slice."""

from __future__ import annotations

import numpy as np

from nextmask.features.pretrain import PretrainConfig
from nextmask.features.tasks import TASKS
from nextmask.features.unlabeled import Unlabeled

SIDE, SLICES, VOLUMES = 16, 4, 2


def pool(patients: int = 4, side: int = SIDE, axes: int = 2) -> Unlabeled:
    """Draw ``patients`` x VOLUMES x SLICES images of one channel."""
    count = patients * VOLUMES * SLICES
    row = np.arange(count)
    patient, volume, place = row // (VOLUMES * SLICES), row // SLICES, row % SLICES
    images = [drawn(int(p), int(z), side, axes, int(r)) for r, p, z in zip(row, patient, place, strict=True)]
    return Unlabeled(images.__getitem__, patient, volume, place)


def drawn(patient: int, place: int, side: int, axes: int, seed: int) -> np.ndarray:
    """Draw one image, (1, *axes): a blob, a patient's own in size and a slice's in position, under noise."""
    rng = np.random.default_rng(seed)
    grid = np.indices((side,) * axes) - side * (0.3 + 0.1 * place)
    blob = np.exp(-(grid**2).sum(axis=0) / (2.0 + 3 * patient) ** 2)
    return (4 * blob + 0.1 * rng.standard_normal(blob.shape)).astype(np.float32)[None]


def config(task: str, axes: int = 2, **changes: object) -> PretrainConfig:
    """Configure a pretraining of a second or two."""
    values = {
        "task": task,
        "dimensions": axes,
        "channels": 1,
        "patch_size": (SIDE,) * axes,
        "features": (4, 8, 16),
        "precision": "float32",
        "batch_size": 6,
        "iterations": 12,
        "learning_rate": 3e-3,
        "weight_decay": 0.0,
        "options": dict(TASKS[task].options),
    }
    return PretrainConfig(**{**values, **changes})  # type: ignore[arg-type]
