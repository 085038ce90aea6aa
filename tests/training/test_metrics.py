"""Scores agree with MONAI's on real and on made-up masks, and what MONAI leaves open is decided as documented."""

from __future__ import annotations

import math
import warnings

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from nextmask.errors import DataError
from nextmask.training.metrics import ClassScore, score_case, summarise


def monai_scores(prediction, reference, spacing, tolerance=2.0):
    """Compute (dice, hd95, nsd, assd) of one binary pair with MONAI, axis order untouched."""
    import torch
    from monai import metrics

    p, r = (torch.from_numpy(mask.astype(np.float32))[None, None] for mask in (prediction, reference))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            float(metrics.compute_dice(p, r)),
            float(metrics.compute_hausdorff_distance(p, r, include_background=True, percentile=95, spacing=spacing)),
            float(metrics.compute_surface_dice(p, r, [tolerance], include_background=True, spacing=spacing)),
            float(metrics.compute_average_surface_distance(p, r, True, symmetric=True, spacing=spacing)),
        )


def assert_as_monai(prediction, reference, spacing):
    for label in np.unique(np.concatenate([np.unique(prediction), np.unique(reference)])):
        if label == 0:
            continue
        one, other = prediction == label, reference == label
        score = score_case(one.astype(np.uint8), other.astype(np.uint8), ["x"], spacing)[0]
        ours = (score.dice, score.hd95, score.nsd, score.assd)
        assert ours == pytest.approx(monai_scores(one, other, spacing), rel=1e-4, abs=1e-5)


def read_mask(path):
    image = nibabel.load(path)
    return np.asarray(image.dataobj).T.round().astype(np.uint8), tuple(map(float, image.header.get_zooms()[:3][::-1]))


@pytest.mark.parametrize("name", ["hippocampus/masks/hippocampus_001.nii.gz", "mscmr/masks/subject16_DE.nii.gz"])
def test_real_masks_score_as_monai_says(shared_data, name):
    reference, spacing = read_mask(shared_data(name))
    if max(reference.shape) > 256:  # a slab around the heart is as good a test, and quicker
        reference = reference[5:10, 150:350, 150:350]
    shifted = np.roll(reference, (0, 2, -1), axis=(0, 1, 2))
    grown = np.where(reference == 0, ndimage.grey_dilation(reference, size=(1, 3, 3)), reference).astype(np.uint8)
    for prediction in (shifted, grown):
        assert_as_monai(prediction, reference, spacing)


def test_two_readings_of_one_exam_agree_as_published(shared_data):
    for phase in ("frame01", "frame12"):
        paths = [shared_data(f"acdc/masks/patient{p}_{phase}.nii.gz") for p in ("074", "076")]
        one, other = (read_mask(path)[0] for path in paths)
        scores = score_case(one, other, ["RV", "MYO", "LV"], None)
        assert all(0.946 < score.dice < 0.987 for score in scores)
        assert all(score.hd95 is None and score.nsd is None and score.assd is None for score in scores)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=6)).flatmap(
        lambda mask: st.tuples(st.just(mask), hnp.arrays(bool, mask.shape))
    ),
    st.lists(st.floats(0.3, 6), min_size=3, max_size=3),
)
def test_any_pair_of_masks_scores_as_monai_says(pair, spacing):
    one, other = (mask.astype(np.uint8) for mask in pair)
    if one.any() and other.any():
        assert_as_monai(one, other, tuple(spacing[: one.ndim]))


def test_distances_are_the_naive_ones():
    reference, prediction = np.zeros((2, 4, 9, 9), np.uint8)
    reference[1:3, 2:5, 2:5], prediction[1:3, 2:5, 5:8] = 1, 1
    spacing = np.array([5.0, 1.0, 0.5])
    surfaces = []
    for mask in (prediction, reference):
        inside = np.argwhere(mask)
        neighbours = [(d, s) for d in range(3) for s in (-1, 1)]
        on = [v for v in inside if any(not mask[tuple(v + s * np.eye(3, dtype=int)[d])] for d, s in neighbours)]
        surfaces.append(np.array(on) * spacing)
    distance = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=2)
    score = score_case(prediction, reference, ["x"], tuple(spacing), tolerance_mm=0.75)[0]
    there, back = distance.min(axis=1), distance.min(axis=0)
    assert score.hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert score.assd == pytest.approx(np.concatenate([there, back]).mean())
    assert score.nsd == pytest.approx((np.concatenate([there, back]) <= 0.75).mean())
    assert score.dice == 0


