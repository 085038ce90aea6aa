"""The claims of MaxHerding, against three obvious lines; and what its public version gets wrong."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nextmask.data.compiled import compiled
from nextmask.errors import SelectionError
from nextmask.selection import max_herding
from nextmask.selection.geometry import coverage, coverage_loops, coverage_plain, groups, sketch

LOOPS = "nextmask.selection.geometry.coverage_loops"


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _cold(samples: int) -> np.ndarray:
    return np.zeros(samples, dtype=bool)


def _unit(embeddings: np.ndarray) -> np.ndarray:
    points = embeddings.astype(float)
    return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-300)


def _kernel(embeddings: np.ndarray, scale: float = 1.0) -> np.ndarray:
    kernel = np.exp(-cdist(_unit(embeddings), _unit(embeddings), "sqeuclidean") / scale**2)
    return np.rint(kernel * 2**40) / 2**40


def _naive(kernel: np.ndarray, labeled: np.ndarray, n: int, cost: np.ndarray | float = 1.0) -> list[int]:
    best, taken = kernel[labeled].max(axis=0, initial=0), labeled.copy()
    rows: list[int] = []
    for _ in range(n):
        gain = np.array([math.fsum(np.maximum(row - best, 0)) for row in kernel]) / cost
        rows.append(int(np.argmax(np.where(taken, -1, gain))))
        best, taken[rows[-1]] = np.maximum(best, kernel[rows[-1]]), True
    return rows


def _clustered(samples: int = 110, dims: int = 6, seed: int = 0) -> np.ndarray:
    rng = _rng(seed)
    centres = rng.normal(scale=3, size=(8, dims))
    return (centres[rng.integers(8, size=samples)] + rng.normal(size=(samples, dims))).astype(np.float32)


POOLS = {
    "clustered": _clustered(),
    "offset": _clustered() + np.float32(64),
    "duplicated": np.repeat(_clustered(30), 4, axis=0),
    "constant columns": np.concatenate([_clustered(), np.full((110, 3), 7, np.float32)], axis=1),
    "constant": np.ones((30, 4)),
    "zeros among them": np.concatenate([np.zeros((5, 6), np.float32), _clustered(60)]),
    "wide": _clustered(70, 300),
    "half precision": _clustered().astype(np.float16),
    "huge": _clustered().astype(float) * 1e30,
}


@pytest.fixture(params=["plain", "compiled"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of adding up, on small pools cut into groups, so that all of the pruning has something to prune."""
    if request.param == "compiled" and compiled(LOOPS) is None:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(coverage, "WORTH_COMPILING", 0 if request.param == "compiled" else np.inf)
    monkeypatch.setattr(groups, "SMALLEST_POOL", 50)
    monkeypatch.setattr(groups, "PER_ROOT", 1)
    monkeypatch.setattr(sketch, "WIDEST", 16)
    monkeypatch.setattr(sketch, "WIDEST_OF_ALL", 16)
    return str(request.param)


@pytest.mark.parametrize("share_labeled", [0.0, 0.05])
@pytest.mark.parametrize("pool", POOLS)
def test_equals_the_naive_version(pool: str, share_labeled: float, loops: str) -> None:
    embeddings = POOLS[pool]
    labeled = _rng(1).random(len(embeddings)) < share_labeled
    n = min(12, int((~labeled).sum()))
    assert max_herding(embeddings, labeled, n, rng=_rng()).rows.tolist() == _naive(_kernel(embeddings), labeled, n)


def _full_rank(samples: int = 1500, dims: int = 300) -> np.ndarray:
    """Clusters under noise of full rank, with a common offset: within one, all distances are nearly equal."""
    rng = _rng(7)
    centres = rng.normal(size=(6, dims))
    return centres[rng.integers(6, size=samples)] + rng.normal(size=(samples, dims)) + 1e3


@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_equals_the_naive_version_where_no_axes_are_the_main_ones(scale: float, loops: str) -> None:
    embeddings = _full_rank()
    labeled = _rng(1).random(len(embeddings)) < 0.01
    expected = _naive(_kernel(embeddings, scale), labeled, 15)
    assert groups.sorted_pool(sketch.of_unit_length(embeddings)).sketch.margin > 0
    assert max_herding(embeddings, labeled, 15, rng=_rng(), length_scale=scale).rows.tolist() == expected


