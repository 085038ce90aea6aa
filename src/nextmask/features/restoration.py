"""Restoration: give a spoilt image back as it was (Models Genesis; the task of SAAL and SAL-SMIS)."""

from __future__ import annotations

from torch import Generator, Tensor, nn
from torch.nn import functional

from nextmask.features.corrupt import corrupted
from nextmask.features.pretrain import PretrainConfig, Task
from nextmask.features.unlabeled import Batch, shuffled_passes
from nextmask.networks.running import in_memory_format
from nextmask.networks.unet import build_unet, contracting


def _loss(network: nn.Module, batch: Batch, config: PretrainConfig, generator: Generator) -> Tensor:
    clean = batch.images
    spoilt = corrupted(clean, generator)
    return functional.mse_loss(network(in_memory_format(spoilt, config)).float(), clean)


restoration = Task(
    build=lambda config, seed: build_unet(config, config.channels, seed),
    loss=_loss,
    batches=lambda pool, config, seed: shuffled_passes(len(pool), config.batch_size, seed),
    encoder=contracting,
)
"""The U-Net of the segmenter, with one linear output a channel, learns to undo corruptions; mean squared error.

Source: Zhou et al., "Models Genesis", Medical Image Analysis 2021, https://doi.org/10.1016/j.media.2020.101840. Linear
output: what is restored are z-scores, not shares of 255.
"""
