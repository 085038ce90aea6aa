"""Structures of one piece, and what is taken for them elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from nextmask.data.components import keep_largest

PLANE = np.array(
    [
        [1, 1, 0, 2, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 2, 2],
        [1, 0, 0, 0, 0],
    ],
    np.uint8,
)


def test_a_smaller_piece_becomes_background_and_corners_connect():
    kept = keep_largest(PLANE, [1])
    assert kept[3, 0] == 0
    assert (np.delete(kept.ravel(), 15) == np.delete(PLANE.ravel(), 15)).all()


def test_each_label_has_a_largest_piece_of_its_own_and_others_stay():
    kept = keep_largest(PLANE, [2])
    assert (kept == 1).sum() == (PLANE == 1).sum()
    assert np.argwhere(kept == 2).tolist() == [[2, 3], [2, 4]]


def test_what_was_given_is_left_as_it_was():
    before = PLANE.copy()
    keep_largest(PLANE, [1, 2])
    assert (before == PLANE).all()


@pytest.mark.parametrize("labels", [[], [3], [7]])
def test_nothing_happens_without_such_a_label(labels):
    assert (keep_largest(PLANE, labels) == PLANE).all()


def test_of_a_volume_the_slices_are_connected():
    volume = np.zeros((3, 4, 4), np.uint8)
    volume[0, 0, 0] = volume[1, 1, 1] = volume[2, 2, 2] = volume[0, 3, 3] = 1
    assert np.argwhere(keep_largest(volume, [1])).tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


@given(arrays.arrays(np.uint8, (3, 6, 6), elements=st.integers(0, 2)))
def test_one_piece_is_left_and_none_was_larger(mask):
    kept = keep_largest(mask, [1, 2])
    for label in (1, 2):
        pieces, count = ndimage.label(mask == label, np.ones((3, 3, 3)))
        left, number = ndimage.label(kept == label, np.ones((3, 3, 3)))
        assert number == min(count, 1)
        assert (left > 0).sum() == max((pieces == n).sum() for n in range(1, count + 1)) if count else not left.any()
