"""Instance normalisation and PReLU in one, as a CPU computes them faster: the same function, the same names of weights.

PyTorch takes a dozen passes over the memory for them, copies tensors whose channels lie last to and fro, and does not vectorise
the gradient of a PReLU: together more than half of a step of training. Compiled loops need two passes each way.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nextmask.data.compiled import compiled

LANES = 64
"""Numbers side by side in one run, if the voxels of an image can be parted so."""


def quicken(network: nn.Module) -> nn.Module:
    """Put the faster form in the place of MONAI's blocks of normalisation and activation, where nothing is dropped between.

    The network itself is changed; the names of its weights are not.
    """
    for parent in list(network.modules()):
        if isinstance(block := getattr(parent, "adn", None), nn.Sequential) and _replaceable(block):
            parent.adn = NormPReLU(block)
    return network


def _replaceable(block: nn.Sequential) -> bool:
    layers = {type(each) for each in block if not (isinstance(each, nn.Dropout) and each.p == 0)}
    weighted = any(getattr(each, "affine", False) or getattr(each, "num_parameters", 1) > 1 for each in block)
    return not weighted and layers in ({nn.InstanceNorm2d, nn.PReLU}, {nn.InstanceNorm3d, nn.PReLU})


class NormPReLU(nn.Module):
    """Each channel of each image shifted and scaled to mean 0 and variance 1, then a leaky ReLU whose slope is learned.

    Ulyanov et al. 2016, https://arxiv.org/abs/1607.08022, and He et al. 2015, https://arxiv.org/abs/1502.01852.
    """

    def __init__(self, block: nn.Sequential) -> None:
        super().__init__()
        activation = block.get_submodule("A")
        assert isinstance(activation, nn.PReLU)  # else the block would have stayed
        self.A = activation

    def forward(self, values: Tensor) -> Tensor:
        """Apply it to (batch, channels, *spatial); elsewhere than on a CPU, or without numba, as PyTorch does."""
        if values.device.type == "cpu" and values.dtype in _NUMPY and not torch.compiler.is_compiling() and _loops():
            quick: Tensor = _NormPReLU.apply(values, self.A.weight)
            return quick
        return functional.prelu(functional.instance_norm(values), self.A.weight)


class _NormPReLU(torch.autograd.Function):
    """On one thread: calling others costs more, while those of PyTorch wait for work and keep the cores busy with it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, slope: Tensor) -> Tensor:
        values, channels = _channels_last(values), values.shape[1]
        out = torch.empty_like(values)
        runs = _runs(values)
        scale, shift = (np.empty((len(runs), runs.shape[2]), np.float32) for _ in range(2))
        _loops().forward(runs, np.float32(slope.item()), channels, _runs(out), scale, shift)
        ctx.save_for_backward(values, slope)
        ctx.moments = scale, shift
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        values, slope = ctx.saved_tensors
        below, of_slope = torch.empty_like(values), np.empty(len(values), np.float64)
        above = _runs(_channels_last(gradient))
        known = _runs(values), above, np.float32(slope.item()), values.shape[1], *ctx.moments
        _loops().backward(*known, _runs(below), of_slope)
        return below, torch.tensor([of_slope.sum()], dtype=slope.dtype)


_NUMPY = {torch.float32: (torch.float32, np.float32), torch.bfloat16: (torch.int16, np.uint16)}
"""As what numbers of each kind are handed to NumPy."""


def _loops() -> Any:
    return compiled("nextmask.networks.cpu_loops")


def _channels_last(values: Tensor) -> Tensor:
    """Lay (batch, channels, *spatial) so that channels lie last in memory; a copy only where they do not."""
    return values.movedim(1, -1).contiguous().movedim(-1, 1)


def _runs(values: Tensor) -> np.ndarray:
    """View such a tensor as (batch, runs, lanes)."""
    batch, channels, *spatial = values.shape
    voxels, side_by_side = prod(spatial), 1
    while channels * side_by_side < LANES and voxels % (2 * side_by_side) == 0:
        side_by_side *= 2
    seen, kind = _NUMPY[values.dtype]
    array: np.ndarray = values.detach().movedim(1, -1).view(seen).numpy().view(kind)
    return array.reshape(batch, voxels // side_by_side, channels * side_by_side)
