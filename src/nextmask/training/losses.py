"""What training minimises: soft Dice plus cross-entropy, over annotated voxels only."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nextmask.data.pool import IGNORE

SMOOTH = 1e-5
"""Keeps the Dice quotient finite; small, because classes that do not occur are left out of the mean anyway."""

FULL_WEIGHT = 0.01
"""Share of a patch from which on its annotation counts as much as a whole mask; below, in proportion.

An expert's strokes cover about a hundredth of an ACDC slice. A few voxels, left over at the border of a patch, should not
speak as loudly as that.
"""


def dice_cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return soft Dice loss plus cross-entropy of a batch, blind to voxels that nobody annotated.

    ``logits`` is (batch, classes, *spatial), ``mask`` (batch, *spatial) uint8 with 255 = ignore. The gradient on an
    ignored voxel is exactly zero, and a batch of ignored voxels only has loss 0. Every image counts the same, be it a
    dense mask or strokes (see `voxel_weights`). Computed in float32 whatever the precision of the logits, because a sum
    over a million bfloat16 voxels keeps three digits.
    """
    logits = logits.float()
    return cross_entropy(logits, mask) + dice(logits, mask)


def voxel_weights(mask: Tensor) -> Tensor:
    """Return the weight of an annotated voxel of each image, (batch, 1, ...), so that images weigh the same.

    Were voxels counted instead, one dense mask in a batch would drown the strokes of a hundred scribbles.
    """
    annotated = (mask != IGNORE).flatten(1).sum(dim=1)
    size = mask[0].numel()
    weights = size / annotated.clamp(min=FULL_WEIGHT * size)
    return weights.reshape(-1, *[1] * (mask.ndim - 1))


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the mean cross-entropy over annotated voxels, each weighted by `voxel_weights`; 0 where there are none."""
    of_voxels = functional.cross_entropy(logits, mask.long(), ignore_index=IGNORE, reduction="none")
    weights = voxel_weights(mask) * (mask != IGNORE)
    return (of_voxels * weights).sum() / weights.sum().clamp(min=1)


def dice(logits: Tensor, mask: Tensor) -> Tensor:
    """Return one minus the soft Dice, over the batch as one image, averaged over foreground classes annotated in it.

    Sums run over the whole batch, weighted by `voxel_weights`: most slices lack most organs, and a Dice of every slice by
    itself would be a ratio of near-nothings. A class that nobody drew in this batch is left out: its Dice is 0 whatever is
    predicted, and voxels wrongly given to it are already charged by the cross-entropy. Background is left out because it is
    nearly always right and would only dilute the mean; with scribbles its strokes speak through the cross-entropy.
    """
    weights = (voxel_weights(mask) * (mask != IGNORE)).unsqueeze(1)
    truth = torch.stack([mask == label for label in range(1, logits.shape[1])], dim=1) * weights
    predicted = torch.softmax(logits, dim=1)[:, 1:]
    axes = (0, *range(2, logits.ndim))
    size = truth.sum(dim=axes)
    overlap = (predicted * truth).sum(dim=axes)
    loss = 1 - (2 * overlap + SMOOTH) / ((predicted * weights).sum(dim=axes) + size + SMOOTH)
    occurs = size > 0
    return (loss * occurs).sum() / occurs.sum().clamp(min=1)


def soft_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean over all voxels of -sum_c target log p; ``target`` (batch, classes, *spatial) are probabilities.

    ``weight`` (batch, *spatial) counts each voxel so much; one of 0 still counts in the mean, so that a batch in which
    little is sure says little.
    """
    of_voxels = -(target * torch.log_softmax(logits.float(), dim=1)).sum(dim=1)
    return (of_voxels if weight is None else of_voxels * weight).mean()


def soft_dice(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return one minus the soft Dice with probabilities as the truth, averaged over all classes that occur in it."""
    predicted = torch.softmax(logits.float(), dim=1)
    if weight is not None:
        predicted, target = predicted * weight.unsqueeze(1), target * weight.unsqueeze(1)
    axes = (0, *range(2, logits.ndim))
    size = target.sum(dim=axes)
    loss = 1 - (2 * (predicted * target).sum(dim=axes) + SMOOTH) / (predicted.sum(dim=axes) + size + SMOOTH)
    occurs = size > 1  # voxel
    return (loss * occurs).sum() / occurs.sum().clamp(min=1)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Turn class numbers (batch, *spatial) into probabilities (batch, classes, *spatial) float32."""
    return functional.one_hot(labels.long(), classes).movedim(-1, 1).float()
