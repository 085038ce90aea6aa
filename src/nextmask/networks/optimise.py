"""How weights are moved: the optimiser, its learning rate from step to step, and what is drawn on the way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nextmask.networks.share import ALONE, Share

LARGEST_GRADIENT = 5.0
CHECKED_EVERY = 25
"""Iterations between looks at the loss: on an accelerator a look waits for everything that is queued."""
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


def descend(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    losses: Iterable[Tensor],
    count: int = 1,
    share: Share = ALONE,
) -> Tensor:
    """Move the weights one step down the mean of ``count`` losses, its gradient cut to LARGEST_GRADIENT; return its value.

    The losses may be made one at a time: each is taken back through the network before the next is asked for. The value is
    not a number where the gradient was not finite, although the loss may have been: the weights are lost then. Processes that
    ``share`` the batches make the same step, down the sum of their gradients.
    """
    optimiser.zero_grad(set_to_none=True)
    total = torch.zeros(())
    for loss in losses:
        (loss / count).backward()
        total = total.to(loss.device) + loss.detach() / count
    share.add_up(weight.grad for weight in network.parameters())
    norm = nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
    optimiser.step()
    return total + 0 * norm


def torch_seed(seed: Sequence[int], *stream: int) -> int:
    """Derive the seed of one stream of randomness, for a generator of PyTorch's."""
    return int(np.random.default_rng([*seed, *stream]).integers(2**63 - 1))
