"""Annotated samples as training reads them: patches in which something is annotated."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from nextmask.data.pool import IGNORE
from nextmask.errors import TrainingError
from nextmask.networks.patches import cut, not_finite, rows_at
from nextmask.networks.resident import resident
from nextmask.training.config import TrainConfig

LoadSample = Callable[[], tuple[np.ndarray, np.ndarray]]
"""Gives the image (channels, *spatial) and the mask (*spatial) uint8, 255 = ignore, of one sample.

Called anew for every patch: hand in memory maps, of which only the patch is then read.
"""

PLACES = 256
"""Voxels remembered per class and sample as centres of patches."""
_PLACES, _ORDER, _PATCHES = 1, 2, 3  # streams of randomness, each of its own seed


@dataclass(frozen=True, eq=False)
class Labeled:
    """A sample as training sees it: how to read it (from a device, if it is kept there), and where it is annotated.

    ``places[c]`` are random voxels of class c, (up to PLACES, axes); ``complete``: no voxel is 255.
    """

    load: Callable[[], tuple[np.ndarray | Tensor, np.ndarray | Tensor]]
    shape: tuple[int, ...]
    counts: np.ndarray
    places: dict[int, np.ndarray]
    complete: bool


def look_at_samples(samples: Sequence[LoadSample], config: TrainConfig, seed: Sequence[int]) -> list[Labeled]:
    """Read every mask once; the images stay where they are.

    Raises TrainingError without samples, for a sample without annotation, with a class that the configuration does not
    know, or of another form.
    """
    if not samples:
        raise TrainingError(
            "There are 0 labeled samples to train on. Expected at least one. Annotate the query of this round first."
        )
    return [_look_at(load, row, config, _rng(seed, _PLACES, row)) for row, load in enumerate(samples)]


def on_device(labeled: Sequence[Labeled], device: torch.device) -> list[Labeled]:
    """Keep images and masks on an accelerator, if they fit."""
    loaders = resident([sample.load for sample in labeled], device)
    return [replace(sample, load=load) for sample, load in zip(labeled, loaders, strict=True)]


def _look_at(load: LoadSample, row: int, config: TrainConfig, rng: np.random.Generator) -> Labeled:
    image, mask = load()
    if mask.ndim != config.dimensions or image.shape != (config.channels, *mask.shape):
        raise TrainingError(
            f"Training sample {row} has an image of shape {image.shape} and a mask of shape {mask.shape}. Expected "
            f"{config.channels} channels and {config.dimensions} spatial axes, the same in both. "
            "Load both on the same working grid."
        )
    # Plane by plane: a volume's mask is a memory map that may be larger than what is free.
    planes = mask if mask.ndim == 3 else mask[None]
    counts = np.stack([np.bincount(np.asarray(plane).ravel(), minlength=IGNORE + 1) for plane in planes])
    _check_labels(counts.sum(axis=0), row, config.classes)
    present = [c for c in range(config.classes) if counts[:, c].any()]
    places = {c: _places(planes, c, counts[:, c], rng)[:, 3 - mask.ndim :] for c in present}
    return Labeled(load, mask.shape, counts.sum(axis=0), places, not counts[:, IGNORE].any())


def _check_labels(counts: np.ndarray, row: int, classes: int) -> None:
    if not counts[:IGNORE].any():
        raise TrainingError(
            f"Training sample {row} is not annotated: all its {counts.sum()} voxels are 255. Expected at least one "
            "annotated voxel. Annotate it, or drop it from the round."
        )
    unknown = np.flatnonzero(counts[classes:IGNORE]) + classes
    if unknown.size:
        raise TrainingError(
            f"The mask of training sample {row} has the values {unknown.tolist()[:10]}. Expected 0 to {classes - 1}, "
            "the classes of the study, or 255 for what is not annotated. Correct the mask or the list of classes."
        )


def _places(planes: np.ndarray, label: int, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw up to PLACES distinct voxels of a class, (n, 3), evenly over the whole mask."""
    total, ends = int(counts.sum()), np.cumsum(counts)
    ranks = np.sort(rng.choice(total, PLACES, replace=False) if total > PLACES else np.arange(total))
    chosen_planes = np.searchsorted(ends, ranks, side="right")
    found = []
    for z in np.unique(chosen_planes):
        within = ranks[chosen_planes == z] - (ends[z] - counts[z])
        flat = np.flatnonzero(np.asarray(planes[z]) == label)[within]
        y, x = np.unravel_index(flat, planes.shape[1:])
        found.append(np.stack([np.full_like(y, z), y, x], axis=1))
    return np.concatenate(found).astype(np.int32)


def draw_labeled(
    labeled: Sequence[Labeled], config: TrainConfig, seed: Sequence[int], number: int
) -> tuple[Tensor, Tensor]:
    """Read the patches of batch ``number``: images (batch, channels, *patch) float32, masks (batch, *patch) uint8.

    Every sample is seen equally often, and what a batch shows depends on ``seed`` and its number alone.
    """
    rng = _rng(seed, _PATCHES, number)
    rows = rows_at(number * config.batch_size, config.batch_size, len(labeled), [*seed, _ORDER])
    images, masks = zip(*(_read_patch(labeled[row], row, config, rng) for row in rows), strict=True)
    return torch.stack(images), torch.stack(masks)


def _read_patch(sample: Labeled, row: int, config: TrainConfig, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Read one patch; where the image is smaller, its border is repeated and the mask is 255."""
    start = _patch_start(sample, config, rng)
    image, mask = sample.load()
    pixels = cut(image, start, config.patch_size)
    if wrong := not_finite(pixels):
        raise TrainingError(
            f"The image of training sample {row} has {wrong} values that are not "
            "finite. Expected numbers, at most 65504 in size after preprocessing. Repair the image or drop the case."
        )
    return pixels, cut(mask, start, config.patch_size, fill=IGNORE)


def _patch_start(sample: Labeled, config: TrainConfig, rng: np.random.Generator) -> list[int]:
    """Choose the first voxel of a patch; negative where the image is smaller than the patch and lies in its middle."""
    room = [n - p for n, p in zip(sample.shape, config.patch_size, strict=True)]
    foreground = [c for c in sample.places if c > 0]
    if foreground and rng.random() < config.foreground_share:
        centre = _near(sample.places[int(rng.choice(foreground))], config, rng)
    elif sample.complete:
        return [int(rng.integers(r + 1)) if r > 0 else -(-r // 2) for r in room]
    else:  # of a partly annotated mask, a random patch might show nothing that may be learned
        centre = _near(np.concatenate(list(sample.places.values())), config, rng)
    starts = [c - p // 2 for c, p in zip(centre, config.patch_size, strict=True)]
    return [int(np.clip(a, 0, r)) if r > 0 else -(-r // 2) for a, r in zip(starts, room, strict=True)]


def _near(places: np.ndarray, config: TrainConfig, rng: np.random.Generator) -> np.ndarray:
    """Pick a voxel, then step up to a quarter of a patch aside, so that it is not always in the middle."""
    quarter = np.array(config.patch_size) // 4
    return places[rng.integers(len(places))] + rng.integers(-quarter, quarter + 1)


def _rng(seed: Sequence[int], *stream: int) -> np.random.Generator:
    return np.random.default_rng([*seed, *stream])


def fingerprint(labeled: Sequence[Labeled]) -> str:
    """Tell these masks from others by how many voxels of each class every sample has."""
    digest = hashlib.sha256(str(len(labeled)).encode())
    for sample in labeled:
        digest.update(str(sample.shape).encode() + sample.counts.astype(np.int64).tobytes())
    return digest.hexdigest()
