"""Dropout that draws from a generator of one's own, in training as in prediction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn

from nextmask.networks.share import ALONE, Share


def dropouts(network: nn.Module) -> list[nn.Dropout]:
    """List the layers of a network that drop anything."""
    return [each for each in network.modules() if isinstance(each, nn.Dropout) and each.p > 0]


@contextmanager
def dropping(network: nn.Module, generator: Generator, share: Share = ALONE) -> Iterator[None]:
    """Let the dropout layers of a network drop what ``generator`` draws, whatever mode the network is in.

    PyTorch's own layers draw from its global generator, and only in training mode, in which normalisation would follow the
    batch too. Here every other layer stays as it is, and so does all global state. ``generator`` lives on the network's device.
    Where several processes ``share`` a batch, each drops what one alone would drop in its part.
    """
    layers = [(layer, layer.training) for layer in dropouts(network)]
    hooks = [layer.register_forward_hook(partial(_drop, generator, share)) for layer, _ in layers]
    try:
        for layer, _ in layers:
            layer.eval()  # does nothing by itself, then
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for layer, mode in layers:
            layer.train(mode)


def _drop(generator: Generator, share: Share, layer: nn.Dropout, _: Any, values: Tensor) -> Tensor:
    shape = (len(values) * share.count, *values.shape[1:])
    kept = share.own(torch.rand(shape, generator=generator, device=values.device)) >= layer.p
    return values * kept / (1 - layer.p)
