"""Objectives that spread scribbles over the image: two decoders that agree, and neighbours that look alike."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn

from nextmask.networks.unet import build_unet, expanding
from nextmask.training.config import TrainConfig
from nextmask.training.losses import cross_entropy, one_hot, soft_cross_entropy, soft_dice
from nextmask.training.step import Step

DROPPED = 0.5
"""Share of the channels that the second decoder does not get."""
PSEUDO = 0.5
"""Weight of the mixed pseudo-labels beside the strokes."""

RADIUS, SIGMA_PLACE, SIGMA_INTENSITY = 5, 6.0, 0.5
"""Of the gated CRF: voxels up to which neighbours are compared, and how fast their likeness falls with distance, in
voxels, and with intensity, in standard deviations of the image (published for intensities from 0 to 1: .1)."""


def second_decoder(config: TrainConfig, seed: int) -> nn.Module:
    """Build another expanding half, with weights of its own."""
    return expanding(build_unet(config, config.classes, seed))


def dmpls(step: Step) -> Tensor:
    """Dual-branch network with mixed pseudo-labels: two decoders learn from a random mixture of what both say.

    Luo et al., "Scribble-Supervised Medical Image Segmentation via Dual-Branch Network and Dynamically Mixed Pseudo Labels
    Supervision", MICCAI 2022, https://arxiv.org/abs/2203.02106. The first decoder's cross-entropy on the strokes is the
    supervised objective; here are the second's and the pseudo-labels of both.
    """
    return _mixed(step, hard=True)


def soft_dmpls(step: Step) -> Tensor:
    """DMPLS with soft pseudo-labels, so that what is unsure stays unsure.

    Han et al., "DMSPS: Dynamically mixed soft pseudo-label supervision for scribble-supervised medical image segmentation",
    Medical Image Analysis 2024, https://doi.org/10.1016/j.media.2024.103274 (its first stage).
    """
    return _mixed(step, hard=False)


def _mixed(step: Step, *, hard: bool) -> Tensor:
    levels = step.networks.others["second_decoder"].children()
    other = step.decoded(levels, drop_channels(step.activations, step))
    share = torch.rand((), generator=step.generator, device=other.device)
    with torch.no_grad():
        mixed = share * torch.softmax(step.logits, dim=1) + (1 - share) * torch.softmax(other, dim=1)
        target = one_hot(mixed.argmax(dim=1), step.config.classes) if hard else mixed
    spread = soft_dice if hard else soft_cross_entropy
    both = (spread(step.logits, target) + spread(other, target)) / 2
    return 0.5 * cross_entropy(other, step.masks) + PSEUDO * both


def drop_channels(activations: list[Tensor], step: Step) -> list[Tensor]:
    """Set a random half of the channels of every image to 0 on each level, and double the others."""
    dropped = []
    for values in activations:
        shape = (len(values) * step.share.count, values.shape[1], *[1] * (values.ndim - 2))
        kept = step.share.own(torch.rand(shape, generator=step.generator, device=values.device)) >= DROPPED
        dropped.append(values * kept / (1 - DROPPED))
    return dropped


def gated_crf(step: Step) -> Tensor:
    """Ask neighbours that look alike for the same class, wherever nobody drew a stroke.

    Obukhov et al., "Gated CRF Loss for Weakly Supervised Semantic Image Segmentation", 2019,
    https://arxiv.org/abs/1906.04651. The energy of a pair is K_ij (1 - sum_c p_ic p_jc), K a Gaussian in place and
    intensity; the mean over voxels.
    """
    probabilities = torch.softmax(step.logits, dim=1)
    images = step.images / step.images.std(dim=tuple(range(2, step.images.ndim)), keepdim=True).clamp(min=1e-6)
    radius = RADIUS if step.config.dimensions == 2 else 2
    energy = [
        _pairs(probabilities, images, offset, step.config.dimensions) for offset in _half(radius, images.ndim - 2)
    ]
    return torch.stack(energy).sum() / probabilities[:, 0].numel()


def _half(radius: int, axes: int) -> list[tuple[int, ...]]:
    """List offsets within a radius, one of each opposite two."""
    offsets = product(range(-radius, radius + 1), repeat=axes)
    return [offset for offset in offsets if offset > (0,) * axes]


def _pairs(probabilities: Tensor, images: Tensor, offset: tuple[int, ...], axes: int) -> Tensor:
    """Sum the energy of all pairs of voxels that lie so far apart."""
    here, there = _shifted(offset)
    apart = sum(step**2 for step in offset) / (2 * SIGMA_PLACE**2)
    difference = (images[here] - images[there]).square().sum(dim=1) / (2 * SIGMA_INTENSITY**2)
    agreement = (probabilities[here] * probabilities[there]).sum(dim=1)
    return (torch.exp(-apart - difference) * (1 - agreement)).sum()


def _shifted(offset: tuple[int, ...]) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the parts of a tensor whose voxels lie ``offset`` apart."""
    here = [slice(max(-step, 0), None if step <= 0 else -step) for step in offset]
    there = [slice(max(step, 0), None if step >= 0 else step) for step in offset]
    every = (slice(None), slice(None))
    return (*every, *here), (*every, *there)
