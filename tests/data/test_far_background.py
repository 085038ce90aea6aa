"""The far side of a scribbled slice is background; nothing else is concluded, and no real structure is lost."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.data.far_background import with_far_background
from nextmask.data.images import read_mask

IGNORE = 255


def strokes():
    """Draw one stroke of a structure in the middle, and one of background three rows below it."""
    mask = np.full((21, 21), IGNORE, np.uint8)
    mask[10, 8:13] = 1
    mask[13, 8:13] = 0
    return mask


def test_what_lies_farther_than_the_background_stroke_is_background():
    spread = with_far_background(strokes())
    distance = np.array([[min(np.hypot(y - 10, x - u) for u in range(8, 13)) for x in range(21)] for y in range(21)])
    drawn = strokes() != IGNORE
    assert (spread[drawn] == strokes()[drawn]).all()
    assert (spread[~drawn & (distance > 3)] == 0).all()
    assert (spread[~drawn & (distance <= 3)] == IGNORE).all()


def test_the_farthest_background_stroke_decides():
    mask = strokes()
    mask[0, 10] = 0
    assert (with_far_background(mask)[3, 10], with_far_background(strokes())[3, 10]) == (IGNORE, 0)


def test_distances_are_in_millimetres_where_they_are_known():
    spread = with_far_background(strokes(), spacing=(8.0, 1.0, 0.25))
    assert spread[10, 20] == IGNORE  # 8 voxels of a quarter millimetre
    assert spread[2, 10] == 0


def test_slices_are_looked_at_one_by_one():
    alone, dense = np.full((21, 21), IGNORE, np.uint8), np.zeros((21, 21), np.uint8)
    only_background, only_structure = alone.copy(), alone.copy()
    only_background[3, 3], only_structure[3, 3] = 0, 2
    dense[4, 4] = 1
    volume = np.stack([strokes(), alone, only_background, only_structure, dense])
    spread = with_far_background(volume)
    assert np.array_equal(spread[0], with_far_background(strokes()))
    assert np.array_equal(spread[1], alone)
    assert (spread[2] == 0).all()
    assert np.array_equal(spread[3], only_structure)
    assert np.array_equal(spread[4], dense)


def test_what_is_handed_in_stays_as_it_is():
    mask = strokes()
    mask.setflags(write=False)
    assert with_far_background(mask).dtype == np.uint8
    assert np.array_equal(mask, strokes())


@pytest.mark.parametrize("frame", ["patient001_frame01", "patient091_frame01"])
def test_no_structure_of_a_real_heart_is_called_background(shared_data, frame):
    scribble, _ = read_mask(shared_data(f"acdc/scribbles/{frame}.nii.gz"), {4: IGNORE})
    truth, _ = read_mask(shared_data(f"acdc/masks/{frame}.nii.gz"), {})
    spread = with_far_background(scribble)
    added = (spread == 0) & (scribble == IGNORE)
    assert added.mean() > 0.5
    assert (truth[added] > 0).mean() < 0.001
