"""Weights of a pretraining load into a segmenter by name and shape, or not at all."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nextmask.errors import TrainingError
from nextmask.networks.unet import build_unet, contracting
from nextmask.networks.warm_start import WarmStart, load_into
from nextmask.training.config import TrainConfig

CONFIG = TrainConfig(2, 1, 3, (32, 32), 2, 5, 1e-3, 0.0, (4, 8, 16), False, 10.0, "float32", 0.5)


def states(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_the_encoder_is_taken_and_the_rest_stays():
    network, other = build_unet(CONFIG, 3, seed=0), build_unet(CONFIG, 1, seed=1)
    before = states(network)
    load_into(network, WarmStart(contracting(other).state_dict(), "encoder", ""))
    taken = states(contracting(network))
    assert all(torch.equal(taken[name], tensor) for name, tensor in contracting(other).state_dict().items())
    decoder = [name for name in before if ".2." in name]
    assert decoder
    assert all(torch.equal(network.state_dict()[name], before[name]) for name in decoder)


def test_all_but_the_head_is_taken():
    network, other = build_unet(CONFIG, 3, seed=0), build_unet(CONFIG, 1, seed=1)
    before, given = states(network), states(other)
    load_into(network, WarmStart(given, "all but head", ""))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name] if name.startswith("model.2.") else given[name])


@pytest.mark.parametrize("part", ["encoder", "all but head"])
def test_what_does_not_fit_is_listed_and_nothing_is_changed(part):
    network = build_unet(CONFIG, 3, seed=0)
    other = build_unet(dataclasses.replace(CONFIG, features=(4, 8, 32)), 3, seed=1)
    given = (contracting(other) if part == "encoder" else other).state_dict()
    before = states(network)
    with pytest.raises(TrainingError, match=r"instead of \(16"):
        load_into(network, WarmStart(given, part, ""))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    with pytest.raises(TrainingError, match="missing"):
        load_into(network, WarmStart({}, part, ""))
