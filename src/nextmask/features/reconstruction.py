"""Reconstruction: give a whole image back from its bottleneck, with parts of it hidden (COLosSAL's features, mended)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from nextmask.features.pretrain import PretrainConfig, Task, its_encoder
from nextmask.features.unlabeled import Batch, shuffled_passes
from nextmask.networks.augment import uniform
from nextmask.networks.running import in_memory_format
from nextmask.networks.unet import build_unet, contracting, strides_of

HIDDEN = 0.4
"""Share of an image that is hidden, in cells."""
CELLS = 8
"""Cells along each axis; fewer where an axis has fewer voxels."""


class SkipFree(nn.Module):
    """The contracting half of a U-Net and a way up without skip connections, so that the bottleneck carries the image."""

    def __init__(self, config: PretrainConfig, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.encoder = contracting(build_unet(config, config.channels, seed))
            self.decoder = _decoder(config)

    def forward(self, images: Tensor) -> Tensor:
        """Give (batch, channels, *patch) back."""
        restored: Tensor = self.decoder(self.encoder(images))
        return restored


def _decoder(config: PretrainConfig) -> nn.Sequential:
    convolution = nn.Conv2d if config.dimensions == 2 else nn.Conv3d
    norm = nn.InstanceNorm2d if config.dimensions == 2 else nn.InstanceNorm3d
    layers: list[nn.Module] = []
    strides: Sequence[tuple[int, ...]] = strides_of(config.patch_size, len(config.features))
    for level in range(len(strides) - 1, -1, -1):
        layers += [
            nn.Upsample(scale_factor=tuple(float(s) for s in strides[level])),
            convolution(config.features[level + 1], config.features[level], 3, padding=1),
            norm(config.features[level]),
            nn.PReLU(),
        ]
    return nn.Sequential(*layers, convolution(config.features[0], config.channels, 3, padding=1))


def hidden(images: Tensor, generator: Generator) -> Tensor:
    """Draw which cells of each image are hidden: True there, (batch, 1, *spatial)."""
    space = images.shape[2:]
    drawn = (uniform((len(images), 1, *cells_of(space)), 0, 1, generator) < HIDDEN).float()
    return functional.interpolate(drawn, size=space, mode="nearest") > 0


def cells_of(space: Sequence[int]) -> tuple[int, ...]:
    """Say into how many cells each axis of an image is divided."""
    return tuple(min(CELLS, length) for length in space)


def _loss(network: nn.Module, batch: Batch, config: PretrainConfig, generator: Generator) -> Tensor:
    clean = batch.images
    seen = torch.where(hidden(clean, generator), torch.zeros_like(clean), clean)
    return functional.mse_loss(network(in_memory_format(seen, config)).float(), clean)


reconstruction = Task(
    build=SkipFree,
    loss=_loss,
    batches=lambda pool, config, seed: shuffled_passes(len(pool), config.batch_size, seed),
    encoder=its_encoder,
)
"""A masked auto-encoder without skip connections; mean squared error over the whole image.

Source: the features of Liu et al., "COLosSAL", MICCAI 2023, https://arxiv.org/abs/2307.12004, come of an auto-encoder. Theirs
kept the skip connections of its U-Net, by which an image passes around the bottleneck; here there are none. Hiding cells:
He et al., "Masked autoencoders are scalable vision learners", CVPR 2022, https://arxiv.org/abs/2111.06377.
"""
