"""The best boxes: the naive greedy's picks, exactly, without its time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from nextmask.errors import SelectionError
from nextmask.selection.measures import best_patches, box_means

RNG = np.random.default_rng(0)


def _naive(
    values: np.ndarray, size: Sequence[int], n: int, taken: Sequence[Sequence[int]] | np.ndarray = (), stride: int = 1
) -> list[tuple[tuple[int, ...], float]]:
    """Average every box by itself; take the best, of equals the first; strike all that overlap; again."""
    starts = list(
        product(*(range(0, length - side + 1, stride) for length, side in zip(values.shape, size, strict=True)))
    )
    means = {start: values[_slices(start, size)].mean(dtype=np.float64) for start in starts}
    chosen = [(box[: len(size)], box[len(size) :]) for box in taken]
    picks: list[tuple[tuple[int, ...], float]] = []
    while len(picks) < n:
        free = [s for s in starts if not any(_overlap(s, np.add(s, size), *box) for box in chosen)]
        if not free:
            break
        best = max(free, key=lambda start: means[start])  # the first of equals
        picks.append((best, means[best]))
        chosen.append((best, tuple(a + b for a, b in zip(best, size, strict=True))))
    return picks


def _slices(start: Sequence[int], size: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(a, a + side) for a, side in zip(start, size, strict=True))


def _overlap(first: Sequence[int], last: Sequence[int], other_first: Sequence[int], other_last: Sequence[int]) -> bool:
    sides = zip(first, last, other_first, other_last, strict=True)
    return all(a < d and c < b for a, b, c, d in sides)


def _assert_as_naive(values: np.ndarray, size: Sequence[int], n: int, **options: object) -> None:
    starts, means = best_patches(values, size, n, **options)
    wanted = _naive(values, size, n, **options)
    assert [tuple(start) for start in starts.tolist()] == [start for start, _ in wanted]
    np.testing.assert_allclose(means, [mean for _, mean in wanted], rtol=1e-9, atol=1e-12)


MAPS = {
    "noise": RNG.random((9, 12, 13)).astype(np.float32),
    "quarters": (RNG.integers(0, 3, (9, 12, 13)) / 4).astype(np.float32),
    "constant": np.full((9, 12, 13), 0.3, np.float32),
    "zero": np.zeros((9, 12, 13), np.float32),
    "mostly_zero": np.where(RNG.random((9, 12, 13)) > 0.97, 1, 0).astype(np.float32),
    "tiny": (1e-9 * RNG.integers(0, 5, (9, 12, 13))).astype(np.float32),
    "double": RNG.integers(0, 1000, (9, 12, 13)) / 1000,
}


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("size", [(1, 1, 1), (3, 4, 5), (9, 3, 3), (2, 12, 13)])
@pytest.mark.parametrize("name", MAPS)
def test_the_picks_of_the_naive_greedy(name: str, size: tuple[int, ...], stride: int) -> None:
    _assert_as_naive(MAPS[name], size, 6, stride=stride)


def test_pictures_too_and_until_nothing_fits() -> None:
    picture = RNG.random((30, 21)).astype(np.float32)
    _assert_as_naive(picture, (7, 5), 1000)
    starts, _ = best_patches(picture, (30, 21), 3)
    assert starts.tolist() == [[0, 0]]


def test_boxes_of_the_same_content_have_the_same_mean_to_the_bit() -> None:
    """Plain running sums differ in the last digit by what lies before a box, and then decide between equals."""
    block = RNG.random((4, 4, 4)).astype(np.float32)
    values = np.zeros((16, 16, 16), np.float32)
    corners = [(0, 0, 0), (0, 9, 3), (5, 1, 11), (12, 12, 12), (11, 6, 0)]
    for corner in corners:
        values[_slices(corner, (4, 4, 4))] = block
    values[6:8, 10:, 6:8] = 1e-3 * RNG.random((2, 6, 2))
    means = box_means(values, (4, 4, 4))
    assert len({float(means[corner]) for corner in corners}) == 1
    starts, _ = best_patches(values, (4, 4, 4), 5)
    assert [tuple(start) for start in starts.tolist()] == sorted(corners)


def test_earlier_boxes_are_kept_clear_of() -> None:
    values = MAPS["noise"]
    first, _ = best_patches(values, (3, 4, 5), 2)
    taken = np.hstack([first, first + np.array([3, 4, 5])])
    again, _ = best_patches(values, (3, 4, 5), 50, taken=taken)
    everything, _ = best_patches(values, (3, 4, 5), 52)
    np.testing.assert_array_equal(again, everything[2:])  # a box taken before is not found again
    _assert_as_naive(values, (3, 4, 5), 50, taken=taken)
    # Boxes of other sizes, one beyond the rim, and one that only touches.
    _assert_as_naive(values, (2, 2, 2), 20, taken=[(4, 0, 0, 5, 12, 13), (-3, -3, -3, 2, 2, 2), (7, 8, 9, 99, 99, 99)])
    _assert_as_naive(values, (2, 2, 2), 20, taken=[(4, 0, 0, 5, 12, 13)], stride=2)


def test_nothing_is_left_beside_a_box_that_fills_the_image() -> None:
    starts, means = best_patches(MAPS["noise"], (3, 4, 5), 4, taken=[(0, 0, 0, 9, 12, 13)])
    assert starts.shape == (0, 3)
    assert means.shape == (0,)


def test_box_means() -> None:
    values = MAPS["noise"]
    wanted = sliding_window_view(values, (3, 4, 5)).mean(axis=(3, 4, 5), dtype=np.float64)
    np.testing.assert_allclose(box_means(values, (3, 4, 5)), wanted, rtol=1e-9)
    np.testing.assert_allclose(box_means(values, (3, 4, 5), (2, 1, 4)), wanted[::2, :, ::4], rtol=1e-9)
    line = np.array([-1.0, 3.0, 4.0, 1.0])
    np.testing.assert_allclose(box_means(line, (2,)), [1.0, 3.5, 2.5])


def test_large_maps_do_not_overflow_or_drift() -> None:
    values = np.full((3, 700, 700), 1.0, np.float32)
    values[1, 350, 350] = np.nextafter(np.float32(1), np.float32(2))
    starts, means = best_patches(values, (1, 600, 600), 3)
    assert starts.tolist() == [[1, 0, 0], [0, 0, 0], [2, 0, 0]]
    assert means[1] == means[2] == 1
    assert means[0] > 1


def test_refuses_what_does_not_fit() -> None:
    with pytest.raises(SelectionError, match=r"size is \(10, 4, 4\) for a map of shape \(9, 12, 13\)"):
        best_patches(MAPS["noise"], (10, 4, 4), 2)
    with pytest.raises(SelectionError, match="stride is 0"):
        best_patches(MAPS["noise"], (2, 2, 2), 2, stride=0)
    broken = MAPS["noise"].copy()
    broken[3, 3, 3] = np.nan
    with pytest.raises(SelectionError, match="NaN or infinite"):
        best_patches(broken, (2, 2, 2), 2)
