"""Augmentation of whole batches on the training device, driven by one explicit generator.

Everything is drawn per image, and intensities per channel too (channels are contrasts of one scan, or colours).
Strengths are fixed: between half and all of what nnU-Net uses (Isensee et al. 2021, https://doi.org/10.1038/s41592-020-01008-z),
with higher chances, since training is short. What depends on the images (mirroring, angles) is handed in.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

from nextmask.data.compiled import compiled
from nextmask.data.pool import IGNORE
from nextmask.networks.architecture import is_flat

WARPED = 0.8
"""Share of images that are rotated, scaled and moved; the others stay on their grid, unblurred by interpolation."""
SCALE = 1.3
SHIFT = 0.1
"""Largest move, as a share of the patch."""
FLAT = 1e-4
"""Range of values below which a channel is one value all over but for rounding; images have a standard deviation near 1."""


def augment_batch(
    images: Tensor, masks: Tensor, generator: Generator, *, mirror: bool, rotate_degrees: float
) -> tuple[Tensor, Tensor]:
    """Return other images and masks of the same shapes: (batch, channels, *patch) float32, (batch, *patch) uint8.

    Voxels that come from outside the patch are 255 (ignore) in the mask and repeat the border in the image.
    ``generator`` must live on the device of the batch. Same generator state, same result.
    """
    images, masks = warp(images, masks, generator, mirror=mirror, rotate_degrees=rotate_degrees)
    return change_intensities(images, generator), masks


def warp(
    images: Tensor, masks: Tensor, generator: Generator, *, mirror: bool, rotate_degrees: float
) -> tuple[Tensor, Tensor]:
    """Rotate, scale, move and mirror images and masks alike."""
    transforms = random_affine(len(images), images.shape[2:], generator, mirror=mirror, rotate_degrees=rotate_degrees)
    loops = compiled("nextmask.networks.cpu_sampling") if images.ndim == 5 and images.device.type == "cpu" else None
    if loops is not None:
        return _sampled(loops, images, masks, transforms)
    grid = positions(transforms, images.shape[2:])
    images = functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
    # Outside the patch grid_sample gives 0: shifted by 255 that reads "not annotated".
    shifted = masks.unsqueeze(1).float() - IGNORE
    shifted = functional.grid_sample(shifted, grid, mode="nearest", padding_mode="zeros", align_corners=False)
    return images, (shifted + IGNORE).to(torch.uint8).squeeze(1)


def _sampled(loops: ModuleType, images: Tensor, masks: Tensor, transforms: Tensor) -> tuple[Tensor, Tensor]:
    """Do the same to volumes on a CPU in a third of the time: PyTorch takes their voxels one by one, and twice."""
    images, masks = images.contiguous(), masks.contiguous()
    moved, labels = torch.empty_like(images), torch.empty_like(masks)
    arrays = (each.numpy() for each in (images, masks, transforms.contiguous()))
    loops.sample(*arrays, np.uint8(IGNORE), moved.numpy(), labels.numpy())
    return moved, labels


def positions(transforms: Tensor, patch: Sequence[int]) -> Tensor:
    """Return where each voxel of a patch comes from, (count, *patch, d): PyTorch's affine_grid by sums, as they take less time."""
    count, dimensions = transforms.shape[:2]
    *along, found = (column.view(count, *[1] * dimensions, dimensions) for column in transforms.unbind(dim=2))
    for axis, (step, voxels) in enumerate(zip(along, reversed(patch), strict=True)):
        centres = (2 * torch.arange(voxels, device=transforms.device) + 1) / voxels - 1
        found = found + step * centres.view(-1, *[1] * (axis + 1))
    return found


def random_affine(
    count: int, patch: Sequence[int], generator: Generator, *, mirror: bool, rotate_degrees: float
) -> Tensor:
    """Draw affine maps of output to input positions, (count, d, d + 1), in grid_sample's units and order x, y, z."""
    dimensions, device = len(patch), generator.device
    chosen = uniform((count, 1), 0, 1, generator) < WARPED
    angles = uniform((count, 3), -1, 1, generator) * math.radians(rotate_degrees) * chosen
    scale = torch.exp(uniform((count, 1), -1, 1, generator) * math.log(SCALE) * chosen).repeat(1, dimensions)
    shift = uniform((count, dimensions), -2, 2, generator) * SHIFT * chosen
    mirrored = uniform((count, dimensions), 0, 1, generator) < (0.5 if mirror else 0.0)
    if is_flat(patch):
        angles, scale[:, 2], shift[:, 2] = angles * torch.tensor([1.0, 0.0, 0.0], device=device), 1.0, 0.0
    linear = _rotations(angles, dimensions) * (scale * torch.where(mirrored, -1.0, 1.0)).unsqueeze(1)
    # grid_sample measures every axis from -1 to 1: a rotation in voxels is a rotation there only on a cube.
    half = torch.tensor([n / 2 for n in reversed(patch)], device=device)
    linear = linear * half / half.unsqueeze(1)
    return torch.cat([linear, shift.unsqueeze(2)], dim=2)


