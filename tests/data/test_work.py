"""What there was to draw, counted by hand."""

from __future__ import annotations

import numpy as np

from nextmask.data.pool import IGNORE
from nextmask.data.work import Work, work_of, work_of_correction


def _picture() -> np.ndarray:
    mask = np.zeros((12, 12), np.uint8)
    mask[2:6, 2:6] = 1
    mask[2:6, 6:8] = 2  # shares an outline of 4 with the first
    mask[9, 9] = 2
    return mask


def test_structures_and_outlines_are_counted_and_a_shared_outline_once() -> None:
    assert work_of(_picture()) == Work(slices=1, structures=3, boundary=16 + 8 + 4)


def test_a_volume_adds_up_its_slices() -> None:
    empty = np.zeros((12, 12), np.uint8)
    assert work_of(np.stack([_picture(), empty, _picture()])) == Work(3, 6, 56)


def test_the_edge_of_the_image_and_what_is_not_annotated_are_no_outlines() -> None:
    assert work_of(np.ones((4, 4), np.uint8)) == Work(1, 1, 0)
    half = np.full((4, 4), IGNORE, np.uint8)
    half[:, :2] = 1
    assert work_of(half) == Work(1, 1, 0)


def test_voxels_that_touch_at_a_corner_are_one_structure() -> None:
    assert work_of(np.eye(3, dtype=np.uint8)).structures == 1


def test_nothing_to_correct_costs_a_look() -> None:
    assert work_of_correction(_picture(), _picture()) == Work(1, 0, 0)


def test_only_what_was_changed_is_drawn_again() -> None:
    before = _picture()
    before[2:6, 6:8] = 0  # a structure that was missed
    before[0, 11] = 1  # and one that is not there
    assert work_of_correction(before, _picture()) == Work(1, 2, 4 + 8)


def test_what_is_not_annotated_needs_no_correction() -> None:
    after = _picture()
    after[8:] = IGNORE
    assert work_of_correction(_picture(), after) == Work(1, 0, 0)


def test_correcting_all_is_as_much_as_drawing_it_and_no_correction_is_more() -> None:
    mask = _picture()
    assert work_of_correction(np.zeros_like(mask), mask) == Work(1, 2, work_of(mask).boundary)
    rng = np.random.default_rng(0)
    for _ in range(20):
        before, after = rng.integers(0, 3, (2, 9, 9))
        assert work_of_correction(before, after).boundary <= work_of(after).boundary
    assert work_of_correction(np.stack([mask, mask]), np.stack([mask, mask])) == Work(2, 0, 0)
