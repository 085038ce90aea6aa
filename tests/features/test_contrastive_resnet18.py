"""Contrastive learning with the papers' own network, a ResNet-18."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nextmask.errors import SelectionError
from nextmask.features.contrastive import Projector
from nextmask.features.pretrain import LearnedEncoder, PretrainConfig, load_encoder, pretrain, save_encoder
from nextmask.features.tasks import TASKS, derive_pretrain_config
from nextmask.features.unlabeled import Unlabeled


def _config(task: str = "contrastive", shape: tuple[int, ...] = (32, 32), **options: object) -> PretrainConfig:
    asked = {"network": "resnet18", **options}
    return derive_pretrain_config(task, [shape], 1, dimensions=len(shape), device="cpu", iterations=2, options=asked)


def _image(row: int) -> np.ndarray:
    return np.random.default_rng(row).normal(size=(1, 30, 36)).astype(np.float16)


def _pool() -> Unlabeled:
    rows = np.arange(30)
    return Unlabeled(_image, rows // 6, rows // 3, rows % 3)


def test_the_projection_is_512_512_64_without_bias_and_the_first_convolution_shrinks():
    network = Projector(_config(), 0)
    shapes = [tuple(layer.weight.shape) for layer in network.head if isinstance(layer, nn.Linear)]
    assert shapes == [(512, 512), (64, 512)]
    assert not any(isinstance(layer, nn.BatchNorm1d) for layer in network.head)
    assert all(layer.bias is None for layer in network.head if isinstance(layer, nn.Linear))
    first = network.encoder[0]
    assert (tuple(first.weight.shape), first.stride) == ((64, 1, 7, 7), (2, 2))
    assert network.encoder.eval()(torch.zeros(2, 1, 64, 64)).shape == (2, 512, 2, 2)


@pytest.mark.parametrize("task", ["contrastive", "group_contrastive"])
def test_it_learns_describes_and_comes_back_from_its_file(tmp_path, task):
    config = _config(task)
    encoder = pretrain(_pool(), config, TASKS[task], seed=[0], device="cpu")
    described = encoder.encode(_image(3))
    assert described.shape == (512,)
    untrained = LearnedEncoder(config, TASKS[task], Projector(config, 0).eval())
    assert not np.allclose(described, untrained.encode(_image(3)))
    save_encoder(encoder, tmp_path / "encoder.pt")
    np.testing.assert_array_equal(load_encoder(tmp_path / "encoder.pt", TASKS, "cpu").encode(_image(3)), described)


def test_volumes_have_a_network_of_three_dimensions():
    network = Projector(_config(shape=(8, 32, 32)), 0).eval()
    assert network(torch.zeros(2, 1, 8, 32, 32)).shape == (2, 64)


def test_the_segmenters_network_stays_the_default():
    config = derive_pretrain_config("contrastive", [(32, 32)], 1, dimensions=2, device="cpu")
    assert config.options["network"] == "unet"
    assert Projector(config, 0).head[1].weight.shape[0] == config.features[-1] != 512


def test_a_network_that_does_not_exist_is_named():
    with pytest.raises(SelectionError, match=r"network = 'resnet50'. Expected one of unet, resnet18"):
        Projector(_config(network="resnet50"), 0)
