"""Strokes grow over what looks alike, as far as a random walk is sure; a wall stays what was drawn of it."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.data import grown_strokes
from nextmask.data.far_background import with_far_background
from nextmask.data.grown_strokes import CONTRAST, LEAST, with_grown_strokes
from nextmask.data.images import read_image, read_mask
from nextmask.data.strokes import Conclusions

IGNORE = 255


def halves(width: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Draw a dark and a bright half, a stroke in the middle of the one, one at the far edge of the other."""
    image = np.zeros((1, 9, width), np.float32)
    image[..., width // 2 :] = 10.0
    mask = np.full((9, width), IGNORE, np.uint8)
    mask[4, width // 4], mask[4, -1] = 1, 2
    return mask, image


def test_a_stroke_grows_up_to_the_edge_that_it_lies_before():
    mask, image = halves()
    grown = with_grown_strokes(mask, image, {1: 0.9, 2: 0.9})
    assert (grown[:, :6] == 1).all()
    assert (grown[:, 6:] == 2).all()


def test_only_named_classes_grow_but_all_stop_the_walks():
    mask, image = halves()
    grown = with_grown_strokes(mask, image, {2: 0.9})
    np.testing.assert_array_equal(grown == 2, with_grown_strokes(mask, image, {1: 0.9, 2: 0.9}) == 2)
    assert (grown == 1).sum() == 1
    np.testing.assert_array_equal(with_grown_strokes(mask, image, {}), mask)


def test_probabilities_are_those_of_the_walk():
    """On a line of five voxels between two strokes they are those of resistors in a row."""
    mask = np.array([[1, IGNORE, IGNORE, IGNORE, 2]], np.uint8)
    image = np.array([[[0.0, 0.0, 1.0, 1.0, 1.0]]])
    apart = np.diff(image[0, 0] / image.std())
    resistance = 1 / (np.exp(-CONTRAST * apart**2) + LEAST)
    reaches_two = np.cumsum(resistance)[:-1] / resistance.sum()
    for place, probability in enumerate(reaches_two, start=1):
        for label, likely in ((2, probability), (1, 1 - probability)):
            for threshold in (likely - 1e-6, likely + 1e-6):
                grown = with_grown_strokes(mask, image, {label: threshold})[0, place]
                assert grown == (label if likely > 0.5 and threshold <= likely else IGNORE)


def test_the_surer_the_less_grows(shared_data):
    mask, image = heart(shared_data)
    sizes = [(with_grown_strokes(mask, image, {3: sure}) == 3).sum() for sure in (0.6, 0.8, 0.95)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > sizes[2] > (mask == 3).sum()


def test_slices_without_two_classes_and_dense_ones_stay_as_they_are():
    mask, image = halves()
    alone, dense, empty = mask.copy(), np.ones_like(mask), np.full_like(mask, IGNORE)
    alone[4, -1] = IGNORE
    volume = np.stack([mask, alone, dense, empty])
    seen = np.stack([image] * 4, axis=1)
    grown = with_grown_strokes(volume, seen, {0: 0.9, 1: 0.9, 2: 0.9})
    assert (grown[0] != IGNORE).all()
    np.testing.assert_array_equal(grown[1:], volume[1:])


def test_an_image_of_one_grey_is_halved_between_the_strokes():
    mask, image = halves()
    grown = with_grown_strokes(mask, np.ones_like(image), {1: 0.51, 2: 0.51})
    assert {1, 2} <= set(np.unique(grown))
    assert grown[4, 4] == 1
    assert grown[4, 10] == 2


def test_channels_count_alike_whatever_their_scale():
    mask, image = halves()
    noise = np.random.default_rng(0).normal(size=image.shape).astype(np.float32)
    grown = [with_grown_strokes(mask, np.concatenate([image * scale, noise]), {1: 0.7, 2: 0.7}) for scale in (1, 1000)]
    np.testing.assert_array_equal(*grown)


def test_a_channel_twice_is_no_more_than_once(shared_data):
    mask, image = heart(shared_data)
    once, twice = (with_grown_strokes(mask, np.concatenate([image] * n), {3: 0.9}) for n in (1, 2))
    np.testing.assert_array_equal(once, twice)


def test_a_large_slice_is_walked_in_blocks_and_comes_to_nearly_the_same(shared_data, monkeypatch):
    mask, image = heart(shared_data)
    mask, image = (
        mask[2, 60:190, 40:160].repeat(3, 0).repeat(3, 1),
        image[:, 2, 60:190, 40:160].repeat(3, 1).repeat(3, 2),
    )
    whole = with_grown_strokes(mask, image, {1: 0.8, 3: 0.8})
    monkeypatch.setattr(grown_strokes, "LARGEST", mask.size // 4)
    in_blocks = with_grown_strokes(mask, image, {1: 0.8, 3: 0.8})
    for label in (0, 2):
        np.testing.assert_array_equal(in_blocks == label, mask == label)
    for label in (1, 3):
        one, other = whole == label, in_blocks == label
        assert other[mask == label].all()
        assert 2 * (one & other).sum() / (one.sum() + other.sum()) > 0.85
    assert (in_blocks != whole).any()


def test_a_block_with_strokes_of_two_classes_is_of_neither(monkeypatch):
    mask, image = np.full((8, 12), IGNORE, np.uint8), np.ones((1, 8, 12))
    mask[4, 2], mask[5, 3], mask[4, 10] = 1, 2, 3
    monkeypatch.setattr(grown_strokes, "LARGEST", 24)
    np.testing.assert_array_equal(with_grown_strokes(mask, image, {1: 0.6, 2: 0.6, 3: 0.6}), mask)
    mask[5, 3] = 1
    assert (with_grown_strokes(mask, image, {1: 0.6}) == 1).sum() > 4


def test_blocks_reach_beyond_the_border_of_an_odd_slice(monkeypatch):
    mask, image = halves(13)
    monkeypatch.setattr(grown_strokes, "LARGEST", 40)
    grown = with_grown_strokes(mask, image, {1: 0.9, 2: 0.9})
    assert grown.shape == mask.shape
    assert {1, 2} <= set(grown[-1])


def test_what_is_handed_in_stays_as_it_is():
    mask, image = halves()
    before = mask.copy()
    for array in (mask, image):
        array.setflags(write=False)
    grown = with_grown_strokes(mask, image, {1: 0.9})
    assert grown.dtype == np.uint8
    np.testing.assert_array_equal(mask, before)
    assert (grown[mask != IGNORE] == mask[mask != IGNORE]).all()


def heart(shared_data) -> tuple[np.ndarray, np.ndarray]:
    mask, _ = read_mask(shared_data("acdc/scribbles/patient001_frame01.nii.gz"), {4: IGNORE})
    return with_far_background(mask), read_image(shared_data("acdc/images/patient001_frame01.nii.gz")).array


def test_in_a_real_heart_chambers_grow_into_themselves_and_the_wall_does_not(shared_data):
    mask, image = heart(shared_data)
    truth, _ = read_mask(shared_data("acdc/masks/patient001_frame01.nii.gz"), {})
    grown = with_grown_strokes(mask, image, dict.fromkeys(range(4), 0.9))
    right = [np.mean(truth[(grown == label) & (mask == IGNORE)] == label) for label in range(4)]
    assert min(right[0], right[1], right[3]) > 0.95
    assert right[2] < 0.95  # why one names the classes


@pytest.mark.parametrize("far", [False, True])
def test_conclusions_are_drawn_one_after_the_other(shared_data, far):
    strokes, _ = read_mask(shared_data("acdc/scribbles/patient001_frame01.nii.gz"), {4: IGNORE})
    mask, image = heart(shared_data)
    concluded = Conclusions(far, ((3, 0.9),))
    expected = with_grown_strokes(mask if far else strokes, image, {3: 0.9})
    np.testing.assert_array_equal(concluded.drawn_from(strokes, None, lambda: image), expected)
    assert concluded.key() != Conclusions(far, ((3, 0.8),)).key() != Conclusions(far).key()


def test_an_image_is_not_opened_where_nothing_grows():
    mask, _ = halves()
    assert Conclusions(far=True).drawn_from(mask, None, lambda: pytest.fail("opened")) is not mask
