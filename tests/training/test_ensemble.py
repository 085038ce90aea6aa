"""Several networks predict as one, stream one by one, come back from one file, and go on where they were interrupted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tests.training.test_train import Interrupted, interrupt_at, same_weights
from tests.training.toys import TINY, samples, toy

from nextmask.errors import TrainingError
from nextmask.networks.warm_start import WarmStart
from nextmask.training import train
from nextmask.training.ensemble import fit_members
from nextmask.training.predict import Segmenter, load_segmenter, save_segmenter
from nextmask.training.train import fit
from nextmask.training.views import mirrored_views

SHORT = dataclasses.replace(TINY, iterations=3)


def trained(folder, members=3, config=SHORT, **options):
    return fit_members(samples((32, 32)), config, members, seed=[4], device="cpu", folder=folder, **options)


def test_members_differ_and_the_first_is_a_training_of_its_own(tmp_path):
    ensemble = trained(tmp_path)
    singles = [Segmenter(SHORT, network) for network in ensemble.networks]
    assert len(singles) == 3
    assert same_weights(singles[0], fit(samples((32, 32)), SHORT, seed=[4], device="cpu"))
    assert not same_weights(singles[0], singles[1])
    assert not same_weights(singles[1], singles[2])


def test_the_mean_of_the_members_predicts(tmp_path):
    ensemble = trained(tmp_path)
    image, _ = toy((8, 40, 33), 9)
    alone = [Segmenter(SHORT, network).predict(image) for network in ensemble.networks]
    np.testing.assert_allclose(ensemble.predict(image), np.mean(alone, axis=0), atol=1e-6)
    for member, own in zip(ensemble.predict_members(image), alone, strict=True):
        np.testing.assert_array_equal(member, own)
    flips = [list(mirrored_views(Segmenter(SHORT, network).predict, image)) for network in ensemble.networks]
    np.testing.assert_allclose(list(mirrored_views(ensemble.predict, image)), np.mean(flips, axis=0), atol=1e-6)


def test_an_ensemble_comes_back_as_it_went(tmp_path):
    ensemble = trained(tmp_path / "work")
    save_segmenter(ensemble, tmp_path / "s.pt")
    back = load_segmenter(tmp_path / "s.pt", "cpu")
    image, _ = toy((32, 32), 9)
    assert len(back.networks) == 3
    np.testing.assert_array_equal(back.predict(image), ensemble.predict(image))


def test_finished_members_are_not_trained_again(tmp_path):
    with pytest.raises(Interrupted):
        trained(tmp_path, progress=interrupt_at(5), checkpoint_seconds=0)
    seen = []
    resumed = trained(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 9) for k in range(6, 10)]
    whole = trained(tmp_path / "anew")
    for one, other in zip(resumed.networks, whole.networks, strict=True):
        assert same_weights(Segmenter(SHORT, one), Segmenter(SHORT, other))


def test_snapshots_are_members_of_one_training(tmp_path):
    config = dataclasses.replace(TINY, iterations=6, snapshots=3)
    whole = fit(samples((32, 32)), config, seed=[4], device="cpu")
    assert len(whole.networks) == 3
    assert not same_weights(Segmenter(config, whole.networks[1]), Segmenter(config, whole.networks[2]))
    options = {"seed": [4], "device": "cpu", "checkpoint": tmp_path / "c.pt"}
    with pytest.raises(Interrupted):
        fit(samples((32, 32)), config, **options, checkpoint_seconds=0, progress=interrupt_at(5))
    resumed = fit(samples((32, 32)), config, **options)
    for one, other in zip(resumed.networks, whole.networks, strict=True):
        assert same_weights(Segmenter(config, one), Segmenter(config, other))


def test_every_cycle_of_the_learning_rate_ends_at_its_snapshot():
    config = dataclasses.replace(TINY, iterations=7, snapshots=3)
    places = [train._cycle(i, config) for i in range(7)]
    assert places == [(0, 3), (1, 3), (2, 3), (0, 2), (1, 2), (0, 2), (1, 2)]
    with pytest.raises(TrainingError, match="leave 8 snapshots"):
        fit(samples((32, 32)), dataclasses.replace(config, snapshots=8), seed=[4], device="cpu")


def test_members_go_on_from_members(tmp_path):
    first = trained(tmp_path / "first", members=2)
    starts = [WarmStart(network.state_dict(), "all", "x") for network in first.networks]
    still = dataclasses.replace(SHORT, iterations=1, learning_rate=0.0)
    second = trained(tmp_path / "second", members=2, config=still, starts=starts)
    for one, other in zip(first.networks, second.networks, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