def test_a_class_in_neither_mask_is_nan_and_left_out_of_means():
    empty = np.zeros((4, 8, 8), np.uint8)
    full = np.ones_like(empty)
    absent = score_case(empty, empty, ["tumour"], (1, 1, 1))
    assert all(math.isnan(value) for value in (absent[0].dice, absent[0].hd95, absent[0].nsd, absent[0].assd))
    summary = summarise([absent, score_case(full, full, ["tumour"], (1, 1, 1))])[0]
    assert (summary.dice, summary.hd95, summary.nsd, summary.assd) == (1, 0, 1, 0)
    assert (summary.cases, summary.absent) == (2, 1)


def test_predicting_nothing_is_the_worst_there_is():
    reference = np.zeros((4, 8, 8), np.uint8)
    reference[1:3, 2:6, 2:6] = 1
    nothing, corner = np.zeros_like(reference), np.zeros_like(reference)
    corner[3, 7, 7] = 1
    missed = score_case(nothing, reference, ["x"], (5, 1, 1))[0]
    assert missed == ClassScore("x", 0, pytest.approx(math.hypot(20, 8, 8)), 0, pytest.approx(math.hypot(20, 8, 8)))
    invented = score_case(reference, nothing, ["x"], (5, 1, 1))[0]
    assert invented == missed
    wrong = score_case(corner, reference, ["x"], (5, 1, 1))[0]
    assert wrong.hd95 < missed.hd95
    assert wrong.assd < missed.assd


def test_voxels_that_are_not_annotated_do_not_count():
    reference = np.zeros((8, 8), np.uint8)
    reference[2:6, 2:6] = 1
    prediction = reference.copy()
    reference[:, :3] = 255
    prediction[:, 0] = 1
    score = score_case(prediction, reference, ["x"], (1, 1))[0]
    assert score == ClassScore("x", 1, 0, 1, 0)


def test_a_volume_of_one_slice_is_scored_as_a_picture():
    reference = np.zeros((1, 16, 16), np.uint8)
    reference[0, 4:12, 4:12] = 1
    prediction = np.roll(reference, 3, axis=2)
    volume = score_case(prediction, reference, ["x"], (8, 1, 1))[0]
    picture = score_case(prediction[0], reference[0], ["x"], (1, 1))[0]
    assert volume == picture


def test_classes_are_scored_apart_and_in_order():
    reference = np.zeros((10, 10), np.uint8)
    reference[:4], reference[6:] = 1, 2
    swapped = np.array([0, 2, 1], np.uint8)[reference]
    assert [(s.name, s.dice) for s in score_case(reference, reference, ["a", "b"], None)] == [("a", 1), ("b", 1)]
    assert [(s.name, s.dice) for s in score_case(swapped, reference, ["a", "b"], None)] == [("a", 0), ("b", 0)]


def test_means_over_cases_with_and_without_spacing():
    mask = np.zeros((6, 6), np.uint8)
    mask[2:4, 2:4] = 1
    moved = np.roll(mask, 1, axis=0)
    summary = summarise([score_case(moved, mask, ["x"], (2, 2)), score_case(mask, mask, ["x"], None)])[0]
    assert summary.dice == pytest.approx(0.75)
    assert summary.hd95 == pytest.approx(2)
    assert summarise([score_case(mask, mask, ["x"], None)])[0].hd95 is None


@pytest.mark.parametrize("spacing", [(1.0,), (1.0, 0.0), (1.0, math.nan), (1.0, 1.0, 1.0)])
def test_a_spacing_that_does_not_fit_is_refused(spacing):
    with pytest.raises(DataError, match="positive number"):
        score_case(np.ones((3, 3), np.uint8), np.ones((3, 3), np.uint8), ["x"], spacing)


def test_another_grid_is_refused():
    with pytest.raises(DataError, match="same grid"):
        score_case(np.ones((3, 3), np.uint8), np.ones((3, 4), np.uint8), ["x"], None)
