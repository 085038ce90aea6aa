"""How a network runs on a device: its precision, and how its tensors lie in memory."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from nextmask.networks.architecture import Architecture


def place(network: nn.Module, config: Architecture, device: torch.device) -> nn.Module:
    """Move a network to its device and into the memory format it runs in."""
    network.to(memory_format=memory_format(config, device))  # type: ignore[call-overload]
    return network.to(device)


def autocast(config: Architecture, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which this configuration's network runs."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.precision == "bfloat16")


def in_memory_format(images: Tensor, config: Architecture) -> Tensor:
    """Lay images, (batch, channels, *patch), as this configuration's network wants them; a copy unless they lie so.

    Of one channel both layouts are the same numbers in the same order. PyTorch tells them apart by strides alone, and calls
    either contiguous in both; what follows a first convolution would lie in the wrong one and be copied by every layer.
    """
    wanted = memory_format(config, images.device)
    if images.shape[1] > 1 or wanted == torch.contiguous_format:
        return images.contiguous(memory_format=wanted)
    return torch.empty_like(images, memory_format=wanted).copy_(images)


def memory_format(config: Architecture, device: torch.device) -> torch.memory_format:
    """Return how tensors lie in memory: channels last where the network gains by it, in bfloat16 and on a CPU."""
    if config.precision == "float32" and device.type != "cpu":
        return torch.contiguous_format
    return torch.channels_last if config.dimensions == 2 else torch.channels_last_3d
