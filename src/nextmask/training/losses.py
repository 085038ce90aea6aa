"""What training minimises: soft Dice plus cross-entropy, over annotated voxels only."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nextmask.data.pool import IGNORE

SMOOTH = 1e-5
"""Keeps the Dice quotient finite; small, because classes that do not occur are left out of the mean anyway."""


def dice_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return soft Dice loss plus cross-entropy of a batch, blind to voxels that nobody annotated.

    ``logits`` is (batch, classes, *spatial), ``mask`` (batch, *spatial) uint8 with 255 = ignore. The gradient on an
    ignored voxel is exactly zero, and a batch of ignored voxels only has loss 0. Computed in float32 whatever the
    precision of the logits, because a sum over a million bfloat16 voxels keeps three digits.

    Where no stroke of any sample comes near, nothing is learned, and nothing can be relied on: scribbles that draw
    background only around an organ leave the far side of the image open, and structures are found there too.
    """
    logits = logits.float()
    return cross_entropy(logits, mask) + dice(logits, mask)


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the mean cross-entropy over annotated voxels, 0 where there are none."""
    total = functional.cross_entropy(logits, mask.long(), ignore_index=IGNORE, reduction="sum")
    return total / (mask != IGNORE).sum().clamp(min=1)


def dice(logits: Tensor, mask: Tensor) -> Tensor:
    """Return one minus the soft Dice, over the batch as one image, averaged over foreground classes annotated in it.

    Sums run over the whole batch: most slices lack most organs, and a Dice of every slice by itself would be a ratio of
    near-nothings. A class that nobody drew in this batch is left out: its Dice is 0 whatever is predicted, and voxels
    wrongly given to it are already charged by the cross-entropy. Background is left out because it is nearly always
    right and would only dilute the mean; with scribbles its strokes speak through the cross-entropy.
    """
    annotated = (mask != IGNORE).unsqueeze(1)
    truth = torch.stack([mask == label for label in range(1, logits.shape[1])], dim=1)
    predicted = torch.softmax(logits, dim=1)[:, 1:] * annotated
    axes = (0, *range(2, logits.ndim))
    size = truth.sum(dim=axes)
    overlap = (predicted * truth).sum(dim=axes)
    loss = 1 - (2 * overlap + SMOOTH) / (predicted.sum(dim=axes) + size + SMOOTH)
    occurs = size > 0
    return (loss * occurs).sum() / occurs.sum().clamp(min=1)
