"""Nearest neighbours against all distances in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

import nextmask.selection.geometry.neighbours as module
from nextmask.selection.geometry.neighbours import Neighbourhood, nearest
from nextmask.selection.geometry.typicality import most_typical, typicality


def _normal(samples: int, dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(samples, dims))


def _tight_and_far() -> np.ndarray:
    """Two blobs a million of their own widths apart: float32 cannot tell their members from each other."""
    return _normal(200, 6) * 1e-3 + np.repeat([[0.0], [1e3]], 100, axis=0)


def _blank_slices() -> np.ndarray:
    points = _normal(300, 8).astype(np.float32)
    points[50:220] = points[7]
    return points


POOLS: dict[str, Callable[[], np.ndarray]] = {
    "random": lambda: _normal(700, 16).astype(np.float32),
    "repeated": lambda: np.repeat(_normal(30, 8), 6, axis=0),
    "blank_slices": _blank_slices,
    "constant": lambda: np.ones((40, 4)),
    "zero": lambda: np.zeros((40, 4), np.float32),
    "constant_columns": lambda: np.where(np.arange(8) % 2, _normal(100, 8), 3.0),
    "offset": lambda: (np.round(_normal(300, 8) * 4) / 4 + 1e4).astype(np.float32),
    "half_precision": lambda: _normal(300, 8).astype(np.float16),
    "grid": lambda: np.stack(np.meshgrid(*[np.arange(5.0)] * 3), axis=-1).reshape(-1, 3),
    "tight_and_far": _tight_and_far,
    "one_outlier": lambda: np.concatenate([_normal(300, 8), np.full((1, 8), 1e9)]),
    "huge": lambda: _normal(60, 8) * 1e200**0.5,
    "tiny": lambda: _normal(60, 8) * 1e-60,
    "two": lambda: _normal(2, 3),
}


def _naive(points: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    points = points.astype(np.float64)
    distances = cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    rows = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, rows, axis=1), rows


@pytest.mark.parametrize("k", [1, 7, 25])
@pytest.mark.parametrize("pool", POOLS)
def test_equals_all_distances_in_float64(pool: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points = POOLS[pool]()
    expected = _naive(points, min(k, len(points) - 1))
    for columns in (4096, 64):
        monkeypatch.setattr(module, "COLUMNS", columns)
        distances, rows = nearest(points, k)
        np.testing.assert_array_equal(rows, expected[1])
        np.testing.assert_allclose(distances, expected[0], rtol=1e-12)


def test_one_sample_has_no_neighbours() -> None:
    distances, rows = nearest(np.ones((1, 3)), 5)
    assert distances.shape == rows.shape == (1, 0)
    assert typicality(np.ones((1, 3)), 5).tolist() == [0]


def test_same_on_any_number_of_threads() -> None:
    points = _normal(1500, 24).astype(np.float32)
    with threadpool_limits(1):
        once = nearest(points, 10)
    with threadpool_limits(3):
        again = nearest(points, 10)
    np.testing.assert_array_equal(once[0], again[0])
    np.testing.assert_array_equal(once[1], again[1])


def test_margins_rule_out_nearly_all_pairs() -> None:
    around = Neighbourhood(_normal(2000, 64).astype(np.float32))
    assert len(around._contenders(np.arange(100), 10)[0]) < 1100


def test_pool_is_neither_changed_nor_copied_to_float64() -> None:
    points = _normal(50, 4).astype(np.float32)
    points.flags.writeable = False
    assert Neighbourhood(points).rounded.dtype == np.float32
    nearest(points, 3)


@pytest.mark.parametrize("reach", [0.0, 0.7, 1.1, 3.0])
@pytest.mark.parametrize("pool", POOLS)
def test_the_floor_is_below_the_mean_distance(pool: str, reach: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIDE", 64)
    points = POOLS[pool]()
    k = min(6, len(points) - 1)
    mean = _naive(points, k)[0].mean(axis=1)
    floor = Neighbourhood(points).mean_distance_floor(k, reach * float(np.median(mean)), float(np.median(mean)))
    assert (floor <= mean * (1 + 1e-12)).all()


def test_the_floor_is_the_mean_distance_of_rows_with_k_neighbours_within_reach() -> None:
    points = np.array([[0.0], [1.0], [3.0], [10.0], [20.0]])
    floor = Neighbourhood(points).mean_distance_floor(2, 8.0, 8.0)
    np.testing.assert_allclose(floor, [2, 1.5, 2.5, (7 + 8) / 2, 8], rtol=1e-3)


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize("pool", POOLS)
def test_most_typical_equals_sorting_all(pool: str, count: int) -> None:
    points = POOLS[pool]()
    allowed = np.flatnonzero(np.arange(len(points)) % 3 != 1)
    count = min(count, len(allowed))
    rows, values = most_typical(points, allowed, count, 4)
    everyone = typicality(points, 4)
    np.testing.assert_array_equal(rows, allowed[np.argsort(-everyone[allowed], kind="stable")][:count])
    np.testing.assert_array_equal(values, everyone[rows])


def test_typicality_is_the_papers() -> None:
    points = _normal(60, 5)
    np.testing.assert_allclose(typicality(points, 8), 1 / (_naive(points, 8)[0].mean(axis=1) + 1e-5), rtol=1e-12)
