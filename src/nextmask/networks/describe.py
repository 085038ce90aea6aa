"""Vectors that describe images: what a network says at its deepest level, averaged over space."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from nextmask.networks.architecture import Architecture
from nextmask.networks.running import autocast, in_memory_format


@torch.inference_mode()
def describe(encoder: nn.Module, batch: Tensor, config: Architecture, *, at_a_time: int, grid: int = 1) -> Tensor:
    """Describe images, (n, channels, *spatial), by their activations, (n, widths x grid^axes) float32 on the CPU.

    ``encoder`` gives (n, widths, *bottom). Averaged over ``grid`` parts along every axis, and over tiles of the training
    patch, so that normalisation sees as much of an image as in training. ``at_a_time`` bounds the memory.
    """
    batch = pad(batch, config.patch_size)
    tiles = list(tiles_of(tuple(batch.shape[2:]), config.patch_size))
    parts = [_of_tile(encoder, batch[:, :, *tile], config, at_a_time, grid) for tile in tiles]
    return torch.stack(parts).mean(dim=0)


def _of_tile(encoder: nn.Module, tile: Tensor, config: Architecture, at_a_time: int, grid: int) -> Tensor:
    device, pooled = next(encoder.parameters()).device, []
    pool = functional.adaptive_avg_pool2d if config.dimensions == 2 else functional.adaptive_avg_pool3d
    for part in tile.split(max(at_a_time, 1)):
        part = in_memory_format(part.to(device), config)
        with autocast(config, device):
            activations = encoder(part)
        pooled.append(pool(activations.float(), grid).flatten(1).cpu())
    return torch.cat(pooled)


def pad(batch: Tensor, patch: tuple[int, ...]) -> Tensor:
    """Repeat the borders of images that are smaller than a patch; they lie in its middle."""
    missing = [max(0, p - n) for p, n in zip(patch, batch.shape[2:], strict=True)]
    sides = [side for short in reversed(missing) for side in (short // 2, short - short // 2)]
    return functional.pad(batch, sides, mode="replicate") if any(missing) else batch


def tiles_of(shape: tuple[int, ...], patch: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    """Cover an image of at least one patch with as few patches as possible; the last of a row is moved inwards."""
    starts = [sorted({min(s, n - p) for s in range(0, n, p)}) for n, p in zip(shape, patch, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(start, start + p) for start, p in zip(corner, patch, strict=True))
