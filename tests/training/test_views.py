"""Views of an image that is turned: made, predicted, and turned back onto its grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from nextmask.training.views import mean_of, turned_views


def smooth(*shape: int) -> np.ndarray:
    """Draw an image of one channel that linear interpolation does little to."""
    noise = np.random.default_rng(0).random((1, *shape))
    return ndimage.gaussian_filter(noise, (0, *(0 for _ in shape[:-2]), 4, 4)).astype(np.float32) * 10


def two_classes(image: np.ndarray) -> np.ndarray:
    """Tell two classes apart by brightness alone, wherever it lies."""
    bright = 1 / (1 + np.exp(-4 * (image - 5)))
    return np.concatenate([1 - bright, bright])


def shares_of_rows(image: np.ndarray) -> np.ndarray:
    """Say what depends on where in the image a pixel lies alone: the first class from the top, the second from below."""
    rows = np.broadcast_to(np.linspace(0, 1, image.shape[-2], dtype=np.float32)[:, None], image.shape)
    return np.concatenate([1 - rows, rows])


@pytest.mark.parametrize("shape", [(40, 40), (32, 48), (3, 40, 36)])
def test_views_lie_on_the_image_again(shape):
    image = smooth(*shape)
    plain, *turned = turned_views(two_classes, image, (-20, 10, 35))
    np.testing.assert_array_equal(plain, two_classes(image))
    assert len(turned) == 3
    middle = (..., slice(10, -10), slice(10, -10))
    for view in turned:
        assert (view.shape, view.dtype) == (plain.shape, np.float32)
        np.testing.assert_allclose(view[middle], plain[middle], atol=0.03)
        np.testing.assert_allclose(view.sum(0), 1, atol=1e-5)
        assert view.min() >= -1e-6


def test_a_quarter_turn_shows_a_segmenter_other_rows():
    plain, left, right = turned_views(shares_of_rows, smooth(16, 16), (90, -90))
    np.testing.assert_allclose(plain[1][:, 0], np.linspace(0, 1, 16), atol=1e-6)
    for view in (left, right):
        np.testing.assert_allclose(view, np.broadcast_to(view[:, :1], view.shape), atol=1e-5)
    np.testing.assert_allclose(left[1], right[0], atol=1e-5)
    np.testing.assert_allclose(np.abs(np.diff(left[1][0])), 1 / 15, atol=1e-5)


def test_a_volume_is_turned_within_its_slices():
    seen, volume = [], smooth(4, 24, 24)
    list(turned_views(lambda image: seen.append(image) or two_classes(image), volume, (15,)))
    of_slices = []
    for place in range(4):
        list(turned_views(lambda image: of_slices.append(image) or two_classes(image), volume[:, place], (15,)))
    np.testing.assert_allclose(seen[1], np.stack(of_slices[1::2], axis=1), atol=1e-6)


def test_no_angle_is_one_prediction():
    image = smooth(8, 8)
    np.testing.assert_array_equal(mean_of(turned_views(two_classes, image, ())), two_classes(image))


def test_what_a_segmenter_gave_stays_its_own():
    kept = np.stack([np.full((8, 8), 0.25, np.float32), np.full((8, 8), 0.75, np.float32)])
    kept.flags.writeable = False
    for degrees in ((), (90,), (10, 20)):
        np.testing.assert_allclose(mean_of(turned_views(lambda image: kept, smooth(8, 8), degrees)), kept, atol=1e-6)