def test_inexact_bounds_are_never_below_what_a_row_adds_and_close_to_it(loops: str) -> None:
    pool = groups.sorted_pool(sketch.of_unit_length(_full_rank(300) - 1e3))
    assert pool.sketch.margin > 0
    cover = coverage.Coverage(pool, coverage.Similarity(lambda squared: np.exp(-squared)))
    rate = cover.old_bounds().copy()
    for row in (3, 80, 17, 200, 5):
        gains = np.array([cover.gain(other)[0] for other in range(300)])
        top = int(np.argmax(cover.old_bounds()))
        cover.newer_bounds(top, rate)
        assert (cover.old_bounds() >= gains).all()
        bounds = cover.bounds()
        assert (bounds >= gains).all()
        np.testing.assert_allclose(bounds, gains, atol=2e-3 * gains.max())
        cover.add(row)


def test_equals_the_naive_version_to_the_last_sample() -> None:
    embeddings = np.repeat(_clustered(25), 2, axis=0)
    rows = max_herding(embeddings, _cold(50), 50, rng=_rng(), length_scale=0.3).rows.tolist()
    assert rows == _naive(_kernel(embeddings, 0.3), _cold(50), 50)


@pytest.mark.parametrize("scale", [0.05, 0.5, 3.0])
def test_the_length_scale_is_that_of_the_kernel(scale: float) -> None:
    embeddings = _clustered()
    query = max_herding(embeddings, _cold(110), 10, rng=_rng(), length_scale=scale)
    kernel = _kernel(embeddings, scale)
    assert query.rows.tolist() == _naive(kernel, _cold(110), 10)
    np.testing.assert_allclose(
        query.numbers["coverage"], [kernel[query.rows[: k + 1]].max(axis=0).mean() for k in range(10)], rtol=1e-12
    )
    np.testing.assert_allclose(np.cumsum(query.numbers["gain"]), query.numbers["coverage"], rtol=1e-12)


def test_bounds_are_never_below_what_a_row_adds(loops: str) -> None:
    pool = groups.sorted_pool(sketch.of_unit_length(_clustered(90, 40)))
    cover = coverage.Coverage(pool, coverage.Similarity(lambda squared: np.exp(-squared)))
    for row in (3, 80, 17):
        gains = np.array([cover.gain(other)[0] for other in range(90)])
        bounds = cover.bounds()
        assert (bounds >= gains).all()
        # And worth having, though a sketch of 16 coordinates out of 40 leaves much open.
        assert bounds.sum() < 2 * gains.sum()
        cover.add(row)


def test_bounds_are_close_even_where_a_pool_has_no_main_axes() -> None:
    pool = groups.sorted_pool(sketch.of_unit_length(_rng().normal(size=(80, 200))))
    cover = coverage.Coverage(pool, coverage.Similarity(lambda squared: np.exp(-squared)))
    gains = np.array([cover.gain(other)[0] for other in range(80)])
    assert (gains <= cover.bounds()).all()
    np.testing.assert_allclose(cover.bounds(), gains, rtol=0.05)


def test_bounds_lowered_pick_by_pick_are_those_added_up_anew(loops: str) -> None:
    pool = groups.sorted_pool(sketch.of_unit_length(_clustered(90, 40)))
    lowered, anew = (coverage.Coverage(pool, coverage.Similarity(lambda squared: np.exp(-squared))) for _ in range(2))
    lowered.bounds()
    for row in (3, 80, 17):
        lowered.add(row)
        anew.add(row)
    np.testing.assert_array_equal(lowered.bounds(), anew.bounds())


