"""Image and mask move together, nothing invents annotation, and the generator decides everything."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from nextmask.networks import augment
from nextmask.networks.architecture import is_flat
from nextmask.networks.augment import augment_batch, change_intensities, random_affine, warp

FREE = {"mirror": True, "rotate_degrees": 30.0}
PATCHES = [(48, 32), (24, 32, 40), (6, 48, 32)]


def blocks(patch, count=6):
    """Draw a few bright boxes per image: (count, 1, *patch) float, and the same as a mask."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.zeros((count, *patch), dtype=torch.uint8)
    for image in mask:
        for _ in range(2):
            start = [int(torch.randint(0, n // 2, (), generator=generator)) for n in patch]
            image[tuple(slice(a, a + n // 2) for a, n in zip(start, patch, strict=True))] = 1
    return mask.unsqueeze(1).float(), mask


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("patch", PATCHES)
def test_image_and_mask_stay_aligned(patch):
    images, masks = blocks(patch)
    moved, labels = warp(images, masks, generator(), **FREE)
    inside = labels != 255
    # Bilinear against nearest: they part only where a boundary runs through a voxel.
    assert ((moved[:, 0] > 0.5) == (labels == 1))[inside].float().mean() > 0.995
    assert not torch.equal(labels, masks)


@pytest.mark.parametrize("patch", PATCHES)
def test_masks_keep_their_values_and_beyond_the_border_nothing_is_annotated(patch):
    images, masks = blocks(patch)
    masks = torch.where(masks == 0, 2, masks).to(torch.uint8)
    _, labels = augment_batch(images, masks, generator(), mirror=True, rotate_degrees=45.0)
    assert set(labels.unique().tolist()) == {1, 2, 255}
    assert (labels == 255).float().mean() < 0.5


def test_ignored_voxels_stay_ignored():
    images, masks = blocks((48, 32))
    _, labels = augment_batch(images, torch.full_like(masks, 255), generator(), **FREE)
    assert (labels == 255).all()


@pytest.mark.parametrize("patch", PATCHES)
def test_the_generator_decides_everything(patch):
    images, masks = blocks(patch)
    state = torch.random.get_rng_state()
    first, again, other = (augment_batch(images, masks, generator(seed), **FREE) for seed in (5, 5, 6))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(state, torch.random.get_rng_state())


def test_a_turn_keeps_shapes_on_a_patch_that_is_not_square():
    """A rotation is one in voxels: a disc stays a disc of the same area, wider or narrower only by its scale."""
    y, x = torch.meshgrid(torch.arange(96) - 47.5, torch.arange(32) - 15.5, indexing="ij")
    disc = ((y**2 + x**2) < 64).to(torch.uint8).repeat(8, 1, 1)
    _, labels = warp(disc.unsqueeze(1).float(), disc, generator(3), mirror=False, rotate_degrees=90.0)
    for label in labels:
        rows, columns = torch.nonzero(label == 1, as_tuple=True)
        height, width = (int(axis.max() - axis.min()) + 1 for axis in (rows, columns))
        assert abs(height - width) <= 1


def test_without_mirroring_left_stays_left():
    masks = torch.zeros((16, 32, 32), dtype=torch.uint8)
    masks[:, :, :12] = 1
    for mirror in (False, True):
        _, labels = warp(masks.unsqueeze(1).float(), masks, generator(), mirror=mirror, rotate_degrees=10.0)
        left = (labels[:, :, :8] == 1).float().sum(dim=(1, 2)) > (labels[:, :, -8:] == 1).float().sum(dim=(1, 2))
        assert left.all() == (not mirror)


def test_a_flat_patch_is_not_turned_out_of_its_slices():
    patch = (6, 48, 48)
    assert is_flat(patch)
    assert not is_flat((24, 48, 48))
    masks = torch.arange(6, dtype=torch.uint8)[None, :, None, None].repeat(8, 1, 48, 48)
    _, labels = warp(masks.unsqueeze(1).float(), masks, generator(), mirror=False, rotate_degrees=30.0)
    assert ((labels == masks) | (labels == 255)).all()


@pytest.mark.parametrize("patch", PATCHES)
def test_intensities_stay_finite_and_constant_images_survive(patch):
    flat = torch.full((4, 2, *patch), 0.7)
    assert torch.isfinite(change_intensities(flat, generator())).all()
    images = blocks(patch)[0]
    changed = torch.stack([change_intensities(images, generator(seed)) for seed in range(8)])
    assert torch.isfinite(changed).all()
    assert 0.5 < changed.std() / images.std() < 2


@pytest.mark.parametrize("patch", PATCHES)
def test_a_channel_that_is_one_value_all_over_gets_no_noise(patch):
    """A slice's coordinate is such a channel, and losses that tell voxels apart by their values see it."""
    images = torch.cat([blocks(patch, 32)[0], torch.full((32, 1, *patch), 1.2)], dim=1)
    changed, _ = augment_batch(images, torch.zeros((32, *patch), dtype=torch.uint8), generator(), **FREE)
    spread = changed.flatten(2).std(dim=2)
    assert spread[:, 1].max() < 1e-5
    assert spread[:, 0].min() > 0.01


SHAPES = [(2, 1, 12, 17), (2, 3, 1, 9), (2, 2, 6, 7, 10), (2, 1, 1, 8, 9)]


@pytest.mark.parametrize("shape", SHAPES)
def test_positions_are_those_of_pytorch(shape):
    maps = random_affine(2, shape[2:], torch.Generator().manual_seed(0), mirror=True, rotate_degrees=30.0)
    wanted = functional.affine_grid(maps, list(shape), align_corners=False)
    torch.testing.assert_close(augment.positions(maps, shape[2:]), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_blurred_image_is_a_mean_over_neighbours_that_exist(shape):
    images, flat = torch.randn(shape), len(shape) == 5 and shape[2] == 1
    pool = functional.avg_pool2d if len(shape) == 4 else functional.avg_pool3d
    kernel = [1 if flat and axis == 0 else 3 for axis in range(len(shape) - 2)]
    wanted = pool(images, kernel, 1, [width // 2 for width in kernel], count_include_pad=False)
    kept = images.clone()
    torch.testing.assert_close(augment._blurred(images, kernel), wanted)
    assert torch.equal(images, kept)


@pytest.mark.parametrize(
    "shape", [shape for shape in SHAPES if len(shape) == 5] + [(2, 1, 5, 1, 9), (1, 1, 1, 1, 1), (2, 1, 9, 8, 7)]
)
@pytest.mark.parametrize("mirror", [False, True])
def test_volumes_are_moved_as_pytorch_moves_them(shape, mirror, monkeypatch):
    draw = torch.Generator().manual_seed(1)
    images = torch.randn(shape, generator=draw).transpose(3, 4).contiguous().transpose(3, 4)  # not in order of memory
    masks = torch.randint(0, 4, (shape[0], *shape[2:]), generator=draw).to(torch.uint8)
    free = {"mirror": mirror, "rotate_degrees": 45.0}
    moved, labels = warp(images, masks, generator(2), **free)
    monkeypatch.setattr(augment, "compiled", lambda _: None)
    wanted, wanted_labels = warp(images, masks, generator(2), **free)
    torch.testing.assert_close(moved, wanted, rtol=0, atol=1e-5)
    assert torch.equal(labels, wanted_labels)
    assert max(shape) == 1 or not torch.equal(labels, masks)
