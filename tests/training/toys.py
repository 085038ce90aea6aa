"""Images that a tiny network learns in seconds: a bright box and a dark one in noise."""

from __future__ import annotations

import dataclasses

import numpy as np

from nextmask.training.config import TrainConfig

TINY = TrainConfig(2, 1, 3, (32, 32), 4, 60, 1e-2, 1e-2, (8, 16, 32), False, 15.0, "float32", 0.5)
SOLID = dataclasses.replace(TINY, dimensions=3, patch_size=(8, 16, 16), batch_size=2, features=(8, 16))
IGNORE = 255


def toy(shape, seed):
    """Draw a bright box (class 1) and a dark one (class 2) in noise: image (1, *shape) float16, mask (*shape) uint8."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(shape, np.uint8)
    for label, side in ((1, 0), (2, 1)):
        corner = [int(rng.integers(1, n // 4)) for n in shape]
        corner[-1] += side * shape[-1] // 2
        mask[tuple(slice(a, a + n // 3) for a, n in zip(corner, shape, strict=True))] = label
    image = np.array([0, 2, -2])[mask] + 0.3 * rng.standard_normal(shape)
    return image[None].astype(np.float16), mask


def samples(shape, count=6, change=lambda image, mask: (image, mask)):
    drawn = [change(*toy(shape, seed)) for seed in range(count)]
    return [lambda pair=pair: pair for pair in drawn]


def scribbled(image, mask):
    """Keep a line through every structure and strokes of background between them: a tenth of what there is."""
    lines = np.full_like(mask, IGNORE)
    strokes = np.zeros(mask.shape, bool)
    strokes[..., ::12] = strokes[..., ::14, :] = True
    lines[strokes & (mask == 0)] = 0
    for label in (1, 2):
        middle = np.median(np.argwhere(mask == label), axis=0).astype(int)
        row = tuple(middle[:-1])
        lines[row][mask[row] == label] = label
    return image, lines
