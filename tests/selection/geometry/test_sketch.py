"""What a sketch promises: squared distances that are bounds of the true ones, whatever float32 loses on the way."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nextmask.selection.geometry import groups
from nextmask.selection.geometry import sketch as module
from nextmask.selection.geometry.sketch import Sketch, as_they_are, sketch


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _far_pair() -> np.ndarray:
    """Close pairs far from everything else: a small difference of large numbers, all products rounded the same way."""
    points = _rng().normal(size=(150, 300)) * 1e-3
    points[:40] += 1 + 2.0**-12
    points[40:80] -= 1 + 2.0**-12
    return points


HARD: dict[str, Callable[[], np.ndarray]] = {
    "full rank": lambda: _rng().normal(size=(150, 300)) + 1e3,
    "close pairs, far away": _far_pair,
    "repeated": lambda: np.repeat(_rng().normal(size=(30, 300)), 5, axis=0).astype(np.float32),
    "huge": lambda: _rng().normal(size=(150, 300)) * 1e30,
    "tiny": lambda: _rng().normal(size=(150, 300)) * 1e-30,
    "few coordinates": lambda: _rng().normal(size=(150, 5)),
}


@pytest.fixture(params=HARD)
def pool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[np.ndarray, Sketch]:
    # However much a few axes explain: here all coordinates are to be kept.
    monkeypatch.setattr(module, "EXPLAINED_BY_FEW", 1.1)
    points = HARD[request.param]().astype(np.float64)
    return points, sketch(as_they_are(points))


def _squared(points: np.ndarray, short: Sketch, slack: float) -> np.ndarray:
    apart = cdist(points, points) / short.unit + slack
    np.fill_diagonal(apart, slack)
    return np.maximum(apart, 0) ** 2


def test_the_margin_bounds_what_float32_loses(pool: tuple[np.ndarray, Sketch]) -> None:
    points, short = pool
    assert short.margin > 0
    assert short.coordinates.shape == points.shape
    products = [
        short.coordinates @ short.coordinates.T,
        # Sums in other orders, and the worst one: no two terms are added before they meet the sum.
        short.coordinates[:, ::-1] @ short.coordinates[:, ::-1].T,
        np.cumsum(short.coordinates[:, None] * short.coordinates, axis=2, dtype=np.float32)[:, :, -1],
    ]
    for product in products:
        lowest = short.lowest_squares[:, None] + short.squares - 2 * product
        highest = short.highest_squares[:, None] + short.squares - 2 * product
        assert (lowest <= _squared(points, short, short.slack)).all()
        assert (highest >= _squared(points, short, -short.slack)).all()
    assert (short.squared_distances(short) >= 0).all()
    assert (short.squared_distances(short) <= _squared(points, short, short.slack)).all()


def test_the_margin_covers_more_than_what_is_lost_when_all_terms_are_rounded_up() -> None:
    # One number whose square is rounded up by nearly half a unit of the last digit, over and over.
    one = np.float32(4097.0 / 4096)
    coordinates = np.full((2, 4096), one, dtype=np.float32)
    short = sketch(as_they_are(np.concatenate([coordinates, -coordinates])[:, :127]))
    exact = short.coordinates.astype(np.float64) @ short.coordinates.T.astype(np.float64)
    in_turn = np.cumsum(short.coordinates[:, None] * short.coordinates, axis=2, dtype=np.float32)[:, :, -1]
    lost = np.abs(2 * (in_turn.astype(np.float64) - exact)).max()
    assert 0 < lost < short.margin


def test_a_pool_with_main_axes_keeps_few_whole_coordinates() -> None:
    main = _rng().normal(size=(400, 20)) @ _rng(1).normal(size=(20, 300))
    short = sketch(as_they_are(main))
    assert short.margin == 0
    assert short.coordinates.shape[1] < 60
    np.testing.assert_array_equal(short.coordinates, np.rint(short.coordinates))
    np.testing.assert_array_equal(short.lowest_squares, short.highest_squares)


def test_where_not_all_can_be_held_few_whole_coordinates_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_NUMBERS", 150 * 200)
    points = HARD["full rank"]()
    short = sketch(as_they_are(points))
    assert short.coordinates.shape == (150, 200) or short.coordinates.shape[1] <= 200
    assert short.margin == 0
    assert (short.squared_distances(short) <= _squared(points, short, short.slack)).all()


def test_groups_within_reach_are_never_ruled_out(
    pool: tuple[np.ndarray, Sketch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "SMALLEST_POOL", 20)
    monkeypatch.setattr(groups, "PER_ROOT", 1)
    points, _ = pool
    sorted_pool = groups.sorted_pool(as_they_are(points))
    apart = cdist(points, points)[:, sorted_pool.order] / sorted_pool.sketch.unit
    nearest = np.minimum.reduceat(apart, sorted_pool.starts[:-1], axis=1)
    reach = np.quantile(apart, 0.1) + sorted_pool.sketch.slack
    every = np.arange(len(sorted_pool.radius))
    rows = np.arange(len(points))
    near = sorted_pool.pairs_near(sorted_pool.at(rows), np.full(len(rows), reach), every)
    assert near[nearest < reach - sorted_pool.sketch.slack].all()
    assert sorted_pool.near(sorted_pool.at(rows), reach)[near.any(axis=0)].all()
    members = sorted_pool.members(every[::2])
    expected = [np.arange(*sorted_pool.starts[group : group + 2]) for group in every[::2]]
    np.testing.assert_array_equal(members, np.concatenate(expected))
