"""Ways to spoil a batch of images that a network can only undo if it knows what such images look like.

Flips, local shuffling, bent grey scales, and in- or out-painting with noise, each drawn per image; everything is done on
the batch's device and drawn from one generator. Source: Zhou et al., "Models Genesis", Medical Image Analysis 2021,
https://doi.org/10.1016/j.media.2020.101840; chances and sizes as there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from nextmask.networks.augment import uniform

SHUFFLED, BENT, PAINTED, PAINTED_INSIDE = 0.5, 0.9, 0.9, 0.2
"""Shares of images that are changed each way; of those painted on, the share painted inside."""
DECREASING = 0.5
"""Share of grey scales that are turned round."""
LARGEST_WINDOW = 10
"""Windows of shuffled voxels are at most this part of an image wide."""
BOXES = 5
ENTRIES = 256
"""Points of a grey scale's curve."""


def corrupted(images: Tensor, generator: Generator) -> Tensor:
    """Spoil images, (batch, channels, *spatial); the same shape comes back."""
    spoilt = torch.where(_chosen(images, SHUFFLED, generator), shuffled_locally(images, generator), images)
    spoilt = torch.where(_chosen(images, BENT, generator), bent(spoilt, generator), spoilt)
    painted = _chosen(images, PAINTED, generator)
    inside = _chosen(images, PAINTED_INSIDE, generator)
    noise = _noise(images, generator)
    boxes, window = _boxes(images, 1 / 6, 1 / 3, BOXES, generator), _boxes(images, 3 / 7, 4 / 7, BOXES, generator)
    return torch.where(painted & torch.where(inside, boxes, ~window), noise, spoilt)


def shuffled_locally(images: Tensor, generator: Generator) -> Tensor:
    """Permute voxels within small blocks; the size of the blocks is drawn per image, and where they begin."""
    space = images.shape[2:]
    block = torch.zeros((len(images), *space), dtype=torch.int64, device=images.device)
    for axis, length in enumerate(space):
        side = 1 + uniform((len(images), 1), 0, max(1, length // LARGEST_WINDOW), generator).long()
        first = (uniform((len(images), 1), 0, 1, generator) * side).long()
        number = (torch.arange(length, device=images.device) + first) // side
        shape = [len(images)] + [length if a == axis else 1 for a in range(len(space))]
        block = block * (length + 1) + number.view(shape)
    # Sorted by block and, within a block, at random: voxel i takes what lies where the sorted order has its place.
    block = block.flatten(1).double()
    rank = torch.rand(block.shape, generator=generator, device=images.device, dtype=torch.float64)
    by_place, by_chance = torch.argsort(block, dim=1, stable=True), torch.argsort(block + rank, dim=1)
    source = torch.empty_like(by_place).scatter_(1, by_place, by_chance)
    flat = images.flatten(2)
    return flat.gather(2, source.unsqueeze(1).expand_as(flat)).view_as(images)


def bent(images: Tensor, generator: Generator) -> Tensor:
    """Map grey values through a monotone cubic Bezier curve between each image's own minimum and maximum."""
    low = images.amin(dim=_space(images), keepdim=True)
    width = (images.amax(dim=_space(images), keepdim=True) - low).clamp(min=1e-6)
    share = (images - low) / width
    x, y = _curves(len(images), generator)
    place = torch.searchsorted(x, share.flatten(1).contiguous()).clamp(1, ENTRIES - 1)
    left, right = x.gather(1, place - 1), x.gather(1, place)
    weight = ((share.flatten(1) - left) / (right - left).clamp(min=1e-6)).clamp(0, 1)
    mapped = torch.lerp(y.gather(1, place - 1), y.gather(1, place), weight).view_as(images)
    turned = _chosen(images, DECREASING, generator)
    return torch.where(turned, 1 - mapped, mapped) * width + low


def _curves(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Draw curves from (0, 0) to (1, 1) with two random control points: x and y, (count, ENTRIES), both rising."""
    t = torch.linspace(0, 1, ENTRIES, device=generator.device)
    inner = uniform((count, 2, 2), 0, 1, generator)  # curve, point, x or y
    first, second = 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2
    curve = inner[:, 0, :, None] * first + inner[:, 1, :, None] * second + t**3
    return curve[:, 0].sort(dim=1)[0].contiguous(), curve[:, 1].sort(dim=1)[0].contiguous()


def _boxes(images: Tensor, smallest: float, largest: float, most: int, generator: Generator) -> Tensor:
    """Draw one to ``most`` boxes per image, of sides between two shares of the image; True inside, (batch, 1, *spatial)."""
    space, count = images.shape[2:], len(images)
    wanted = 1 + uniform((count, 1), 0, most, generator).long()
    inside = torch.ones((count, most, *space), dtype=torch.bool, device=images.device)
    for axis, length in enumerate(space):
        side = uniform((count, most, 1), smallest * length, largest * length, generator).round().clamp(min=1)
        first = (uniform((count, most, 1), 0, 1, generator) * (length - side)).round()
        place = torch.arange(length, device=images.device)
        within = (place >= first) & (place < first + side)
        inside &= within.view(count, most, *[length if a == axis else 1 for a in range(len(space))])
    drawn = torch.arange(most, device=images.device) < wanted
    inside &= drawn.view(count, most, *[1] * len(space))
    return inside.any(dim=1, keepdim=True)


def _noise(images: Tensor, generator: Generator) -> Tensor:
    low, high = images.amin(dim=_space(images), keepdim=True), images.amax(dim=_space(images), keepdim=True)
    return torch.rand(images.shape, generator=generator, device=images.device) * (high - low) + low


def _chosen(images: Tensor, share: float, generator: Generator) -> Tensor:
    shape: Sequence[int] = (len(images), *[1] * (images.ndim - 1))
    return uniform(shape, 0, 1, generator) < share


def _space(images: Tensor) -> list[int]:
    return list(range(1, images.ndim))
