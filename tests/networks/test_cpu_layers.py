"""The faster forms are the same functions: values, gradients, names of weights."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from copy import deepcopy

import numpy as np
import pytest
import torch
from monai.networks.nets.unet import UNet
from tests.training.toys import SOLID, TINY
from torch import nn

from nextmask.networks import cpu_layers
from nextmask.networks.cpu_layers import NormPReLU, quicken
from nextmask.networks.running import memory_format
from nextmask.networks.unet import build_unet

CPU = torch.device("cpu")


def monais(config):
    torch.manual_seed(0)
    strides = [(2,) * config.dimensions] * (len(config.features) - 1)
    return UNet(config.dimensions, 1, 3, config.features, strides, num_res_units=2, dropout=config.dropout).double()


def gradients(network, images):
    images = images.clone().requires_grad_()
    network(images).square().sum().backward()
    return {name: weight.grad for name, weight in network.named_parameters()} | {"images": images.grad}


@pytest.mark.parametrize("config", [TINY, SOLID])
@pytest.mark.parametrize("slope", [0.25, 0.0, -0.5])
def test_values_and_gradients_are_those_of_pytorch(config, slope):
    plain = monais(config)
    for layer in plain.modules():
        if isinstance(layer, nn.PReLU):
            nn.init.constant_(layer.weight, slope)
    quick = quicken(deepcopy(plain).float()).to(memory_format=memory_format(config, CPU))
    images = torch.randn(2, 1, *config.patch_size, dtype=torch.float64)
    torch.testing.assert_close(quick(images.float()).double(), plain(images), rtol=1e-4, atol=1e-5)
    wanted, found = gradients(plain, images), gradients(quick, images.float())
    size = torch.stack([each.norm() for each in wanted.values()]).max()
    assert wanted.keys() == found.keys()
    for name, gradient in wanted.items():
        assert (found[name].double() - gradient).norm() < 1e-5 * size, name


def test_every_pair_is_replaced_and_weights_keep_their_names():
    plain, quick = monais(TINY), build_unet(TINY, 3)
    assert {name: w.shape for name, w in quick.state_dict().items()} == {
        name: w.shape for name, w in plain.state_dict().items()
    }
    left = [each for each in quick.modules() if isinstance(each, nn.InstanceNorm2d)]
    assert not left
    assert any(isinstance(each, NormPReLU) for each in quick.modules())


@pytest.mark.parametrize("changes", [{"dropout": 0.2}, {"norm": "batch"}])
def test_what_drops_or_normalises_otherwise_stays(changes):
    network = build_unet(dataclasses.replace(TINY, **changes), 3)
    assert not any(isinstance(each, NormPReLU) for each in network.modules())


@pytest.mark.parametrize("norm", [nn.InstanceNorm2d(4, affine=True), nn.InstanceNorm2d(4)])
def test_norms_with_weights_and_slopes_by_channel_stay(norm):
    network = nn.Module()
    network.adn = nn.Sequential(OrderedDict(N=norm, A=nn.PReLU(1 if norm.affine else 4)))
    assert not isinstance(quicken(network).adn, NormPReLU)


def test_a_channel_of_one_value_and_a_large_mean_give_numbers():
    layer = next(each for each in build_unet(TINY, 3).modules() if isinstance(each, NormPReLU))
    constant = torch.full((1, 4, 8, 8), 3e3, requires_grad=True)
    layer(constant).sum().backward()
    assert torch.isfinite(constant.grad).all()
    far = 1e3 + torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(layer(far).std(), layer(far - 1e3).std(), rtol=1e-3, atol=0)


def test_other_precisions_take_pytorch_s_way():
    layer = next(each for each in build_unet(TINY, 3).modules() if isinstance(each, NormPReLU))
    values = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(deepcopy(layer).double()(values.double()).float(), layer(values))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse = layer(values.bfloat16())
    torch.testing.assert_close(coarse.float(), layer(values), rtol=0.05, atol=0.05)


def layer(slope=0.25):
    block = nn.Sequential(OrderedDict(N=nn.InstanceNorm2d(4), A=nn.PReLU(init=slope)))
    return NormPReLU(block)


def both_ways(layer, values, gradient):
    """What a layer gives, and its gradients by the values and the slope."""
    values = values.detach().requires_grad_()
    layer.zero_grad()
    out = layer(values)
    out.backward(gradient)
    return out, values.grad, layer.A.weight.grad


SHAPES = [(2, 4, 8, 8), (1, 1, 33, 31), (3, 5, 7, 9), (2, 16, 64, 64), (1, 70, 3, 3), (2, 3, 5, 6, 7), (1, 4, 512, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("precision", "rounding"), [(torch.float32, 2e-6), (torch.bfloat16, 2**-8)])
@pytest.mark.parametrize("last", [False, True])
def test_each_precision_shape_and_order_in_memory(shape, precision, rounding, last):
    torch.manual_seed(0)
    values, gradient = 3 + 5 * torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
    values, gradient = (each.to(precision) for each in (values, gradient))
    if last:
        values, gradient = (each.movedim(1, -1).contiguous().movedim(-1, 1) for each in (values, gradient))
    exact = both_ways(layer().double(), values.double(), gradient.double())
    summed = both_ways(
        layer().double(), values.double(), gradient.double().abs()
    )  # terms of the slope's gradient cancel out
    sizes = [each.abs().max() for each in (exact[0], exact[1], summed[2])]
    for found, wanted, size in zip(both_ways(layer(), values, gradient), exact, sizes, strict=True):
        assert found.shape == wanted.shape
        assert (found.double() - wanted).abs().max() <= rounding * (2 + size)


def test_numbers_of_16_bits_are_rounded_as_pytorch_rounds_them():
    numba, loops = pytest.importorskip("numba"), pytest.importorskip("nextmask.networks.cpu_loops")
    store = loops._store

    @numba.njit
    def put(out, numbers):
        for lane in range(numbers.size):
            store(out, 0, 0, lane, numbers[lane])

    between = [1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8, 3.0e38, 1e-40, 0.0, torch.inf, torch.nan]  # the first three: ties
    numbers = torch.cat([torch.tensor(between), torch.randn(1000)])
    out = np.zeros((1, 1, len(numbers)), np.uint16)
    put(out, numbers.numpy())
    wanted = numbers.bfloat16()
    assert torch.equal(
        torch.from_numpy(out[0, 0].view(np.int16)).view(torch.bfloat16).nan_to_num(7), wanted.nan_to_num(7)
    )


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_what_is_not_a_number_stays_so(precision):
    values = torch.randn(2, 4, 8, 8).to(precision)
    values[0, 1, 2, 3] = torch.nan
    values[1, 2, 0, 0] = torch.inf
    lost = layer()(values).isnan().flatten(2).any(dim=2)
    assert lost.tolist() == [[False, True, False, False], [False, False, True, False]]


def test_without_numba_pytorch_does_it(monkeypatch):
    values, gradient = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    quick = both_ways(layer(), values, gradient)
    monkeypatch.setattr(cpu_layers, "_loops", lambda: None)
    monkeypatch.setattr(cpu_layers, "_NormPReLU", None)
    for found, wanted in zip(both_ways(layer(), values, gradient), quick, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
