"""Dropout draws from the generator that it is given, and from nothing else."""

from __future__ import annotations

import pytest
import torch

from nextmask.networks.dropout import dropouts, dropping


def test_the_mean_over_dropout_keeps_the_scale():
    layer, generator = torch.nn.Dropout(0.25).eval(), torch.Generator().manual_seed(0)
    with dropping(layer, generator):
        values = layer(torch.ones(40_000))
    assert sorted(values.unique().tolist()) == pytest.approx([0.0, 4 / 3])
    assert values.mean() == pytest.approx(1, abs=0.02)
    assert torch.equal(layer(torch.ones(9)), torch.ones(9))


def test_an_error_leaves_the_layers_as_they_were():
    layer = torch.nn.Dropout(0.25).train()
    with pytest.raises(KeyError), dropping(layer, torch.Generator()):
        raise KeyError
    assert layer.training
    assert not layer._forward_hooks


def test_in_training_mode_it_drops_once():
    layer = torch.nn.Dropout(0.5).train()
    with dropping(layer, torch.Generator().manual_seed(0)):
        values = layer(torch.ones(9_999))
    assert (values > 0).float().mean() == pytest.approx(0.5, abs=0.03)


def test_layers_that_drop_nothing_are_none():
    assert not dropouts(torch.nn.Sequential(torch.nn.Dropout(0.0), torch.nn.ReLU()))
