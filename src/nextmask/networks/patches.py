"""Patches of images of any size, and the order in which samples are visited."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nextmask.errors import DataError


def read_patch(image: np.ndarray | Tensor, row: int, patch: Sequence[int], rng: np.random.Generator) -> Tensor:
    """Cut a patch, (channels, *patch) float32, at random out of an image of any size.

    An image smaller than the patch lies in its middle, its border repeated. Raises DataError for an image that is not
    finite or has other axes; ``row`` names it.
    """
    if image.ndim != len(patch) + 1:
        raise DataError(
            f"The image of sample row {row} has the shape {tuple(image.shape)}. Expected channels and {len(patch)} spatial "
            "axes. Give a study images of one kind."
        )
    start = [
        int(rng.integers(n - p + 1)) if n > p else (n - p) // 2 for n, p in zip(image.shape[1:], patch, strict=True)
    ]
    pixels = cut(image, start, patch)
    if wrong := not_finite(pixels):
        raise DataError(
            f"The image of sample row {row} has {wrong} NaN or infinite voxels. "
            "Expected an image of finite intensities. Repair the file, or drop the case from the pool."
        )
    return pixels


def cut(values: np.ndarray | Tensor, start: Sequence[int], patch: Sequence[int], fill: int | None = None) -> Tensor:
    """Cut the patch that begins at a voxel, maybe a negative one, out of (..., *spatial), and leave it on its device.

    Beyond the border stands ``fill``; without it the border is repeated, and numbers become float32.
    """
    spatial = values.shape[-len(patch) :]
    inside = tuple(slice(max(a, 0), min(a + p, n)) for a, p, n in zip(start, patch, spatial, strict=True))
    where: Any = (..., *inside)  # of which the type hints of neither library know that it is an index
    part = values[where]
    tensor = part if isinstance(part, Tensor) else torch.from_numpy(np.array(part))
    tensor = tensor.float() if fill is None else tensor
    beyond = [(max(-a, 0), max(a + p - n, 0)) for a, p, n in zip(start, patch, spatial, strict=True)]
    if not any(map(any, beyond)):
        return tensor
    sides = [side for pair in reversed(beyond) for side in pair]
    return functional.pad(tensor, sides, "replicate") if fill is None else functional.pad(tensor, sides, value=fill)


def not_finite(pixels: Tensor) -> int:
    """Count the numbers that are not finite; on an accelerator none is left (`resident`), and counting would wait for it."""
    return 0 if pixels.device.type != "cpu" else int((~torch.isfinite(pixels)).sum())


def rows_at(first: int, size: int, count: int, seed: Sequence[int]) -> list[int]:
    """Return ``size`` rows from a position of the endless sequence of shuffled passes over ``count`` rows.

    All rows are seen equally often, and what stands at a position depends on it and ``seed`` alone.
    """
    places = (divmod(position, count) for position in range(first, first + size))
    return [int(_order(number, count, tuple(seed))[place]) for number, place in places]


@lru_cache(maxsize=8)
def _order(number: int, count: int, seed: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng([*seed, number]).permutation(count)
