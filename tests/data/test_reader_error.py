"""Simulated readers: off by as much as real ones, and nowhere but where readers err."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from scipy import ndimage

from nextmask.data.images import read_mask
from nextmask.data.pool import IGNORE
from nextmask.data.reader_error import ReaderError, reread


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _discs(side: int = 96, radius: float = 24.0) -> np.ndarray:
    """A ring (2) around a disc (1) in each of 8 slices."""
    y, x = np.indices((side, side)) - side / 2
    far = np.hypot(y, x)
    return np.repeat(((far < radius) * 2 - (far < radius * 0.7))[None].astype(np.uint8), 8, axis=0)


def _dice(one: np.ndarray, other: np.ndarray, label: int) -> float:
    a, b = one == label, other == label
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_no_error_changes_nothing_and_the_truth_is_left_alone() -> None:
    mask = _discs()
    mask.flags.writeable = False
    np.testing.assert_array_equal(reread(mask, _rng(), 0.0), mask)
    assert reread(mask, _rng(), 1.0).dtype == mask.dtype


def test_boundaries_move_a_little_and_the_inside_stays() -> None:
    mask = _discs()
    drawn = reread(mask, _rng(), 1.0)
    moved = drawn != mask
    assert moved.any()
    edge = np.stack([ndimage.distance_transform_edt(~_boundary(each)) for each in mask])
    assert edge[moved].max() < 5
    assert set(np.unique(drawn)) == {0, 1, 2}


def test_structures_that_touch_keep_touching() -> None:
    drawn = reread(_discs(), _rng(), 2.0, ReaderError(missed=1e-9))
    for each in drawn:
        outside = ndimage.binary_dilation(each == 1) & (each == 0)
        assert not outside.any()


def test_a_larger_error_agrees_less() -> None:
    mask, error = _discs(), ReaderError(uneven=0.0, missed=1e-9)
    scores = [_dice(mask, reread(mask, _rng(), strength, error), 2) for strength in (1.0, 2.0, 4.0)]
    assert 1 > scores[0] > scores[1] > scores[2] > 0.5


def test_jitter_is_the_spread_of_the_shifts() -> None:
    """A straight edge moves by what it is shifted across: its spread over many rows is the jitter."""
    mask = np.zeros((4, 400, 60), np.uint8)
    mask[:, :, 30:] = 1
    drawn = reread(mask, _rng(), 1.0, ReaderError(jitter=3.0, smooth=8.0, uneven=0.0, missed=1e-9))
    edge = 60 - drawn.sum(axis=2, dtype=int)
    assert abs(edge.mean() - 30) < 1.0
    assert 2.2 < edge.std() < 3.8
    assert np.abs(np.diff(edge, axis=1)).mean() < 0.8  # neighbours move together


def test_small_structures_are_overlooked_the_oftener_the_smaller() -> None:
    mask = np.zeros((90, 30), np.uint8)
    mask[2:6, 2:6] = 1  # 16 voxels
    mask[40:80, 5:25] = 2  # 800 voxels
    error, rng = ReaderError(jitter=0.0, missed=16.0), _rng()
    for strength in (1.0, 0.5):
        drawn = [reread(mask, rng, strength, error) for _ in range(400)]
        assert abs(np.mean([not (each == 1).any() for each in drawn]) - strength * np.exp(-1)) < 0.07
        assert all((each == 2).sum() == 800 for each in drawn)


def test_what_is_overlooked_becomes_what_is_around_it() -> None:
    mask = np.full((20, 20), 2, np.uint8)
    mask[8:10, 8:10] = 1
    drawn = reread(mask, _rng(), 1.0, ReaderError(jitter=0.0, missed=1e9))
    assert (drawn[8:10, 8:10] == 2).all()


def test_in_volumes_a_structure_counts_by_its_largest_slice() -> None:
    mask = np.zeros((9, 20, 20), np.uint8)
    mask[0, 5, 5] = mask[1, 4:16, 4:16] = mask[2, 5, 5] = 1
    for seed in range(30):
        drawn = reread(mask, _rng(seed), 1.0, ReaderError(jitter=0.0, missed=10.0))
        np.testing.assert_array_equal(drawn, mask)


def test_what_nobody_annotated_stays_so() -> None:
    mask = _discs()
    mask[:, :40] = IGNORE
    drawn = reread(mask, _rng(), 3.0)
    np.testing.assert_array_equal(drawn == IGNORE, mask == IGNORE)


def test_the_same_seed_reads_the_same_and_pictures_are_read_too() -> None:
    picture = _discs()[0]
    once, again, other = (reread(picture, _rng(seed), 1.5) for seed in (1, 1, 2))
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()
    assert once.shape == picture.shape


@pytest.mark.parametrize("shape", [(1, 1), (3, 1, 7), (2, 40, 1)])
def test_masks_of_few_voxels_can_be_read(shape: tuple[int, ...]) -> None:
    assert reread(np.ones(shape, np.uint8), _rng(), 1.0).shape == shape


def test_two_simulated_readings_agree_as_the_two_real_ones_do(shared_data) -> None:
    """patient074 and patient076 of ACDC are one exam, read twice: Dice .947 to .986 by class and phase."""
    folder = shared_data("acdc")
    with (folder / "cases.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["patient_id"] == "patient074"]
    assert len(rows) == 2
    scores = []
    for row in rows:
        truth = _near(read_mask(folder / row["mask"])[0])
        pairs = [(reread(truth, rng, 1.0), reread(truth, rng, 1.0)) for rng in map(_rng, range(20))]
        scores.append([np.mean([_dice(*pair, label) for pair in pairs]) for label in (1, 2, 3)])
    assert np.min(scores) >= 0.947 - 0.003  # means of 20 pairs of readings are that uncertain
    assert np.max(scores) <= 0.986 + 0.003


def _near(mask: np.ndarray) -> np.ndarray:
    """Cut a mask down to the heart: far from it there is nothing to misread."""
    box = ndimage.find_objects((mask > 0).view(np.uint8))[0]
    return mask[(slice(None), *(slice(found.start - 16, found.stop + 16) for found in box[1:]))]


def _boundary(mask: np.ndarray) -> np.ndarray:
    edge = np.zeros(mask.shape, bool)
    for axis in (0, 1):
        edge |= mask != np.roll(mask, 1, axis)
        edge |= mask != np.roll(mask, -1, axis)
    return edge
