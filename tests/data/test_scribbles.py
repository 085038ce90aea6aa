"""Drawn scribbles: every structure is marked, nothing wrongly, and about as much of it as experts mark."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from scipy import ndimage

from nextmask.data.images import read_mask
from nextmask.data.pool import IGNORE
from nextmask.data.scribbles import EIGHT, ScribbleStyle, draw_scribble


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _disc(shape: tuple[int, int], y: float, x: float, radius: float) -> np.ndarray:
    rows, columns = np.indices(shape)
    return np.hypot(rows - y, columns - x) < radius


def _heart(side: int = 216) -> np.ndarray:
    """A disc in a ring, with a crescent beside it, of the proportions of a heart in short axis."""
    shape, mask = (side, side), np.zeros((side, side), np.uint8)
    mask[_disc(shape, side / 2, side * 0.42, side * 0.11)] = 1
    mask[_disc(shape, side / 2, side * 0.52, side * 0.11)] = 2
    mask[_disc(shape, side / 2, side * 0.52, side * 0.075)] = 3
    return mask


@pytest.mark.parametrize("seed", range(3))
def test_strokes_stay_within_what_they_mark_and_miss_no_structure(seed: int) -> None:
    field = ndimage.gaussian_filter(_rng(seed).standard_normal((3, 60, 50)), [0, 2, 2])
    mask = np.digitize(field, np.quantile(field, [0.5, 0.8, 0.9])).astype(np.uint8)
    scribble = draw_scribble(mask, _rng(seed))
    assert scribble.dtype == np.uint8
    assert scribble.shape == mask.shape
    drawn = scribble != IGNORE
    np.testing.assert_array_equal(scribble[drawn], mask[drawn])
    for truth, strokes in zip(mask, scribble, strict=True):
        for label in (1, 2, 3):
            numbers, count = ndimage.label(truth == label, EIGHT)
            assert set(np.unique(numbers[strokes == label])) == set(range(1, count + 1))
        assert (strokes == 0).any()


@pytest.mark.parametrize("seed", range(5))
def test_a_heart_is_marked_as_much_as_experts_mark_one(seed: int) -> None:
    mask = _heart()
    scribble = draw_scribble(mask, _rng(seed))
    assert 0.005 < (scribble != IGNORE).mean() < 0.018
    for label in (1, 2, 3):
        assert 0.02 < (scribble == label).sum() / (mask == label).sum() < 0.35


def test_strokes_are_thin_lines_of_one_piece() -> None:
    scribble = draw_scribble(_heart(), _rng(1))
    for label in range(4):
        stroke = scribble == label
        assert ndimage.label(stroke, EIGHT)[1] == 1
        assert ndimage.binary_erosion(stroke, np.ones((3, 3))).sum() < 0.05 * stroke.sum()


def test_a_stroke_neither_fills_a_small_structure_nor_blots_its_middle() -> None:
    disc = _disc((40, 40), 20, 20, 5).astype(np.uint8)
    large = _disc((120, 120), 60, 60, 40)
    blots = 0
    for seed in range(30):
        assert (draw_scribble(disc, _rng(seed)) == 1).sum() < 0.35 * disc.sum()
        stroke = draw_scribble(large.astype(np.uint8), _rng(seed)) == 1
        blots += stroke[56:65, 56:65].any()
    assert blots <= 1


def test_a_stroke_that_meets_the_edge_goes_on_from_its_beginning_to_the_other_side() -> None:
    line = np.zeros((9, 120), np.uint8)
    line[4, 2:-2] = 1  # so thin that the pen cannot turn round
    style = ScribbleStyle(length=0.5, length_spread=0.0)
    lengths = {int((draw_scribble(line, _rng(seed), style) == 1).sum()) for seed in range(60)}
    assert min(lengths) >= 12  # of 23; turning at the end of the line takes some
    assert max(lengths) <= 26


@pytest.mark.parametrize("thickness", [1, 2])
def test_a_thin_vessel_gets_a_stroke_along_it_and_not_a_dot(thickness: int) -> None:
    along = np.arange(5, 155, 0.3)
    mask = np.zeros((60, 160), np.uint8)
    for over in range(thickness):
        mask[np.rint(30 + 8 * np.sin(along / 12)).astype(int) + over, np.rint(along).astype(int)] = 1
    lengths = [(draw_scribble(mask, _rng(seed)) == 1).sum() for seed in range(20)]
    assert np.median(lengths) >= 12


def test_the_background_is_marked_all_around_at_a_distance() -> None:
    mask = _heart()
    away = ndimage.distance_transform_edt(mask == 0)
    centre = np.argwhere(mask > 0).mean(axis=0)
    for seed in range(5):
        stroke = draw_scribble(mask, _rng(seed)) == 0
        assert away[stroke].min() >= 1.5
        y, x = (np.argwhere(stroke) - centre).T
        assert len(np.unique(np.floor(np.arctan2(y, x) * 18 / np.pi))) >= 34


def test_structures_far_apart_are_surrounded_one_by_one_and_near_ones_together() -> None:
    shape, style = (80, 160), ScribbleStyle(distance_spread=0.0)
    for gap, pieces in ((90, 2), (24, 1)):
        mask = (_disc(shape, 40, 30, 10) | _disc(shape, 40, 30 + gap, 10)).astype(np.uint8)
        assert ndimage.label(draw_scribble(mask, _rng(), style) == 0, EIGHT)[1] == pieces


def test_a_hole_in_a_structure_is_marked_as_background() -> None:
    mask = (_disc((80, 80), 40, 40, 25) & ~_disc((80, 80), 40, 40, 12)).astype(np.uint8)
    assert (draw_scribble(mask, _rng())[_disc((80, 80), 40, 40, 12)] == 0).any()


def test_a_slice_without_structures_is_marked_as_background_only() -> None:
    scribble = draw_scribble(np.zeros((2, 64, 48), np.uint8), _rng())
    assert set(np.unique(scribble)) == {0, IGNORE}
    assert all((each == 0).sum() > 20 for each in scribble)
    assert (scribble[0] != scribble[1]).any()


@pytest.mark.parametrize("at", [(0, 0), (5, 9), (11, 4)])
def test_a_single_voxel_is_marked(at: tuple[int, int]) -> None:
    mask = np.zeros((12, 10), np.uint8)
    mask[at] = 2
    scribble = draw_scribble(mask, _rng())
    assert scribble[at] == 2
    assert (scribble == 0).any()


def test_thin_lines_whole_images_and_single_voxel_images_are_marked() -> None:
    line = np.zeros((20, 20), np.uint8)
    line[10] = 1
    assert (draw_scribble(line, _rng()) == 1).any()
    assert set(np.unique(draw_scribble(np.ones((16, 16), np.uint8), _rng()))) == {1, IGNORE}
    assert draw_scribble(np.ones((1, 1), np.uint8), _rng()).tolist() == [[1]]
    assert draw_scribble(np.zeros((1, 1), np.uint8), _rng()).tolist() == [[0]]


def test_what_nobody_annotated_is_not_marked() -> None:
    mask = _heart(100)
    mask[:, 50:] = IGNORE
    assert (draw_scribble(mask, _rng())[:, 50:] == IGNORE).all()
    assert (draw_scribble(np.full((8, 8), IGNORE, np.uint8), _rng()) == IGNORE).all()


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    mask = _heart(96)
    once, again, other = (draw_scribble(mask, _rng(seed)) for seed in (7, 7, 8))
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()


def test_of_real_hearts_as_much_is_marked_as_by_the_experts(shared_data) -> None:
    folder = shared_data("acdc")
    with (folder / "cases.csv").open() as file:
        rows = list(csv.DictReader(file))[5::15]
    counts = np.zeros((2, 4))
    for number, row in enumerate(rows):
        drawn = draw_scribble(read_mask(folder / row["mask"])[0], _rng(number))
        expert = read_mask(folder / row["scribble"], {4: IGNORE})[0]
        counts += [np.bincount(each.ravel(), minlength=256)[:4] for each in (expert, drawn)]
    ratio = counts[1] / counts[0]
    assert (ratio > 0.65).all(), ratio
    assert (ratio < 1.5).all(), ratio
