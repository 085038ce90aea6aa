"""Nothing that nobody annotated has any say in what is learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nextmask.training.losses import (
    cross_entropy,
    dice,
    dice_cross_entropy,
    soft_cross_entropy,
    soft_dice,
    soft_dice_cross_entropy,
    voxel_weights,
)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((3, 4, 10, 12), generator=generator)
    mask = torch.randint(0, 4, (3, 10, 12), generator=generator, dtype=torch.uint8)
    mask[torch.rand(mask.shape, generator=generator) < 0.6] = 255
    return logits.requires_grad_(), mask


def test_the_gradient_of_an_ignored_voxel_is_exactly_zero(batch):
    logits, mask = batch
    dice_cross_entropy(logits, mask).backward()
    ignored = (mask == 255).unsqueeze(1).expand_as(logits)
    assert torch.count_nonzero(logits.grad[ignored]) == 0
    assert torch.count_nonzero(logits.grad[~ignored]) == (~ignored).sum()


def test_more_ignored_voxels_change_nothing(batch):
    logits, mask = batch
    wider = torch.cat([logits.detach(), 9 * torch.randn(3, 4, 10, 30)], dim=3).requires_grad_()
    masks = torch.cat([mask, torch.full((3, 10, 30), 255, dtype=torch.uint8)], dim=2)
    loss, more = dice_cross_entropy(logits, mask), dice_cross_entropy(wider, masks)
    loss.backward()
    more.backward()
    assert more.item() == pytest.approx(loss.item(), abs=1e-6)
    torch.testing.assert_close(wider.grad[..., :12], logits.grad, atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize("part", [cross_entropy, dice, dice_cross_entropy])
def test_a_batch_without_annotation_has_no_loss_and_no_gradient(part):
    logits = torch.randn(2, 3, 4, 4, 4).requires_grad_()
    loss = part(logits, torch.full((2, 4, 4, 4), 255, dtype=torch.uint8))
    loss.backward()
    assert loss.item() == 0
    assert torch.count_nonzero(logits.grad) == 0
    assert torch.isfinite(logits.grad).all()


def test_cross_entropy_is_the_mean_over_images_of_the_mean_over_annotated_voxels(batch):
    logits, mask = batch
    labels = mask.numpy()
    logarithms = torch.log_softmax(logits, dim=1).detach().numpy()
    of_images = [
        np.mean([logarithms[b, labels[b, y, x], y, x] for y, x in np.argwhere(labels[b] != 255)]) for b in range(3)
    ]
    naive = -np.mean(of_images)
    assert cross_entropy(logits, mask).item() == pytest.approx(naive, rel=1e-5)


def test_dice_is_the_mean_over_foreground_classes_that_occur(batch):
    logits, mask = batch
    mask[mask == 2] = 1
    probabilities, labels = torch.softmax(logits, dim=1).detach().numpy(), mask.numpy()
    weights = (labels != 255) / (labels != 255).mean(axis=(1, 2), keepdims=True)
    terms = []
    for label in (1, 3):  # 2 does not occur, 0 is background
        predicted, truth = probabilities[:, label] * weights, (labels == label) * weights
        overlap = (probabilities[:, label] * truth).sum()
        terms.append(1 - 2 * overlap / (predicted.sum() + truth.sum()))
    assert dice(logits, mask).item() == pytest.approx(np.mean(terms), rel=1e-5)


def test_strokes_count_as_much_as_a_whole_mask_and_a_few_voxels_in_proportion():
    mask = torch.full((4, 20, 20), 255, dtype=torch.uint8)
    mask[0], mask[1, 3, :8], mask[2, 0, 0] = 0, 1, 1
    total = voxel_weights(mask).flatten() * (mask != 255).flatten(1).sum(dim=1)
    assert total.tolist() == pytest.approx([400, 400, 100, 0])  # one voxel is a quarter of a hundredth of 400


def test_a_right_and_certain_prediction_has_almost_no_loss():
    mask = torch.tensor([[[0, 1], [2, 255]]], dtype=torch.uint8)
    logits = 30 * torch.nn.functional.one_hot(mask.long().clamp(max=2), 3).permute(0, 3, 1, 2).float()
    assert dice_cross_entropy(logits, mask).item() < 1e-4
    assert dice_cross_entropy(-logits, mask).item() > 10


def test_half_precision_logits_are_summed_in_single(batch):
    logits, mask = batch
    rounded = logits.detach().bfloat16()
    loss = dice_cross_entropy(rounded, mask)
    assert loss.dtype == torch.float32
    assert loss.item() == dice_cross_entropy(rounded.float(), mask).item()


def test_both_losses_at_once_are_their_sum(batch):
    logits, mask = batch
    target, weight = torch.softmax(torch.randn(logits.shape), dim=1), torch.rand(mask.shape)
    apart = soft_dice(logits, target, weight) + soft_cross_entropy(logits, target, weight)
    torch.testing.assert_close(soft_dice_cross_entropy(logits, target, weight), apart)
    torch.testing.assert_close(dice_cross_entropy(logits, mask), dice(logits, mask) + cross_entropy(logits, mask))
