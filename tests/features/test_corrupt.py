"""Corruptions change what they should and nothing else."""

from __future__ import annotations

import pytest
import torch

from nextmask.features.corrupt import _boxes, bent, corrupted, shuffled_locally

SHAPES = [(6, 2, 40, 30), (4, 1, 12, 20, 30)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def images(shape):
    return torch.randn(shape, generator=generator(9)).cumsum(dim=-1)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_generator_decides_everything(shape):
    state = torch.random.get_rng_state()
    first, again, other = (corrupted(images(shape), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.isfinite(first).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_shuffling_moves_voxels_a_little_and_loses_none(shape):
    clean = images(shape)
    shuffled = shuffled_locally(clean, generator())
    for one, other in zip(clean.flatten(2), shuffled.flatten(2), strict=True):
        assert torch.equal(one.sort()[0], other.sort()[0])
    assert not torch.equal(clean, shuffled)
    places = torch.meshgrid(*[torch.arange(n, dtype=torch.float32) for n in shape[2:]], indexing="ij")
    moved = shuffled_locally(torch.stack(places).expand(64, -1, *shape[2:]), generator()) - torch.stack(places)
    for axis, length in enumerate(shape[2:]):
        assert moved[:, axis].abs().max() < max(2, length // 10)


@pytest.mark.parametrize("shape", SHAPES)
def test_channels_are_shuffled_alike(shape):
    clean = images(shape)
    both = torch.cat([clean, clean], dim=1)
    shuffled = shuffled_locally(both, generator())
    assert torch.equal(shuffled[:, : shape[1]], shuffled[:, shape[1] :])


@pytest.mark.parametrize("shape", SHAPES)
def test_bent_grey_scales_keep_the_range_and_the_order_or_turn_it_round(shape):
    clean = images(shape)
    changed = bent(clean, generator())
    directions = set()
    for one, other in zip(clean.flatten(1), changed.flatten(1), strict=True):
        assert other.min() >= one.min() - 1e-4
        assert other.max() <= one.max() + 1e-4
        rising = torch.diff(other[one.argsort()])
        assert (rising >= -1e-4).all() or (rising <= 1e-4).all()
        directions.add(bool(other[one.argmax()] > other[one.argmin()]))
    assert directions == {True, False}


def test_boxes_are_of_the_sizes_asked_for():
    inside = _boxes(torch.zeros(200, 1, 60, 60), 1 / 6, 1 / 3, 1, generator())
    area = inside.flatten(1).sum(dim=1).float()
    assert area.min() >= 10 * 10
    assert area.max() <= 20 * 20
    assert inside.any(dim=0).float().mean() > 0.95  # they lie anywhere


def test_a_constant_image_stays_finite_and_constant():
    spoilt = corrupted(torch.full((8, 1, 20, 20), 3.0), generator())
    assert torch.allclose(spoilt, torch.full_like(spoilt, 3.0), atol=1e-4)