def test_bounds_lowered_late_are_those_added_up_anew(loops: str) -> None:
    pool = groups.sorted_pool(sketch.of_unit_length(_clustered(90, 40)))
    late, anew = (coverage.Coverage(pool, coverage.Similarity(lambda squared: np.exp(-squared))) for _ in range(2))
    rate = late.bounds().copy()
    for row in (3, 80, 17, 41, 5):
        late.add(row)
        anew.add(row)
        if row == 80:  # Some groups hear of all five at once, one in two parts.
            rows, bounds = late.newer_bounds(int(np.argmax(rate)), rate)
            assert 0 < len(rows) < 90
            np.testing.assert_array_equal(bounds, late.old_bounds()[rows])
    np.testing.assert_array_equal(late.bounds(), anew.bounds())


def test_compiled_loops_and_plain_ones_give_the_same_numbers_to_the_last_digit() -> None:
    if compiled(LOOPS) is None:
        pytest.skip("numba is not installed")
    embeddings, rows = _rng().normal(size=(50, 77)).astype(np.float32), np.arange(50)
    given = embeddings, _rng(1).random(50), _rng(2).normal(size=77), rows
    assert coverage_loops.squared_distances(*given).tolist() == coverage_plain.squared_distances(*given).tolist()


def test_two_that_would_represent_each_other_add_the_same() -> None:
    # Each of the two adds (1 - its own) + (common - the other's): equal, but in float64 not to the last digit.
    rng = _rng()
    for _ in range(20):
        pair = rng.normal(size=(1, 3)) + 0.1 * rng.normal(size=(2, 3))
        embeddings = np.concatenate([0.3 * rng.normal(size=(1, 3)) - pair[:1], pair])
        labeled = np.array([True, False, False])
        assert max_herding(embeddings, labeled, 1, rng=rng, length_scale=2.0).rows.tolist() == [1]


def test_on_references_the_picks_are_those_of_the_references() -> None:
    embeddings, labeled = _clustered(), np.arange(110) < 3
    references = np.sort(_rng(5).choice(110, 40, replace=False))
    query = max_herding(embeddings, labeled, 8, rng=_rng(5), references=40)
    assert query.rows.tolist() == _naive(_kernel(embeddings)[:, references], labeled, 8)


def test_labeled_samples_represent_their_surroundings() -> None:
    pool = np.concatenate([np.tile([1.0, 0.0], (30, 1)), np.tile([0.0, 1.0], (5, 1))])
    assert max_herding(pool, _cold(35), 2, rng=_rng()).rows.tolist() == [0, 30]
    query = max_herding(pool, np.arange(35) == 7, 1, rng=_rng())
    assert query.rows.tolist() == [30]
    assert query.reasons[0].startswith("represents 5 of 35 samples (14.3%) better than any labeled")
    assert query.numbers["coverage"].tolist() == [1.0]


def test_reaches_at_least_1_minus_1_over_e_of_the_best() -> None:
    for seed in range(4):
        kernel = _kernel(_rng(seed).normal(size=(13, 3)))
        best = max(kernel[list(rows)].max(axis=0).mean() for rows in combinations(range(13), 3))
        reached = max_herding(_rng(seed).normal(size=(13, 3)), _cold(13), 3, rng=_rng()).numbers["coverage"][-1]
        assert (1 - 1 / np.e) * best <= reached <= best + 1e-12


def test_repeated_samples_are_asked_for_once_each() -> None:
    # Every gain is 0 after the first pick: the lowest rows follow.
    assert max_herding(np.ones((6, 3)), np.arange(6) == 2, 5, rng=_rng()).rows.tolist() == [0, 1, 3, 4, 5]


def test_per_minute_it_takes_what_raises_most_a_minute(loops: str) -> None:
    embeddings, cost = _clustered(), 1 + _rng(2).integers(4, size=110) / 2
    rows = max_herding(embeddings, _cold(110), 15, rng=_rng(), cost=cost).rows.tolist()
    assert rows == _naive(_kernel(embeddings), _cold(110), 15, cost)
    with pytest.raises(SelectionError, match="Expected more than 0"):
        max_herding(embeddings, _cold(110), 1, rng=_rng(), cost=np.zeros(110))


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
def test_refuses_a_length_scale_that_means_nothing(scale: float) -> None:
    with pytest.raises(SelectionError, match=r"length_scale is .*Expected a distance above 0"):
        max_herding(_clustered(10), _cold(10), 1, rng=_rng(), length_scale=scale)
