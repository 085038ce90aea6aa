"""CEAL's variance, weighted by the distance to the predicted contour."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.selection.measures import contour_variance, contour_variance_map, signed_distance


def _ball(size: int = 41, radius: float = 8.0) -> np.ndarray:
    z, y, x = np.mgrid[:size, :size, :size] - size // 2
    return z**2 + y**2 + x**2 <= radius**2


def test_distances_have_a_sign_and_both_sides() -> None:
    line = np.array([[False] * 4 + [True] * 5 + [False] * 3])
    distance = signed_distance(line, 2.5)
    assert distance is not None
    assert distance[0].tolist() == [2.5, 2.5, 2, 1, -1, -2, -2.5, -2, -1, 1, 2, 2.5]


def test_variance_at_the_contour_weighs_less_than_the_same_far_from_it() -> None:
    ball = _ball()
    at_the_contour, inside, outside = (np.zeros(ball.shape, np.float32) for _ in range(3))
    at_the_contour[20, 20, 12:15] = 0.2
    inside[20, 20, 19:22] = 0.2
    outside[20, 20, 3:6] = 0.2
    near, within, beyond = (contour_variance(values, ball) for values in (at_the_contour, inside, outside))
    assert near is not None
    assert within is not None
    assert beyond is not None
    assert 0 < 3 * near < min(within, beyond)


def test_no_detection_is_an_answer_and_not_nan() -> None:
    nothing = np.zeros((5, 6, 7), dtype=bool)
    variance = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    assert signed_distance(nothing, 10.0) is None
    assert contour_variance_map(variance, nothing) is None
    assert contour_variance(variance, nothing) is None


def test_an_image_full_of_foreground_has_no_phantom_contour() -> None:
    """The distance transform of an array without a zero is to a point outside of it: weights grow from one corner."""
    everything = np.ones((5, 6, 7), dtype=bool)
    variance = np.full((5, 6, 7), 0.25, dtype=np.float32)
    np.testing.assert_array_equal(contour_variance_map(variance, everything), variance)


def test_millimetres_count_and_not_voxels() -> None:
    """The same ball on a grid twice as fine along the last axis scores about the same."""
    ball = _ball()
    variance = np.where(ball, 0.1, 0.02).astype(np.float32)
    coarse = contour_variance(variance, ball, (1.0, 1.0, 1.0), reach=6.0)
    fine = contour_variance(np.repeat(variance, 2, axis=2), np.repeat(ball, 2, axis=2), (1.0, 1.0, 0.5), reach=6.0)
    assert fine == pytest.approx(coarse, rel=0.08)


def test_empty_surroundings_change_nothing() -> None:
    ball = _ball(25, 5)
    variance = np.random.default_rng(0).random(ball.shape).astype(np.float32) * ball
    wide = [np.pad(values, 20) for values in (variance, ball)]
    assert contour_variance(*wide, reach=6.0) == pytest.approx(contour_variance(variance, ball, reach=6.0), rel=1e-9)


def test_runs_from_0_to_1() -> None:
    ball = _ball()
    assert contour_variance(np.zeros(ball.shape, np.float32), ball) == 0
    value = contour_variance(np.ones(ball.shape, np.float32), ball)
    assert value is not None
    assert 0 < value < 1
