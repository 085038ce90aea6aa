"""From maps to numbers: means over what is predicted, in millimetres, whatever surrounds it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt

from nextmask.errors import SelectionError
from nextmask.selection.measures import (
    class_maps,
    class_uncertainty,
    distance_within,
    entropy,
    foreground_share,
    grown,
    image_uncertainty,
    mean_over,
    means_in_boxes,
    means_of_classes,
    predicted_foreground,
    residual,
)


def _disk(size: int, sure: float = 0.6, radius: int = 5) -> np.ndarray:
    """Probabilities (2, size, size): certain background, and a disk of which the network is ``sure``."""
    y, x = np.mgrid[:size, :size] - size // 2
    foreground = np.where(y**2 + x**2 <= radius**2, sure, 0.0)
    return np.stack([1 - foreground, foreground]).astype(np.float32)


def _in_empty_surroundings(probabilities: np.ndarray, width: int) -> np.ndarray:
    """Add certain background on every side of an image."""
    wide = np.pad(probabilities, [(0, 0)] + [(width, width)] * (probabilities.ndim - 1))
    wide[0][wide.sum(axis=0) == 0] = 1
    return wide


def _three_classes(shape: tuple[int, ...] = (6, 20, 24)) -> np.ndarray:
    return (
        np.random.default_rng(0).dirichlet((4, 1, 1), size=shape).transpose(-1, *range(len(shape))).astype(np.float32)
    )


def test_mean_does_not_grow_with_the_field_of_view() -> None:
    small, large = _disk(32), _disk(96)
    assert image_uncertainty(large) == pytest.approx(image_uncertainty(small), rel=1e-6)
    # The mean of the whole image does depend on it, and shrinks: 9 times the area, a ninth of the mean.
    assert image_uncertainty(small, "whole") == pytest.approx(9 * image_uncertainty(large, "whole"), rel=0.15)


@pytest.mark.parametrize("measure", ["entropy", "margin", "least_confidence"])
def test_empty_surroundings_change_no_score_of_the_foreground(measure: str) -> None:
    small = _in_empty_surroundings(_three_classes(), 5)
    large = _in_empty_surroundings(small, 12)
    spacing = (2.0, 1.0, 0.7)
    assert image_uncertainty(large, measure=measure, spacing=spacing) == pytest.approx(
        image_uncertainty(small, measure=measure, spacing=spacing), rel=1e-9
    )


def test_less_sure_scores_higher() -> None:
    assert image_uncertainty(_disk(32, sure=0.55)) > image_uncertainty(_disk(32, sure=0.9))


def test_members_are_scored_as_their_mean() -> None:
    members = [_disk(32, sure=0.55), _disk(32, sure=0.95)]
    assert image_uncertainty(iter(members)) == pytest.approx(image_uncertainty(_disk(32, sure=0.75)), rel=1e-6)
    assert image_uncertainty(members, measure="mutual_information") > 0


def test_without_predicted_foreground_the_whole_image_counts() -> None:
    missed = _disk(32, sure=0.4)
    assert not predicted_foreground(missed).any()
    assert image_uncertainty(missed) == image_uncertainty(missed, "whole") > 0


def test_foreground_grows_in_the_plane_only_where_the_spacing_is_unknown() -> None:
    probabilities = np.zeros((2, 3, 11, 11), dtype=np.float32)
    probabilities[0] = 1
    probabilities[:, 1, 5, 5] = 0.1, 0.9
    assert predicted_foreground(probabilities, 2.0).sum(axis=(1, 2)).tolist() == [0, 13, 0]
    assert predicted_foreground(probabilities, 0.0).sum() == 1
    assert predicted_foreground(probabilities, 2.0, (2.0, 1.0, 1.0)).sum(axis=(1, 2)).tolist() == [1, 13, 1]
    assert predicted_foreground(probabilities, 2.0, (10.0, 0.5, 2.0))[1, :, 5].sum() == 9


def test_a_tie_with_the_background_is_background() -> None:
    assert not predicted_foreground(np.full((2, 3, 3), 0.5), 0.0).any()
    assert foreground_share(np.array([[0.5, 0.2, 0.2], [0.5, 0.5, 0.3], [0.0, 0.3, 0.5]])) == pytest.approx(2 / 3)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.5, 0.7, 0.7), (0.9, 3.0, 1.1)])
def test_distances_are_euclidean_as_far_as_they_reach(spacing: tuple[float, ...]) -> None:
    mask = np.random.default_rng(0).random((12, 17, 15)) > 0.995
    everywhere = distance_transform_edt(~mask, sampling=spacing)
    for reach in (1.0, 2.1, 6.0):
        np.testing.assert_allclose(distance_within(mask, reach, spacing), np.minimum(everywhere, reach), rtol=1e-6)
        np.testing.assert_array_equal(grown(mask, reach, spacing), everywhere <= reach + 1e-9)


def test_distances_where_nothing_or_everything_is_in_the_mask() -> None:
    np.testing.assert_array_equal(distance_within(np.zeros((4, 5), bool), 3.0), np.full((4, 5), 3.0))
    np.testing.assert_array_equal(distance_within(np.ones((4, 5), bool), 3.0), np.zeros((4, 5)))
    assert not grown(np.zeros((4, 5), bool), 3.0).any()
    # Three voxels of 0.7 mm are 2.1 mm, although 3 * 0.7 is a trifle more in binary.
    assert grown(np.eye(1, 9, dtype=bool), 2.1, (0.7, 0.7)).sum() == 4


def test_mean_over_a_mask() -> None:
    values = np.array([[0.0, 1.0], [0.5, 0.1]])
    assert mean_over(values, np.array([[False, True], [True, False]])) == 0.75
    assert mean_over(values) == pytest.approx(0.4)
    with pytest.raises(SelectionError, match="mask to average over is empty"):
        mean_over(values, np.zeros((2, 2), dtype=bool))


def test_means_in_boxes_say_how_many_voxels_they_are_of() -> None:
    values = np.arange(24.0).reshape(2, 3, 4)
    mask = values >= 12
    boxes = [(0, 0, 0, 1, 3, 4), (1, 0, 0, 2, 3, 4), (0, 0, 0, 2, 3, 4), (1, 1, 1, 2, 2, 3)]
    means, counts = means_in_boxes(values, boxes)
    np.testing.assert_allclose(means, [5.5, 17.5, 11.5, 17.5])
    assert counts.tolist() == [12, 12, 24, 2]
    means, counts = means_in_boxes(values, boxes, mask)
    np.testing.assert_allclose(means, [0, 17.5, 17.5, 17.5])
    assert counts.tolist() == [0, 12, 12, 2]


def test_means_of_classes() -> None:
    probabilities = np.zeros((4, 1, 9), dtype=np.float32)
    probabilities[0] = 1
    probabilities[:, 0, 1] = 0.2, 0.8, 0, 0
    probabilities[:, 0, 6] = 0.2, 0, 0.8, 0
    values = np.arange(9.0)[None]
    means, counts = means_of_classes(values, probabilities, radius=1.0)
    np.testing.assert_allclose(means, [1, 6, 0])
    assert counts.tolist() == [3, 3, 0]  # the third class is predicted nowhere, and says so


def test_class_uncertainty_is_probability_times_entropy() -> None:
    p = _three_classes()
    values = entropy(p)
    np.testing.assert_allclose(list(class_maps(p, values)), p[1:] * values, rtol=1e-6)
    np.testing.assert_allclose(class_uncertainty(p, values), (p[1:] * values).mean(axis=(1, 2, 3)), rtol=1e-5)
    mask = p[1] > 0.3
    np.testing.assert_allclose(class_uncertainty(p, values, mask), (p[1:] * values)[:, mask].mean(axis=1), rtol=1e-5)


def test_a_class_that_is_nowhere_likely_has_no_uncertainty() -> None:
    p = np.concatenate([_three_classes(), np.zeros((1, 6, 20, 24), np.float32)])
    assert class_uncertainty(p, entropy(p))[2] == 0


def test_residual_is_what_is_possible_but_not_predicted() -> None:
    p = np.array([[0.9, 0.6, 0.6], [0.1, 0.4, 0.3], [0.0, 0.0, 0.1]])
    np.testing.assert_allclose(residual(p), [0.7 - 1, 0.8 / 3, 0.1 / 3])
    assert residual(_three_classes()).sum() == pytest.approx(0, abs=1e-6)


def test_refuses_another_reduction_and_a_spacing_of_other_axes() -> None:
    with pytest.raises(SelectionError, match="reduction is 'sum'"):
        image_uncertainty(_disk(16), "sum")
    for spacing in [(1.0, 1.0, 1.0), (1.0, 0.0)]:
        with pytest.raises(SelectionError, match="spacing is"):
            image_uncertainty(_disk(16), spacing=spacing)
