"""Patches of images of any size, and the order in which samples are visited."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from nextmask.errors import DataError


def read_patch(image: np.ndarray, row: int, patch: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Cut a patch, (channels, *patch) float32, at random out of an image of any size.

    An image smaller than the patch lies in its middle, its border repeated. Raises DataError for an image that is not
    finite or has other axes; ``row`` names it.
    """
    if image.ndim != len(patch) + 1:
        raise DataError(
            f"The image of sample row {row} has the shape {image.shape}. Expected channels and {len(patch)} spatial axes. "
            "Give a study images of one kind."
        )
    starts = [
        int(rng.integers(n - p + 1)) if n > p else (n - p) // 2 for n, p in zip(image.shape[1:], patch, strict=True)
    ]
    inside = tuple(slice(max(a, 0), a + p) for a, p in zip(starts, patch, strict=True))
    pixels = np.asarray(image[(slice(None), *inside)], dtype=np.float32)
    if not np.isfinite(pixels).all():
        raise DataError(
            f"The image of sample row {row} has {np.count_nonzero(~np.isfinite(pixels))} NaN or infinite voxels. "
            "Expected an image of finite intensities. Repair the file, or drop the case from the pool."
        )
    beyond = [(max(-a, 0), max(a + p - n, 0)) for a, p, n in zip(starts, patch, image.shape[1:], strict=True)]
    return np.pad(pixels, [(0, 0), *beyond], mode="edge")


def rows_at(first: int, size: int, count: int, seed: Sequence[int]) -> list[int]:
    """Return ``size`` rows from a position of the endless sequence of shuffled passes over ``count`` rows.

    All rows are seen equally often, and what stands at a position depends on it and ``seed`` alone.
    """
    places = (divmod(position, count) for position in range(first, first + size))
    return [int(_order(number, count, tuple(seed))[place]) for number, place in places]


@lru_cache(maxsize=8)
def _order(number: int, count: int, seed: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng([*seed, number]).permutation(count)