def _rotations(angles: Tensor, dimensions: int) -> Tensor:
    """Turn (count, 3) angles about z, y and x into matrices (count, d, d) over the axes x, y(, z)."""
    turned = torch.eye(dimensions, device=angles.device).repeat(len(angles), 1, 1)
    for angle, (a, b) in zip(angles.T, [(0, 1), (0, 2), (1, 2)][: 1 if dimensions == 2 else 3], strict=False):
        one = torch.eye(dimensions, device=angles.device).repeat(len(angles), 1, 1)
        one[:, a, a] = one[:, b, b] = torch.cos(angle)
        one[:, a, b], one[:, b, a] = -torch.sin(angle), torch.sin(angle)
        turned = turned @ one
    return turned


def change_intensities(images: Tensor, generator: Generator) -> Tensor:
    """Change sharpness, contrast, brightness and gamma, and add noise, each in a part of the images."""
    images = _soften(images, generator)
    low, width = _range(images)
    images = _gamma(images, low, width, generator)
    mean = images.mean(dim=_space(images), keepdim=True)
    contrast = torch.exp(sometimes(images, 0.4, -0.4, 0.4, generator))
    brightness = sometimes(images, 0.4, -0.3, 0.3, generator)
    noise = torch.randn(images.shape, generator=generator, device=images.device)
    # What is one value all over, as the coordinate of a slice, was not measured and has no noise.
    strength = sometimes(images, 0.3, 0.0, 0.2, generator) * (width > FLAT)
    return (images - mean) * contrast + mean + brightness + noise * strength


def _soften(images: Tensor, generator: Generator) -> Tensor:
    """Mix in a blurred version, or one of half the resolution, as another scanner or protocol would give."""
    pool = functional.avg_pool2d if images.ndim == 4 else functional.avg_pool3d
    plane: tuple[int, ...] = (1,) if is_flat(images.shape[2:]) else (3,) * (images.ndim - 4)
    kernel = (*plane, 3, 3)
    images = torch.lerp(images, _blurred(images, kernel), sometimes(images, 0.2, 0.3, 1.0, generator))
    halves = [2 if k == 3 and n >= 4 else 1 for k, n in zip(kernel, images.shape[2:], strict=True)]
    coarse = functional.interpolate(pool(images, halves), size=images.shape[2:], mode="nearest")
    return torch.lerp(images, coarse, sometimes(images, 0.15, 0.3, 1.0, generator))


def _blurred(images: Tensor, kernel: Sequence[int]) -> Tensor:
    """Return means of 3 voxels, or of the 2 that there are at a border, along each axis whose ``kernel`` is 3."""
    for axis, (width, voxels) in enumerate(zip(kernel, images.shape[2:], strict=True), start=2):
        if width == 1 or voxels == 1:
            continue
        totals, counts = images.clone(), torch.full((voxels,), 3.0, device=images.device)
        totals.narrow(axis, 1, voxels - 1).add_(images.narrow(axis, 0, voxels - 1))
        totals.narrow(axis, 0, voxels - 1).add_(images.narrow(axis, 1, voxels - 1))
        counts[0] = counts[-1] = 2.0
        images = totals / counts.view(-1, *[1] * (images.ndim - 1 - axis))
    return images


def _range(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the minimum of each image and channel, and how far above it the maximum lies."""
    low = images.amin(dim=_space(images), keepdim=True)
    return low, images.amax(dim=_space(images), keepdim=True) - low


def _gamma(images: Tensor, low: Tensor, width: Tensor, generator: Generator) -> Tensor:
    """Bend the grey scale between the image's own minimum and maximum."""
    width = width.clamp(min=1e-6)
    gamma = torch.exp(sometimes(images, 0.4, -0.4, 0.4, generator))
    return ((images - low) / width).clamp(min=0).pow(gamma) * width + low


def _space(images: Tensor) -> list[int]:
    return list(range(2, images.ndim))


def sometimes(images: Tensor, chance: float, low: float, high: float, generator: Generator) -> Tensor:
    """Draw a number per image and channel from low..high, or 0 where no change is made; broadcasts over voxels."""
    shape = (*images.shape[:2], *([1] * (images.ndim - 2)))
    value = uniform(shape, low, high, generator)
    return torch.where(uniform(shape, 0, 1, generator) < chance, value, 0.0)


def uniform(shape: Sequence[int], low: float, high: float, generator: Generator) -> Tensor:
    """Draw numbers from low..high on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device) * (high - low) + low
