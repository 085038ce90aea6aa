"""How weights are moved: the optimiser, and its learning rate from step to step."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

WARM_UP = 0.05
"""Share of the iterations over which the learning rate rises; then it falls to 0 along a cosine."""


def adamw(network: nn.Module, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101); biases and slopes do not decay."""
    kernels = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": kernels}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, weight_decay=weight_decay, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, highest: float, i: int, iterations: int) -> None:
    """Set the learning rate of iteration i of so many."""
    for group in optimiser.param_groups:
        group["lr"] = highest * _warm_up_and_cosine(i, iterations)


def _warm_up_and_cosine(i: int, iterations: int) -> float:
    warm = max(1, round(WARM_UP * iterations))
    if i < warm:
        return (i + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (i - warm) / max(1, iterations - warm)))
