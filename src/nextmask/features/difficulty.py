"""How hard an image is to restore: what a masked auto-encoder puts into the same gap, seeing other parts of the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nextmask.features.pretrain import LearnedEncoder
from nextmask.features.reconstruction import HIDDEN, cells_of
from nextmask.networks.describe import pad, tiles_of
from nextmask.networks.running import autocast, in_memory_format

MASKINGS = 8
"""Times that an image is restored, each time with other parts of it hidden."""


@torch.inference_mode()
def restoration_difficulty(encoder: LearnedEncoder, image: np.ndarray, *, seed: Sequence[int] = (0,)) -> float:
    """Say how much the restorations of one image, (channels, *spatial), contradict one another; 0 where they agree.

    ``encoder`` is what the task "reconstruction" gave. Per voxel the variance over the maskings that hid it, then the mean
    over voxels and channels: of z-scores, and no larger for a larger field of view. The maskings depend on the seed alone,
    the same ones for every image, so that images are compared under equal conditions. Images larger than the training
    patch are restored tile by tile.

    Source: the uncertainty of Zhu et al., "CSAL-3D", MICCAI 2025, https://papers.miccai.org/miccai-2025/0198-Paper2315.html,
    is the variance of nine restorations by in-painting. Adapted: of eight maskings each cell is hidden by three, and its
    voxels are compared over these alone (where a voxel is seen, a restoration copies rather than guesses).
    """
    whole = torch.from_numpy(np.array(image, dtype=np.float32)).unsqueeze(0)
    padded = pad(whole, encoder.config.patch_size)
    masks = draw_maskings(encoder.config.patch_size, seed)
    variance = torch.empty_like(padded[0])
    for tile in tiles_of(tuple(padded.shape[2:]), encoder.config.patch_size):
        variance[:, *tile] = _variance(encoder, padded[0][:, *tile], masks)
    return float(variance[:, *_inside(padded.shape[2:], whole.shape[2:])].double().mean())


def draw_maskings(patch: Sequence[int], seed: Sequence[int]) -> Tensor:
    """Draw which voxels of a patch each masking hides, (MASKINGS, 1, *patch) bool.

    Every cell is hidden by the same number of them, drawn for each cell by itself: a single masking looks as in
    pretraining, and no voxel is left without a variance.
    """
    times = round(HIDDEN * MASKINGS)
    ranks = np.random.default_rng(seed).random((MASKINGS, 1, *cells_of(patch))).argsort(axis=0)
    return functional.interpolate(torch.from_numpy(ranks < times).float(), size=tuple(patch), mode="nearest") > 0


def _variance(encoder: LearnedEncoder, tile: Tensor, masks: Tensor) -> Tensor:
    """Restore a tile, (channels, *patch), once a masking; the variance of each voxel over those that hid it."""
    seen = torch.where(masks, torch.zeros_like(tile), tile)
    restored = torch.cat([_restored(encoder, part) for part in seen.split(encoder.config.batch_size)])
    count = masks.sum(dim=0)
    mean = (restored * masks).sum(dim=0) / count
    return ((restored - mean).square() * masks).sum(dim=0) / (count - 1)


def _restored(encoder: LearnedEncoder, images: Tensor) -> Tensor:
    device = next(encoder.network.parameters()).device
    with autocast(encoder.config, device):
        restored: Tensor = encoder.network(in_memory_format(images.to(device), encoder.config))
    return restored.float().cpu()


def _inside(padded: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """Find the image in the middle of its padding."""
    return tuple(slice((p - n) // 2, (p - n) // 2 + n) for p, n in zip(padded, shape, strict=True))
