"""Rounds that a clinic does produce: no organ in them, one slice, a class that nobody drew, images of a few voxels."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from tests.training.toys import IGNORE, TINY, samples, toy

from nextmask.errors import TrainingError
from nextmask.networks.weights import read_stored
from nextmask.training.config import derive_config
from nextmask.training.objectives import OBJECTIVES
from nextmask.training.train import fit

EVERYTHING = tuple((name, 1.0) for name in OBJECTIVES if name != "supervised")
SHORT = dataclasses.replace(TINY, iterations=3)


def learned(pool, config=SHORT, **options):
    segmenter = fit(pool, config, seed=[0], device="cpu", **options)
    assert all(torch.isfinite(weight).all() for weight in segmenter.network.parameters())
    probabilities = segmenter.predict(toy((32, 32), 50)[0])
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    return segmenter


@pytest.fixture(params=["masks alone", "every objective"])
def config(request):
    if request.param == "masks alone":
        return SHORT
    return dataclasses.replace(SHORT, objectives=(("supervised", 1.0), *EVERYTHING), unlabeled_batch_size=2)


@pytest.fixture
def images():
    return [lambda k=k: toy((32, 32), k)[0] for k in range(20, 24)]


def test_a_round_without_any_foreground(config, images):
    learned(samples((32, 32), change=lambda image, mask: (image, mask * 0)), config, unlabeled=images)


def test_a_class_that_nobody_drew(config, images):
    learned(
        samples((32, 32), change=lambda image, mask: (image, np.where(mask == 2, 0, mask))), config, unlabeled=images
    )


def test_one_labeled_slice(config, images):
    learned(samples((32, 32), count=1), config, unlabeled=images)


def test_one_annotated_voxel(config, images):
    def one(image, mask):
        alone = np.full_like(mask, IGNORE)
        alone[16, 16] = mask[16, 16]
        return image, alone

    learned(samples((32, 32), change=one), config, unlabeled=images)


def test_images_smaller_than_the_network_s_stride():
    image, mask = toy((8, 9), 0)
    small = [lambda: (image[:, :3, :5], mask[:3, :5])]
    config = dataclasses.replace(derive_config([(3, 5)], 1, 3, dimensions=2, device="cpu", iterations=2), batch_size=2)
    segmenter = fit(small, config, seed=[0], device="cpu")
    assert segmenter.predict(small[0]()[0]).shape == (3, 3, 5)


def test_constant_images():
    learned(samples((32, 32), change=lambda image, mask: (image * 0, mask)))


def test_a_diverging_run_names_its_step_and_keeps_the_last_good_checkpoint(tmp_path):
    path, seen = tmp_path / "c.pt", []

    def load(k, calls=[0]):  # noqa: B006  # counts what was read, over all samples
        calls[0] += 1
        image, mask = toy((32, 32), k)
        return image.astype(np.float32) * (1e18 if calls[0] > 40 else 1), mask

    pool = [lambda k=k: load(k) for k in range(4)]
    with pytest.raises(TrainingError, match=r"loss is (nan|inf) after iteration \d+.*Lower the learning rate"):
        fit(
            pool,
            dataclasses.replace(TINY, iterations=60, learning_rate=1e3),
            seed=[0],
            device="cpu",
            checkpoint=path,
            checkpoint_seconds=0,
            progress=lambda done, total: seen.append(done),
        )
    stored = read_stored(path)
    assert stored["iteration"] == seen[-1] > 0
    assert all(torch.isfinite(weight).all() for weight in stored["network"].values())
