"""Readers' errors: how the mask of another reader, or of the same one on another day, differs from a mask.

The sizes were fitted to the one exam of ACDC that was read twice (patient074 is patient076), see benchmarks/oracles.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from nextmask.data.pool import IGNORE


@dataclass(frozen=True)
class ReaderError:
    """How far off a reader is.

    ``jitter`` is the standard deviation of a boundary's shift along each axis, in voxels of the slice; shifts keep together
    over about ``smooth`` voxels. Readers agree on most slices and differ on few: the jitter of a slice varies log-normally
    about its mean, with a spread of ``uneven``. A structure whose largest cross-section has ``missed`` voxels is overlooked
    once in e times, a smaller one more often.
    """

    jitter: float = 0.25
    smooth: float = 3.0
    uneven: float = 1.0
    missed: float = 20.0


def reread(
    mask: np.ndarray, rng: np.random.Generator, strength: float = 1.0, error: ReaderError | None = None
) -> np.ndarray:
    """Draw a mask again as another reader might have, (z, y, x) or (y, x); of the same shape and type.

    Boundaries shift at random but smoothly, slice by slice, as readers draw; the two sides of a boundary shift together,
    so that no gap opens. Small structures are overlooked: they become what is around them. ``strength`` multiplies the
    shifts and the chance of being overlooked; 0 changes nothing. Where the mask is not annotated (255), it stays so.
    """
    error = error or ReaderError()
    if strength == 0:
        return mask.copy()
    drawn = _overlooked(mask, rng, strength, error.missed)
    slices = drawn if mask.ndim == 3 else drawn[np.newaxis]
    jitter = strength * error.jitter * np.exp(error.uneven * (rng.standard_normal(len(slices)) - error.uneven / 2))
    moved = np.stack([_shifted(each, rng, by, error.smooth) for each, by in zip(slices, jitter, strict=True)])
    moved = moved.reshape(mask.shape)
    return np.where((mask == IGNORE) | (moved == IGNORE), drawn, moved)


def _shifted(mask: np.ndarray, rng: np.random.Generator, jitter: float, smooth: float) -> np.ndarray:
    """Move every voxel of a slice a little, together with its neighbours."""
    # White noise filtered so has this standard deviation.
    scale = jitter * 2 * math.sqrt(math.pi) * smooth
    shifts = [scale * ndimage.gaussian_filter(rng.standard_normal(mask.shape), smooth, mode="wrap") for _ in range(2)]
    there = [np.rint(at + shift).astype(np.intp) for at, shift in zip(np.indices(mask.shape), shifts, strict=True)]
    return mask[tuple(np.clip(at, 0, count - 1) for at, count in zip(there, mask.shape, strict=True))]


def _overlooked(mask: np.ndarray, rng: np.random.Generator, strength: float, size: float) -> np.ndarray:
    """Leave out structures, the smaller the likelier."""
    left, touching = mask.copy(), np.ones((3,) * mask.ndim, bool)
    for label in np.unique(mask[(mask != IGNORE) & (mask != 0)]):
        numbers, count = ndimage.label(mask == label, touching)
        chances = rng.random(count)
        for number, box in enumerate(ndimage.find_objects(numbers), start=1):
            structure = numbers[box] == number
            if chances[number - 1] < strength * math.exp(-_cross_section(structure) / size):
                _erase(left, numbers == number, touching)
    return left


def _cross_section(structure: np.ndarray) -> int:
    """Count the voxels of a structure in the slice that shows most of it."""
    return int(structure.sum((-2, -1)).max())


def _erase(mask: np.ndarray, structure: np.ndarray, touching: np.ndarray) -> None:
    """Give a structure the class that is mostly around it; background where nothing is."""
    around = mask[ndimage.binary_dilation(structure, touching) & ~structure]
    around = around[around != IGNORE]
    mask[structure] = np.bincount(around).argmax() if around.size else 0
