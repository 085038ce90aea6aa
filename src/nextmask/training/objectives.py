"""OBJECTIVES: what a training may minimise, by name; `TrainConfig.objectives` says which, and with what weight."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from nextmask.training.config import TrainConfig
from nextmask.training.consistency import (
    cross_pseudo,
    fixmatch,
    mean_teacher,
    pseudo_labels,
    second_network,
    unimatch,
)
from nextmask.training.copy_paste import copy_paste
from nextmask.training.losses import cross_entropy, dice_cross_entropy
from nextmask.training.scribbles import dmpls, gated_crf, second_decoder, soft_dmpls
from nextmask.training.step import Step

RAMP = 0.4
"""Share of the iterations over which the weight of what the networks teach one another rises to its full value."""


@dataclass(frozen=True)
class Objective:
    """A loss of one step, and what it needs.

    ``needs``: "unlabeled" images, "pseudo" masks, or nothing but annotated samples. ``ramped``: it rests on what networks
    have learned already, so its weight rises from next to nothing. ``builds`` is a module that it trains beside the network,
    from a name and a function of the configuration and a seed.
    """

    loss: Callable[[Step], Tensor]
    needs: Literal["unlabeled", "pseudo"] | None = None
    ramped: bool = False
    builds: tuple[str, Callable[[TrainConfig, int], nn.Module]] | None = None


def supervised(step: Step) -> Tensor:
    """Dice and cross-entropy on whatever is annotated: masks, slices, patches, strokes, in any mixture."""
    return dice_cross_entropy(step.logits, step.masks)


def partial_cross_entropy(step: Step) -> Tensor:
    """Cross-entropy alone on whatever is annotated, as published for scribbles."""
    return cross_entropy(step.logits, step.masks)


OBJECTIVES: dict[str, Objective] = {
    "supervised": Objective(supervised),
    "partial_cross_entropy": Objective(partial_cross_entropy),
    "dmpls": Objective(dmpls, builds=("second_decoder", second_decoder)),
    "soft_dmpls": Objective(soft_dmpls, builds=("second_decoder", second_decoder)),
    "gated_crf": Objective(gated_crf, ramped=True),
    "mean_teacher": Objective(mean_teacher, "unlabeled", ramped=True),
    "fixmatch": Objective(fixmatch, "unlabeled"),
    "unimatch": Objective(unimatch, "unlabeled"),
    "cross_pseudo": Objective(cross_pseudo, "unlabeled", ramped=True, builds=("second_network", second_network)),
    "copy_paste": Objective(copy_paste, "unlabeled", ramped=True),
    "pseudo_labels": Objective(pseudo_labels, "pseudo"),
}
"""Objectives by their name in `TrainConfig.objectives` and in study.toml."""


def ramp(i: int, iterations: int) -> float:
    """Return the share of its weight that a ramped objective has at iteration i: exp(-5 (1 - t)^2), then 1."""
    t = min(1.0, i / max(1, RAMP * iterations))
    return math.exp(-5 * (1 - t) ** 2)
