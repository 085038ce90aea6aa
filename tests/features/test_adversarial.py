"""Unlabeledness: kinds of images that nobody labeled stand out, and row i is sample i."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from nextmask.errors import DataError, SelectionError, TrainingError
from nextmask.features.adversarial import (
    AdversarialConfig,
    Autoencoder,
    _read,
    _rows,
    derive_adversarial_config,
    unlabeledness,
)
from nextmask.features.unlabeled import Unlabeled

SAMPLES = 300
CONFIG = AdversarialConfig(2, 1, (16, 16), iterations=40)
FAST = replace(CONFIG, iterations=2, batch_size=4)


@cache
def _square_or_stripes(row: int) -> np.ndarray:
    """Every third image shows stripes, the others a bright square somewhere."""
    rng = np.random.default_rng(row)
    image = rng.normal(scale=0.3, size=(1, 18, 20))
    if row % 3 == 1:
        image[0, :, ::4] += 2
    else:
        y, x = rng.integers(2, 10, size=2)
        image[0, y : y + 7, x : x + 7] += 3
    return image.astype(np.float16)


def _pool(samples: int = SAMPLES, load=_square_or_stripes) -> Unlabeled:
    """Patients, volumes and places that take no part."""
    numbers = np.arange(samples)
    return Unlabeled(load, numbers, numbers, np.zeros(samples, int))


KIND = np.arange(SAMPLES) % 3 == 1
LABELED = ~KIND & (np.arange(SAMPLES) < 150)


def _ranked_above(high: np.ndarray, low: np.ndarray) -> float:
    return float((high[:, None] > low).mean())


@pytest.mark.parametrize("unseen", ["stripes", "squares"])
def test_a_kind_that_nobody_labeled_looks_less_labeled(unseen):
    new = KIND if unseen == "stripes" else ~KIND
    labeled = ~new & (np.arange(SAMPLES) < 150)
    found = unlabeledness(_pool(), labeled, CONFIG, seed=[0], device="cpu")
    assert found.shape == (SAMPLES,)
    assert found.dtype == np.float32
    assert ((found >= 0) & (found <= 1)).all()
    assert _ranked_above(found[new], found[~new & ~labeled]) > 0.9
    assert _ranked_above(found[new], found[labeled]) > 0.9


def test_where_only_one_kind_is_labeled_and_all_of_it_the_answers_lie_on_both_sides_of_a_half():
    """A discriminator that is told the same of both, as in published code, calls everything labeled, or nothing."""
    found = unlabeledness(_pool(), ~KIND, CONFIG, seed=[0], device="cpu")
    assert found[~KIND].mean() < 0.5 < found[KIND].mean()


def test_the_same_seed_gives_the_same_numbers_and_progress_is_told():
    before, told = torch.random.get_rng_state(), []
    once = unlabeledness(
        _pool(), LABELED, FAST, seed=[1], device="cpu", progress=lambda done, of: told.append((done, of))
    )
    np.testing.assert_array_equal(once, unlabeledness(_pool(), LABELED, FAST, seed=[1], device="cpu"))
    assert not np.allclose(once, unlabeledness(_pool(), LABELED, FAST, seed=[2], device="cpu"))
    assert told == [(1, 2), (2, 2)]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_batch_is_half_labeled_and_half_not():
    labeled = np.arange(20) < 3
    rows = _rows(labeled, 8, np.random.default_rng(0))
    assert labeled[rows[:8]].all()
    assert not labeled[rows[8:]].any()
    assert len(set(rows[8:].tolist())) == 8


def test_whole_images_are_seen_at_the_size_of_the_patch():
    image = np.zeros((1, 32, 64), np.float32)
    image[:, :16, 32:] = 1
    seen = _read(_pool(load=lambda row: image), np.array([0, 1]), CONFIG)
    assert seen.shape == (2, 1, 16, 16)
    torch.testing.assert_close(seen[1, 0, 2, 12], torch.tensor(1.0))
    torch.testing.assert_close(seen[1, 0, 12, 2], torch.tensor(0.0))
    assert seen.mean() == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize("patch", [(16, 16), (64, 48), (4, 32, 32), (32, 32, 16)])
def test_the_autoencoder_gives_back_the_shape_of_any_patch(patch):
    config = AdversarialConfig(len(patch), 2, patch, iterations=1)
    images = torch.randn(3, 2, *patch)
    restored, mean, log_variance = Autoencoder(config)(images, torch.Generator().manual_seed(0))
    assert restored.shape == images.shape
    assert mean.shape == log_variance.shape == (3, 32)


def test_volumes_are_told_apart_too():
    config = replace(FAST, dimensions=3, patch_size=(4, 16, 16))
    pool = _pool(6, lambda row: np.full((1, 5, 17, 20), row % 2, np.float16))
    found = unlabeledness(pool, np.arange(6) == 2, config, seed=[0], device="cpu")
    assert found.shape == (6,)


def test_settings_follow_from_the_pool():
    config = derive_adversarial_config([(10, 120, 90)] * 3, 1, 30, dimensions=2, device="cpu")
    assert config.patch_size == (64, 64)
    assert config.iterations == 100
    assert derive_adversarial_config([(40, 40)], 3, 10**6, dimensions=2, device="cpu").iterations == 1000
    assert derive_adversarial_config([(8, 60, 60)], 1, 400, dimensions=3, device="cpu").patch_size == (8, 32, 32)


@pytest.mark.parametrize("count", [0, SAMPLES])
def test_a_cold_pool_is_refused(count):
    with pytest.raises(SelectionError, match=f"{count} of {SAMPLES} samples are labeled. Expected at least one"):
        unlabeledness(_pool(), np.arange(SAMPLES) < count, FAST, seed=[0], device="cpu")


def test_images_that_are_broken_or_of_another_kind_are_named():
    def broken(row: int) -> np.ndarray:
        return np.full((1, 8, 8), np.nan if row == 30 else 0.0, np.float32)

    with pytest.raises(DataError, match="sample row 30 has 64 NaN"):
        unlabeledness(_pool(load=broken), LABELED, FAST, seed=[0], device="cpu")
    with pytest.raises(DataError, match="Expected 1 channels and 2 spatial axes"):
        unlabeledness(_pool(load=lambda row: np.zeros((2, 8, 8))), LABELED, FAST, seed=[0], device="cpu")


def test_a_training_that_explodes_is_an_error():
    with pytest.raises(TrainingError, match="Lower the learning rate"):
        unlabeledness(_pool(), LABELED, replace(FAST, learning_rate=1e30), seed=[0], device="cpu")
