"""Objectives that learn from unlabeled images: what is sure in one view of an image should be said of every other."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn

from nextmask.networks.augment import change_intensities, uniform
from nextmask.networks.unet import build_unet, encode, expanding
from nextmask.training.config import TrainConfig
from nextmask.training.losses import cross_entropy, dice_cross_entropy, one_hot, soft_dice_cross_entropy
from nextmask.training.scribbles import drop_channels
from nextmask.training.step import Step

SURE = 0.95
"""Probability from which a prediction is taken for a pseudo-label."""
MIXED = 0.5
"""Share of the images into which a part of another one is cut."""
LEAST, MOST = 0.02, 0.4
"""Share of an image that is cut into another one."""


def mean_teacher(step: Step) -> Tensor:
    """Ask the student, shown a noisy view, to say what its moving average says of the image.

    Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017, https://arxiv.org/abs/1703.01780.
    """
    noisy = change_intensities(step.unlabeled_images, step.generator)
    return (torch.softmax(step.student(noisy), dim=1) - step.expected).square().mean()


def fixmatch(step: Step) -> Tensor:
    """Teach a strongly changed view, parts of other images cut in, what is sure of the unchanged one.

    Sohn et al., "FixMatch", NeurIPS 2020, https://arxiv.org/abs/2001.07685, with CutMix as in French et al., BMVC 2020,
    https://arxiv.org/abs/1906.01916. What is not sure is ignored; a public port made it background.
    """
    return _strong(step)


def unimatch(step: Step) -> Tensor:
    """FixMatch with two strong views and one of which half of the features are dropped.

    Yang et al., "Revisiting Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation", CVPR 2023,
    https://arxiv.org/abs/2208.09910, with its weights: a quarter for each strong view, half for the dropped features.
    """
    activations = encode(step.networks.student, step.laid_out(step.unlabeled_images))
    perturbed = step.decoded(expanding(step.networks.student), drop_channels(activations, step))
    return 0.25 * _strong(step) + 0.25 * _strong(step) + 0.5 * _sure_loss(perturbed, step.expected)


def _strong(step: Step) -> Tensor:
    images = change_intensities(
        change_intensities(step.unlabeled_images, step.generator), step.generator
    )  # as strong again as what annotated images go through
    parts = cut_boxes(images, step.generator)
    images, expected = mix(images, parts), mix(step.expected, parts)
    return _sure_loss(step.student(images), expected)


def _sure_loss(logits: Tensor, expected: Tensor) -> Tensor:
    """Compare with the likeliest class where it is sure; elsewhere nothing is learned."""
    confidence, labels = expected.max(dim=1)
    sure = (confidence >= SURE).float()
    target = one_hot(labels, logits.shape[1])
    return soft_dice_cross_entropy(logits, target, sure) / 2


def cut_boxes(images: Tensor, generator: Generator) -> Tensor:
    """Draw a box in half of the images, bool (batch, 1, *patch): where another image is to show (CutMix)."""
    count, shape = len(images), images.shape[2:]
    share = uniform((count, 1), LEAST, MOST, generator) ** (1 / len(shape))
    aspect = torch.exp(uniform((count, len(shape)), -1, 1, generator) * math.log(2))
    sides = (share * aspect / aspect.prod(dim=1, keepdim=True) ** (1 / len(shape))).clamp(max=1)
    start = uniform((count, len(shape)), 0, 1, generator) * (1 - sides)
    chosen = uniform((count, 1), 0, 1, generator) < MIXED
    box = torch.ones((count, 1, *shape), dtype=torch.bool, device=images.device)
    for axis, length in enumerate(shape):
        place = (torch.arange(length, device=images.device) + 0.5) / length
        low, high = start[:, axis : axis + 1], (start + sides)[:, axis : axis + 1]
        inside = (place >= low) & (place < high) & chosen
        box &= inside.reshape(count, 1, *[length if a == axis else 1 for a in range(len(shape))])
    return box


def mix(values: Tensor, boxes: Tensor) -> Tensor:
    """Show the next image of the batch inside the boxes."""
    return torch.where(boxes, values.roll(1, dims=0), values)


def second_network(config: TrainConfig, seed: int) -> nn.Module:
    """Build another network, with weights of its own."""
    return build_unet(config, config.classes, seed)


def cross_pseudo(step: Step) -> Tensor:
    """Train a second network on the same masks, and each on what the other says of the unlabeled images.

    Chen et al., "Semi-Supervised Semantic Segmentation with Cross Pseudo Supervision", CVPR 2021,
    https://arxiv.org/abs/2106.01226.
    """
    second = step.networks.others["second_network"]
    of_masks = step.said(second, step.images)
    mine, others = step.student(step.unlabeled_images), step.said(second, step.unlabeled_images)
    agreed = cross_entropy(mine, _likeliest(others)) + cross_entropy(others, _likeliest(mine))
    return dice_cross_entropy(of_masks, step.masks) + agreed


def _likeliest(logits: Tensor) -> Tensor:
    return logits.detach().argmax(dim=1).to(torch.uint8)


def pseudo_labels(step: Step) -> Tensor:
    """Learn from masks that the last round's segmenter predicted, where it was sure (CEAL).

    Gorriz et al., "Cost-effective active learning for melanoma segmentation", 2017, https://arxiv.org/abs/1711.09168.
    Made anew in every round; voxels that were not sure are 255.
    """
    if step.pseudo is None:
        return step.images.new_zeros(())
    images, masks = step.pseudo
    return dice_cross_entropy(step.student(images), masks)
