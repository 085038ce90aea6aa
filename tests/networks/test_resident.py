"""Samples kept on a device are the same numbers, read once; what does not fit, or is not finite, stays where it was.

A CPU with made-up free memory stands in for an accelerator.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tests.features.pools import config as pretraining
from tests.features.pools import pool
from tests.training.toys import SOLID, TINY, samples

from nextmask.features.pretrain import pretrain
from nextmask.features.tasks import TASKS
from nextmask.networks import resident as module
from nextmask.networks.resident import resident
from nextmask.training.train import fit

CPU = torch.device("cpu")


@pytest.fixture
def roomy(monkeypatch):
    monkeypatch.setattr(module, "free_bytes", lambda device: 2**30)


def counted(arrays):
    """Loaders that count how often they are asked."""
    asked = [0] * len(arrays)

    def loader(row):
        def load():
            asked[row] += 1
            return arrays[row]

        return load

    return [loader(row) for row in range(len(arrays))], asked


@pytest.mark.usefixtures("roomy")
def test_arrays_and_pairs_are_read_once_and_keep_their_kind():
    arrays = [np.ones((1, 4, 4), np.float16), (np.ones((1, 3, 3), np.float16), np.zeros((3, 3), np.uint8))]
    loaders, asked = counted(arrays)
    kept = resident(loaders, CPU)
    before = list(asked)
    image, (other, mask) = kept[0](), kept[1]()
    assert (image.dtype, other.dtype, mask.dtype) == (torch.float16, torch.float16, torch.uint8)
    assert np.array_equal(image.numpy(), arrays[0])
    assert asked == before


def test_what_does_not_fit_stays(monkeypatch):
    arrays = [np.ones((1, 4, 4), np.float16)] * 2
    loaders, _ = counted(arrays)
    monkeypatch.setattr(module, "free_bytes", lambda device: 64 / module.OF_FREE)
    assert isinstance(resident(loaders, CPU)[0](), torch.Tensor)
    monkeypatch.setattr(module, "free_bytes", lambda device: 63 / module.OF_FREE)
    assert resident(loaders, CPU) == loaders


def test_main_memory_keeps_nothing():
    loaders, asked = counted([np.ones((1, 4, 4), np.float16)])
    assert resident(loaders, CPU) == loaders
    assert asked == [0]


@pytest.mark.usefixtures("roomy")
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_set_that_is_not_finite_stays_where_its_reader_will_name_it(value):
    loaders, _ = counted([np.ones((1, 4, 4), np.float16), np.full((1, 4, 4), value, np.float16)])
    assert resident(loaders, CPU) == loaders


@pytest.mark.parametrize(("config", "shape"), [(TINY, (37, 29)), (SOLID, (9, 17, 14))])
def test_training_ends_at_the_same_weights(monkeypatch, config, shape):
    config = dataclasses.replace(
        config, iterations=3, objectives=(("supervised", 1.0), ("fixmatch", 1.0)), unlabeled_batch_size=2
    )
    pairs = samples(shape)
    images = [lambda load=load: load()[0] for load in samples(shape, count=9)]

    def weights():
        network = fit(pairs, config, seed=[1], device="cpu", unlabeled=images, pseudo=pairs[:2]).network
        return torch.cat([value.flatten() for value in network.state_dict().values()])

    mapped = weights()
    monkeypatch.setattr(module, "free_bytes", lambda device: 2**30)
    assert torch.equal(weights(), mapped)


def test_pretraining_ends_at_the_same_weights(monkeypatch):
    def weights():
        network = pretrain(pool(), settings, TASKS["restoration"], seed=[1], device="cpu").network
        return torch.cat([value.flatten() for value in network.state_dict().values()])

    settings = pretraining("restoration", iterations=3)
    mapped = weights()
    monkeypatch.setattr(module, "free_bytes", lambda device: 2**30)
    assert torch.equal(weights(), mapped)
