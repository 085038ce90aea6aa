"""Difficulty: how much the restorations of an image contradict one another."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from nextmask.features.difficulty import MASKINGS, draw_maskings, restoration_difficulty
from nextmask.features.pretrain import LearnedEncoder, PretrainConfig, pretrain
from nextmask.features.reconstruction import HIDDEN, reconstruction
from nextmask.features.unlabeled import Unlabeled

FLAT = PretrainConfig("reconstruction", 2, 1, (32, 32), (8, 16, 16), "float32", 8, 150, 3e-3, 1e-4)
SOLID = dataclasses.replace(FLAT, dimensions=3, patch_size=(8, 16, 16), features=(4, 8))


def standardised(image):
    return ((image - image.mean()) / image.std()).astype(np.float32)[None]


def smooth(rng, shape=(32, 32)):
    """A gradient: from any part of it the rest can be told."""
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"), -1)
    return standardised(places @ rng.standard_normal(len(shape)))


def textured(rng, shape=(32, 32)):
    """Blobs of a cell's size: what is hidden of them nobody can tell."""
    return standardised(gaussian_filter(rng.standard_normal(shape), 2, mode="wrap"))


def untrained(config=FLAT, seed=1):
    return LearnedEncoder(config, reconstruction, reconstruction.build(config, seed).eval())


@pytest.fixture(scope="module")
def trained():
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    images = [smooth(rng) for _ in range(12)] + [textured(rng) for _ in range(12)]
    pool = Unlabeled(images.__getitem__, np.arange(24), np.arange(24), np.zeros(24, int))
    return pretrain(pool, FLAT, reconstruction, seed=[0], device="cpu")


def test_what_cannot_be_told_from_its_surroundings_is_more_difficult(trained):
    rng = np.random.default_rng(1)
    easy = [restoration_difficulty(trained, smooth(rng)) for _ in range(8)]
    hard = [restoration_difficulty(trained, textured(rng)) for _ in range(8)]
    assert min(hard) > max(easy)
    assert np.median(hard) > 2 * np.median(easy)


def test_a_constant_image_is_not_difficult():
    assert restoration_difficulty(untrained(), np.zeros((1, 32, 32), np.float16)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("config", "shape"), [(FLAT, (32, 32)), (FLAT, (50, 21)), (SOLID, (5, 40, 20))])
def test_the_same_seed_gives_the_same_number(config, shape):
    one, image = untrained(config), textured(np.random.default_rng(0), shape)
    image.setflags(write=False)
    state = torch.random.get_rng_state()
    first, again, other = (restoration_difficulty(one, image, seed=[seed]) for seed in (3, 3, 4))
    assert torch.equal(state, torch.random.get_rng_state())
    assert type(first) is float
    assert first == again > 0
    assert first != other


def test_a_larger_field_of_view_is_not_more_difficult():
    one, image = untrained(), textured(np.random.default_rng(0))
    wide = np.tile(image, (1, 2, 3))
    assert restoration_difficulty(one, wide) == pytest.approx(restoration_difficulty(one, image), rel=1e-4)


def test_what_a_small_image_is_padded_with_does_not_count():
    class Brighter(torch.nn.Module):
        """Restores a pixel as the number of pixels that it sees, so that every place varies alike."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images):
            seen = (images != 0).float().mean(dim=(1, 2, 3), keepdim=True)
            edge = torch.zeros_like(images)
            edge[..., :8] = 1000.0  # left of an image 16 wide in a patch of 32
            return seen * (1 + edge)

    one = LearnedEncoder(FLAT, reconstruction, Brighter())
    narrow = restoration_difficulty(one, np.ones((1, 32, 16), np.float32))
    assert 0 < narrow < 1


@pytest.mark.parametrize("patch", [(32, 32), (4, 16, 20), (100, 90)])
def test_every_voxel_is_hidden_equally_often(patch):
    masks = draw_maskings(patch, [0])
    assert masks.shape == (MASKINGS, 1, *patch)
    assert set(masks.sum(dim=0).unique().tolist()) == {round(HIDDEN * MASKINGS)}
    shares = masks.float().flatten(1).mean(dim=1)
    assert ((shares - HIDDEN).abs() < 0.2).all()
    assert shares.unique().numel() > 2
    assert not torch.equal(masks[0], masks[1])


def test_a_voxel_is_compared_over_the_maskings_that_hid_it():
    class CopyOrGuess(torch.nn.Module):
        """Copies what it sees with a shift, and puts 0 into gaps: equal guesses, however seen voxels vary."""

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.calls = 0

        def forward(self, images):
            noise = torch.arange(len(images), dtype=torch.float32).view(-1, 1, 1, 1)
            return torch.where(images == 0, 0.0, images + noise)

    one = LearnedEncoder(FLAT, reconstruction, CopyOrGuess())
    assert restoration_difficulty(one, np.ones((1, 32, 32), np.float32)) == 0
