"""Patches are read where something is annotated, from every sample equally often, and no more than is needed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tests.training.toys import IGNORE, SOLID, TINY, samples, toy

from nextmask.networks.patches import rows_at
from nextmask.training import labeled as labeled_samples
from nextmask.training.labeled import draw_labeled, look_at_samples


def test_all_samples_are_seen_equally_often():
    rows = [row for first in range(0, 70, 5) for row in rows_at(first, 5, 7, [2])]
    assert np.bincount(rows).tolist() == [10] * 7
    assert rows[:7] != rows[7:14]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_patches_of_partly_annotated_volumes_show_annotation(share):
    def sparse(image, mask):
        lines = np.full_like(mask, IGNORE)
        lines[20, 30, 10:20], lines[2, 2, 2] = 0, 1
        return image, lines

    config = dataclasses.replace(SOLID, foreground_share=share)
    labeled = look_at_samples(samples((24, 40, 40), count=1, change=sparse), config, [0])
    for i in range(20):
        _, masks = draw_labeled(labeled, config, [0], i)
        assert (masks != IGNORE).flatten(1).any(dim=1).all()
        if share == 1.0:
            assert (masks == 1).flatten(1).any(dim=1).all()


def test_patches_reach_every_corner_of_a_complete_mask():
    config = dataclasses.replace(TINY, foreground_share=0.0, patch_size=(16, 16))
    labeled = look_at_samples(samples((33, 47), count=1), config, [0])
    starts = {tuple(labeled_samples._patch_start(labeled[0], config, np.random.default_rng(i))) for i in range(4000)}
    assert {y for y, _ in starts} == set(range(18))
    assert {x for _, x in starts} == set(range(32))


def test_a_small_image_lies_in_the_middle_of_its_patch():
    labeled = look_at_samples(samples((20, 17), count=1), TINY, [0])
    images, masks = draw_labeled(labeled, TINY, [0], 0)
    image, mask = toy((20, 17), 0)
    assert np.array_equal(masks[0, 6:26, 7:24].numpy(), mask)
    assert (masks[0].numpy() != IGNORE).sum() == mask.size
    assert np.array_equal(images[0, 0, 0, 7:24].numpy(), image[0, 0].astype(np.float32))


def test_remembered_places_have_their_class():
    _, mask = toy((12, 30, 30), 3)
    labeled = look_at_samples(samples((12, 30, 30), 1, lambda image, _: (image, mask)), SOLID, [0])[0]
    for label, places in labeled.places.items():
        assert (mask[tuple(places.T)] == label).all()
        assert len(np.unique(places, axis=0)) == min(labeled_samples.PLACES, (mask == label).sum())
    assert np.ptp(labeled.places[0], axis=0).tolist() == [11, 29, 29]
