"""What of the network is learned."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from tests.training.toys import SOLID, TINY

from nextmask.networks.unet import build_unet


def drawn(config):
    return torch.randn(2, 1, *config.patch_size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("config", [TINY, SOLID, dataclasses.replace(TINY, norm="batch", dropout=0.1)])
def test_only_what_changes_nothing_is_not_learned(config):
    network, images = build_unet(config, 3).train(), drawn(config)
    kept = [weight for weight in network.parameters() if not weight.requires_grad]
    assert kept
    torch.manual_seed(0)
    before = network(images)
    with torch.no_grad():
        for weight in kept:
            weight.add_(torch.randn_like(weight))
    torch.manual_seed(0)
    torch.testing.assert_close(network(images), before, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("config", [TINY, SOLID])
def test_whatever_changes_something_is_learned(config):
    network, images = build_unet(config, 3).train(), drawn(config)
    network.requires_grad_(True)
    network(images).square().sum().backward()
    largest = max(weight.grad.abs().max() for weight in network.parameters())
    fresh = dict(build_unet(config, 3).named_parameters())
    for name, weight in network.named_parameters():
        # Of 200 images the gradients that are rounding alone stay below 2e-7 of the largest, all others above 9e-5.
        assert fresh[name].requires_grad == bool(weight.grad.abs().max() > 1e-6 * largest), name
