"""What training minimises: soft Dice plus cross-entropy, over annotated voxels only."""

from __future__ import annotations

import torch
from torch import Tensor

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
    logged, (truth, weights) = _logged(logits), _weighted(mask, logits.shape[1])
    return _cross_entropy(logged, truth, weights) + _dice(logged, truth, weights)


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
    return _cross_entropy(_logged(logits), *_weighted(mask, logits.shape[1]))


def dice(logits: Tensor, mask: Tensor) -> Tensor:
    """Return one minus the soft Dice, over the batch as one image, averaged over foreground classes annotated in it.

    Sums run over the whole batch, weighted by `voxel_weights`: most slices lack most organs, and a Dice of every slice by
    itself would be a ratio of near-nothings. A class that nobody drew in this batch is left out: its Dice is 0 whatever is
    predicted, and voxels wrongly given to it are already charged by the cross-entropy. Background is left out because it is
    nearly always right and would only dilute the mean; with scribbles its strokes speak through the cross-entropy.
    """
    return _dice(_logged(logits), *_weighted(mask, logits.shape[1]))


def soft_dice_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the sum of `soft_dice` and `soft_cross_entropy`, of probabilities that are computed once."""
    logged = _logged(logits)
    return _soft_cross_entropy(logged, target, weight) + _soft_dice(logged, target, weight)


def soft_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean over all voxels of -sum_c target log p; ``target`` (batch, classes, *spatial) are probabilities.

    ``weight`` (batch, *spatial) counts each voxel so much; one of 0 still counts in the mean, so that a batch in which
    little is sure says little.
    """
    return _soft_cross_entropy(_logged(logits), target, weight)


def soft_dice(logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return one minus the soft Dice with probabilities as the truth, averaged over all classes that occur in it."""
    return _soft_dice(_logged(logits), target, weight)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Turn class numbers (batch, *spatial) into probabilities (batch, classes, *spatial) float32."""
    return _is_each(labels, classes).float()


def _logged(logits: Tensor) -> Tensor:
    """Return log p, from which both losses are computed: a second softmax, and its way back, would be most of their time."""
    return torch.log_softmax(logits.float(), dim=1)


def _weighted(mask: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Return the weight of each voxel in the class it is of, (batch, classes, *spatial), and in all, (batch, 1, *spatial)."""
    weights = (voxel_weights(mask) * (mask != IGNORE)).unsqueeze(1)
    return _is_each(mask, classes) * weights, weights


def _is_each(labels: Tensor, classes: int) -> Tensor:
    return torch.stack([labels == label for label in range(classes)], dim=1)


def _cross_entropy(logged: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    return -(logged * truth).sum() / weights.sum().clamp(min=1)


def _dice(logged: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    predicted, axes = logged.exp(), _all_but_classes(logged)
    size = truth.sum(dim=axes)
    loss = 1 - (2 * (predicted * truth).sum(dim=axes) + SMOOTH) / ((predicted * weights).sum(dim=axes) + size + SMOOTH)
    occurs = size > 0
    occurs[0] = False  # background
    return (loss * occurs).sum() / occurs.sum().clamp(min=1)


def _soft_cross_entropy(logged: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    of_voxels = -(target * logged).sum(dim=1)
    return (of_voxels if weight is None else of_voxels * weight).mean()


def _soft_dice(logged: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    predicted, axes = logged.exp(), _all_but_classes(logged)
    if weight is not None:
        predicted, target = predicted * weight.unsqueeze(1), target * weight.unsqueeze(1)
    size = target.sum(dim=axes)
    loss = 1 - (2 * (predicted * target).sum(dim=axes) + SMOOTH) / (predicted.sum(dim=axes) + size + SMOOTH)
    occurs = size > 1  # voxel
    return (loss * occurs).sum() / occurs.sum().clamp(min=1)


def _all_but_classes(values: Tensor) -> tuple[int, ...]:
    return (0, *range(2, values.ndim))
