"""What a network looks like: derived from the images and the device rather than asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, Protocol

import numpy as np
import torch

from nextmask.errors import TrainingError

Precision = Literal["float32", "bfloat16"]

FLAT = 3
"""A patch this many times wider than thick is anisotropic: it is turned and scaled within its slices only."""
SMALLEST_BOTTLENECK = 4
"""Voxels that an axis keeps at the bottom of the U: below, instance normalisation has too few values to normalise."""


class Architecture(Protocol):
    """What decides a network besides what it gives; every configuration of a training has it.

    ``patch_size`` is (z, y, x) or (y, x) voxels of the working grid; ``features`` are the widths from top to bottom. One that
    has a ``dropout`` too gets layers that drop this share of what passes.
    """

    @property
    def dimensions(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def patch_size(self) -> tuple[int, ...]: ...
    @property
    def features(self) -> tuple[int, ...]: ...
    @property
    def precision(self) -> Precision: ...


@dataclass(frozen=True)
class Means:
    """What a kind of device affords."""

    voxels_2d: int
    side_2d: int
    largest_batch: int
    voxels_3d: int
    features: tuple[int, ...]


CPU = Means(8 * 128**2, 192, 8, 48**3, (16, 32, 64, 128, 256))
GPU = Means(12 * 512**2, 512, 32, 128**3, (32, 64, 128, 256, 512))


@dataclass(frozen=True)
class Size:
    """How large a patch is, how many of them a device takes at a time, and how wide the network is on each level."""

    patch_size: tuple[int, ...]
    batch_size: int
    features: tuple[int, ...]


def derive_size(shapes: Sequence[tuple[int, ...]], *, dimensions: int, device: str) -> Size:
    """Derive a network's size from the pool's working-grid shapes, (z, y, x) or (y, x), and the device.

    The patch is the median image where the device affords it. Raises TrainingError for shapes with fewer axes than
    ``dimensions``, or none at all.
    """
    means = CPU if torch.device(device).type == "cpu" else GPU
    patch = _patch_size(_median_shape(shapes, dimensions), means, dimensions)
    affordable = means.voxels_2d // prod(patch) if dimensions == 2 else 2
    return Size(
        patch_size=patch,
        batch_size=int(np.clip(affordable, 2, means.largest_batch)),
        features=means.features[: 1 + min(len(possible_strides(patch)), len(means.features) - 1)],
    )


def is_flat(patch_size: Sequence[int]) -> bool:
    """Tell whether a patch is so thin along its first axis that it must not be turned out of its plane."""
    return len(patch_size) == 3 and FLAT * patch_size[0] <= max(patch_size)


def possible_strides(patch_size: Sequence[int]) -> list[tuple[int, ...]]:
    """Halve axes while they can be: an axis waits while another is at least twice as long, and none ends below 4.

    So thick slices, where a patch has few voxels along z, are first pooled within the slice until voxels are about
    as long as wide.
    """
    size = list(patch_size)
    strides: list[tuple[int, ...]] = []
    while True:
        longest = max(size)
        halved = [n % 2 == 0 and n // 2 >= SMALLEST_BOTTLENECK and 2 * n > longest for n in size]
        if not any(halved):
            return strides
        strides.append(tuple(2 if half else 1 for half in halved))
        size = [n // 2 if half else n for n, half in zip(size, halved, strict=True)]


def best_precision(device: str) -> Precision:
    """Choose bfloat16 where the hardware gains by it, else float32.

    Of CPUs that is those with AMX or AVX512-BF16: 1.2 to 1.7 times the steps (docs/log.md). Without either
    bfloat16 is emulated.
    """
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported(False) else "float32"
    if torch.device(device).type != "cpu":
        return "float32"
    probes = [getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported")]
    return "bfloat16" if any(probe and probe() for probe in probes) else "float32"


def _median_shape(shapes: Sequence[tuple[int, ...]], dimensions: int) -> list[int]:
    if dimensions not in (2, 3) or not shapes or min(map(len, shapes)) < dimensions:
        raise TrainingError(
            f"A {dimensions}-dimensional training was asked for on {len(shapes)} images with "
            f"{sorted({len(shape) for shape in shapes})} axes. Expected images, and 2 dimensions for pictures, "
            "2 or 3 for volumes. Set dimensions accordingly."
        )
    return [int(np.median([shape[axis] for shape in shapes])) for axis in range(-dimensions, 0)]


def _patch_size(shape: Sequence[int], means: Means, dimensions: int) -> tuple[int, ...]:
    """Round the median shape up to sizes that can be halved; then shorten the longest axis until affordable."""
    largest = means.side_2d if dimensions == 2 else means.voxels_3d
    smallest = [4, 16, 16][-dimensions:]  # thin stacks stay thin, but a slice of under 16 voxels is padded
    patch = [_round_up(max(n, least)) for n, least in zip(shape, smallest, strict=True)]
    if dimensions == 2:
        return tuple(min(n, largest) for n in patch)
    while prod(patch) > largest:
        axis = int(np.argmax(patch))
        patch[axis] -= _granule(patch[axis] - 1)
    return tuple(patch)


def _granule(length: int) -> int:
    """Return the largest power of two, up to 16, that leaves an axis of this length at least 4 voxels when divided."""
    return max(g for g in (1, 2, 4, 8, 16) if g == 1 or length >= 4 * g)


def _round_up(length: int) -> int:
    granule = _granule(length)
    return -(-length // granule) * granule
