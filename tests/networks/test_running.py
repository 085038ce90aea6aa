"""How tensors lie in memory changes the time that networks take, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.training.toys import TINY
from torch import nn

from nextmask.networks.running import in_memory_format, place
from nextmask.networks.unet import build_unet, encode
from nextmask.training.config import derive_config

CPU = torch.device("cpu")


@pytest.mark.parametrize("shape", [(64, 64), (64, 96)])
@pytest.mark.parametrize("channels", [1, 2])
def test_channels_lie_last_from_the_first_level_on(shape, channels):
    derived = derive_config([shape], channels, 3, dimensions=len(shape), device="cpu")
    config = replace(derived, full_resolution=True, precision="float32")
    network = place(build_unet(config, 3), config, CPU)
    images = torch.randn(2, channels, *config.patch_size)
    laid = in_memory_format(images, config)
    assert torch.equal(laid, images)
    lies: list[bool] = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv3d):
            layer.register_forward_hook(lambda _layer, _given, found: lies.append(found.stride(1) == 1))
    encode(network, laid)
    assert len(lies) > 2
    assert all(lies)


def test_what_lies_right_is_not_copied():
    images = in_memory_format(torch.randn(2, 3, 8, 8), TINY)
    assert in_memory_format(images, TINY).data_ptr() == images.data_ptr()
