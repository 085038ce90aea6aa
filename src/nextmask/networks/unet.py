"""The network: a residual U-Net whose depth and strides follow from the patch it is trained on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nextmask.errors import TrainingError
from nextmask.networks.architecture import Architecture, possible_strides
from nextmask.networks.cpu_layers import quicken


def build_unet(config: Architecture, outputs: int, seed: int = 0) -> nn.Module:
    """Build the network that ``config`` describes, its weights drawn from ``seed``; no global generator is touched.

    A residual U-Net (Kerfoot et al. 2018, https://doi.org/10.1007/978-3-030-12029-0_40) with instance normalisation,
    because a batch of a few images has no stable batch statistics; a ``config`` with a ``norm`` may ask for "batch", one with
    ``full_resolution`` for a top level that sees every voxel.
    Takes (batch, channels, *patch), gives (batch, outputs, *patch). Raises TrainingError if the patch is too small for that
    many levels.
    """
    from monai.networks.nets.unet import UNet  # seconds to import: not before a network is wanted

    strides = strides_of(config.patch_size, len(config.features), getattr(config, "full_resolution", False))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = UNet(
            spatial_dims=config.dimensions,
            in_channels=config.channels,
            out_channels=outputs,
            channels=config.features,
            strides=strides,  # type: ignore[arg-type]  # one stride per axis works and is tested, whatever the hint says
            num_res_units=2,
            norm=getattr(config, "norm", "instance"),
            dropout=getattr(config, "dropout", 0.0),
        )
    _keep_cancelled_biases(network)
    return quicken(network)


def _keep_cancelled_biases(network: nn.Module) -> None:
    """Do not learn biases that the normalisation right behind them takes off again: only rounding gives them a gradient.

    On a CPU that gradient took a tenth of a step.
    """
    for block in network.modules():
        follows = getattr(block, "adn", None)
        if isinstance(follows, nn.Sequential) and next(follows.named_children())[0] == "N":  # MONAI's name of a norm
            block.get_parameter("conv.bias").requires_grad_(False)


def strides_of(patch_size: Sequence[int], levels: int, full_resolution: bool = False) -> list[tuple[int, ...]]:
    """Return the stride of each axis into every level but the last of so many; raise TrainingError for too small a patch.

    MONAI's U-Net halves the patch on its way into the top level, unless that is to see it in ``full_resolution``.

    >>> strides_of((16, 64, 64), 5)
    [(1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2)]
    >>> strides_of((64, 64), 4, full_resolution=True)
    [(1, 1), (2, 2), (2, 2)]
    """
    top = [(1,) * len(patch_size)] if full_resolution else []
    strides = [*top, *possible_strides(patch_size)][: levels - 1]
    if levels < 2 or len(strides) < levels - 1:
        raise TrainingError(
            f"A patch of {tuple(patch_size)} voxels cannot carry a network of {levels} levels. Expected between 2 and "
            f"{len(strides) + 1} levels, one for each width in features. Give fewer widths or a larger patch."
        )
    return strides


def contracting(network: nn.Module) -> nn.Sequential:
    """Return the contracting half of a U-Net, level by level; the very modules, not a copy."""
    levels: list[nn.Module] = []
    block: Any = network.model  # a level is: down, a skip connection around the deeper levels, up
    while isinstance(block, nn.Sequential):
        levels.append(block[0])
        block = block[1].submodule
    return nn.Sequential(*levels, block)


def expanding(network: nn.Module) -> nn.ModuleList:
    """Return the expanding half of a U-Net, level by level, the lowest first; the very modules, not a copy."""
    levels: list[nn.Module] = []
    block: Any = network.model
    while isinstance(block, nn.Sequential):
        levels.insert(0, block[2])
        block = block[1].submodule
    return nn.ModuleList(levels)


def encode(network: nn.Module, images: Tensor) -> list[Tensor]:
    """Run the contracting half: (batch, channels, *patch) -> what each level gives, the bottleneck's last."""
    activations = []
    for level in contracting(network):
        images = level(images)
        activations.append(images)
    return activations


def decode(levels: Iterable[nn.Module], activations: Sequence[Tensor]) -> Tensor:
    """Run an expanding half on what `encode` gave: (batch, outputs, *patch).

    ``decode(expanding(network), encode(network, images))`` is ``network(images)``; another network's expanding half, or
    activations that were changed on the way, give what consistency training compares.
    """
    *skips, values = activations
    for level, skip in zip(levels, reversed(skips), strict=True):
        values = level(torch.cat([skip, values], dim=1))
    return values
