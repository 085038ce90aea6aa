"""Copy and paste between annotated and unlabeled images, in both directions."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from nextmask.data.pool import IGNORE
from nextmask.networks.augment import change_intensities, uniform
from nextmask.training.losses import dice_cross_entropy
from nextmask.training.step import Step

PASTED = 2 / 3
"""Side of the pasted box, as a share of the patch's."""
EXPECTED = 0.5
"""Weight of voxels whose label is only expected, beside those that somebody drew."""


def copy_paste(step: Step) -> Tensor:
    """Paste a box of an unlabeled image into an annotated one, and the other way round; learn both labels.

    Bai et al., "Bidirectional Copy-Paste for Semi-Supervised Medical Image Segmentation", CVPR 2023,
    https://arxiv.org/abs/2305.00673. Adapted: one training in place of two stages (the paper pretrains by pasting between
    annotated images), and an expected label is the likeliest class of the moving average, small islands and all.
    """
    count = min(len(step.images), len(step.unlabeled_images))
    images, masks = step.images[:count], step.masks[:count]
    others = change_intensities(step.unlabeled_images[:count], step.generator)
    expected = step.expected[:count].argmax(dim=1).to(torch.uint8)
    box = _box(images, step.generator)
    inwards = _loss(step, torch.where(box, others, images), masks, expected, box[:, 0])
    outwards = _loss(step, torch.where(box, images, others), masks, expected, ~box[:, 0])
    return inwards + outwards


def _loss(step: Step, images: Tensor, masks: Tensor, expected: Tensor, pasted: Tensor) -> Tensor:
    """Weigh what is drawn, outside ``pasted``, and what is expected, inside, as the paper does."""
    logits = step.student(images)
    drawn, guessed = masks.masked_fill(pasted, IGNORE), expected.masked_fill(~pasted, IGNORE)
    return (dice_cross_entropy(logits, drawn) + EXPECTED * dice_cross_entropy(logits, guessed)) / 2


def _box(images: Tensor, generator: Generator) -> Tensor:
    """Place one box for the whole batch, bool (1, 1, *patch)."""
    box = torch.ones((1, 1), dtype=torch.bool, device=images.device)
    for length in images.shape[2:]:
        side = round(PASTED * length)
        start = (uniform((1,), 0, 1, generator) * (length - side + 1)).floor()
        place = torch.arange(length, device=images.device)
        box = box.unsqueeze(-1) & ((place >= start) & (place < start + side))
    return box
