"""Entropy and its reductions."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.errors import SelectionError
from nextmask.selection.measures import entropy, image_uncertainty, mean_over, predicted_foreground


def _disk(size: int, sure: float = 0.6, radius: int = 5) -> np.ndarray:
    """Probabilities (2, size, size): certain background, and a disk of which the network is ``sure``."""
    y, x = np.mgrid[:size, :size] - size // 2
    foreground = np.where(y**2 + x**2 <= radius**2, sure, 0.0)
    return np.stack([1 - foreground, foreground]).astype(np.float32)


def test_entropy_runs_from_zero_to_one_and_peaks_at_one_half() -> None:
    p = np.linspace(0, 1, 101)
    values = entropy(np.stack([1 - p, p]))
    assert values[0] == 0
    assert values[-1] == 0
    assert np.argmax(values) == 50
    assert values.max() == pytest.approx(1)
    np.testing.assert_allclose(values, values[::-1], atol=1e-6)
    assert entropy(np.full((5, 2, 3, 4), 0.2)) == pytest.approx(np.ones((2, 3, 4)))


def test_entropy_takes_half_precision_as_it_is() -> None:
    exact = np.random.default_rng(0).dirichlet(np.ones(4), size=(9, 9)).transpose(2, 0, 1)
    np.testing.assert_allclose(entropy(exact.astype(np.float16)), entropy(exact), atol=3e-3)


def test_entropy_of_slightly_negative_probabilities_is_finite() -> None:
    assert np.isfinite(entropy(np.array([[1.0 + 1e-7], [-1e-7]]))).all()


def test_mean_does_not_grow_with_the_field_of_view() -> None:
    small, large = _disk(32), _disk(96)
    assert image_uncertainty(large) == pytest.approx(image_uncertainty(small), rel=1e-6)
    # The mean of the whole image does depend on it, and shrinks: 9 times the area, a ninth of the mean.
    assert image_uncertainty(small, "whole") == pytest.approx(9 * image_uncertainty(large, "whole"), rel=0.15)


def test_less_sure_scores_higher() -> None:
    assert image_uncertainty(_disk(32, sure=0.55)) > image_uncertainty(_disk(32, sure=0.9))


def test_without_predicted_foreground_the_whole_image_counts() -> None:
    missed = _disk(32, sure=0.4)
    assert not predicted_foreground(missed).any()
    assert image_uncertainty(missed) == image_uncertainty(missed, "whole") > 0


def test_foreground_grows_in_the_plane_only() -> None:
    probabilities = np.zeros((2, 3, 11, 11), dtype=np.float32)
    probabilities[0] = 1
    probabilities[:, 1, 5, 5] = 0.1, 0.9
    grown = predicted_foreground(probabilities, margin=2)
    assert grown.sum(axis=(1, 2)).tolist() == [0, 13, 0]
    assert predicted_foreground(probabilities, margin=0).sum() == 1


def test_mean_over_a_mask() -> None:
    values = np.array([[0.0, 1.0], [0.5, 0.1]])
    assert mean_over(values, np.array([[False, True], [True, False]])) == 0.75
    assert mean_over(values) == pytest.approx(0.4)
    with pytest.raises(SelectionError, match="mask to average over is empty"):
        mean_over(values, np.zeros((2, 2), dtype=bool))


def test_refuses_another_reduction() -> None:
    with pytest.raises(SelectionError, match="reduction is 'sum'"):
        image_uncertainty(_disk(16), "sum")
