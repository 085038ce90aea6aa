"""The claims of ProbCover, against three obvious lines; and what its public versions get wrong."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from nextmask.data.compiled import compiled
from nextmask.errors import SelectionError
from nextmask.selection import k_center, prob_cover, select_within
from nextmask.selection.geometry import coverage, groups, sketch
from nextmask.selection.geometry.groups import sorted_pool
from nextmask.selection.geometry.purity import pure_radius

LOOPS = "nextmask.selection.geometry.coverage_loops"


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _cold(samples: int) -> np.ndarray:
    return np.zeros(samples, dtype=bool)


def _naive(
    embeddings: np.ndarray, labeled: np.ndarray, n: int, radius: float, cost: np.ndarray | float = 1.0
) -> list[int]:
    near = cdist(embeddings.astype(float), embeddings.astype(float)) < radius
    covered, taken = near[labeled].any(axis=0), labeled.copy()
    rows: list[int] = []
    while len(rows) < n and not covered.all():
        rows.append(int(np.argmax(np.where(taken, -1, (near & ~covered).sum(axis=1) / cost))))
        covered, taken[rows[-1]] = covered | near[rows[-1]], True
    rest = k_center(embeddings, taken, n - len(rows), rng=_rng()).rows.tolist() if len(rows) < n else []
    return rows + rest


def _clustered(samples: int = 120, dims: int = 6, seed: int = 0) -> np.ndarray:
    rng = _rng(seed)
    return (
        rng.normal(scale=3, size=(8, dims))[rng.integers(8, size=samples)] + rng.normal(size=(samples, dims))
    ).astype(np.float32)


def _grid(side: int = 8) -> np.ndarray:
    return np.stack(np.meshgrid(np.arange(float(side)), np.arange(float(side))), axis=-1).reshape(-1, 2)


POOLS = {
    "clustered": _clustered(),
    "offset": _clustered() + np.float32(4096),
    "duplicated": np.repeat(_clustered(40), 4, axis=0),
    "constant columns": np.concatenate([_clustered(), np.full((120, 3), 7, np.float32)], axis=1),
    "constant": np.ones((30, 4)),
    "grid": _grid(),
    "wide": _clustered(90, 300),
    "half precision": _clustered().astype(np.float16),
    "one outlier": np.concatenate([_clustered(), np.full((1, 6), 1e4, np.float32)]),
    "tiny": _clustered().astype(float) * 1e-30,
    "huge": _clustered().astype(float) * 1e30,
}


@pytest.fixture(params=["plain", "compiled"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of counting, on small pools cut into groups, so that all of the pruning has something to prune."""
    if request.param == "compiled" and compiled(LOOPS) is None:
        pytest.skip("numba is not installed")
    monkeypatch.setattr(coverage, "WORTH_COMPILING", 0 if request.param == "compiled" else np.inf)
    monkeypatch.setattr(groups, "SMALLEST_POOL", 50)
    monkeypatch.setattr(groups, "PER_ROOT", 1)
    monkeypatch.setattr(sketch, "WIDEST", 16)
    monkeypatch.setattr(sketch, "WIDEST_OF_ALL", 16)
    return str(request.param)


@pytest.mark.parametrize("pool", POOLS)
def test_equals_the_naive_version(pool: str, loops: str) -> None:
    embeddings = POOLS[pool]
    labeled = _rng(1).random(len(embeddings)) < 0.04
    scale = max(np.abs(embeddings.astype(float) - embeddings.astype(float).mean(axis=0)).max() / 4, 1e-40)
    radius = 2.0 if pool == "grid" else float(scale * 1.5)
    if pool == "one outlier":
        radius = 2.5
    n = min(20, int((~labeled).sum()))
    assert prob_cover(embeddings, labeled, n, rng=_rng(), radius=radius).rows.tolist() == _naive(
        embeddings, labeled, n, radius
    )


def _full_rank(samples: int = 1500, dims: int = 300) -> np.ndarray:
    """Clusters under noise of full rank, far from 0: within one, all distances are nearly equal."""
    rng = _rng(7)
    centres = rng.normal(size=(6, dims))
    return centres[rng.integers(6, size=samples)] + rng.normal(size=(samples, dims)) + 1e3


@pytest.mark.parametrize("put_off", [32, 0.05])
def test_equals_the_naive_version_where_no_axes_are_the_main_ones(
    put_off: float, loops: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coverage, "PUT_OFF", put_off)
    pool = _full_rank()
    labeled = _rng(1).random(len(pool)) < 0.01
    radius = float(np.quantile(cdist(pool[:200], pool[:200]), 0.05))
    n = 40
    assert sorted_pool(sketch.as_they_are(pool)).sketch.margin > 0
    assert prob_cover(pool, labeled, n, rng=_rng(), radius=radius).rows.tolist() == _naive(pool, labeled, n, radius)


def test_a_sample_at_the_radius_is_not_covered(loops: str) -> None:
    line = np.array([[0.0], [0.1]])
    query = prob_cover(line, _cold(2), 1, rng=_rng(), radius=0.1)
    assert query.numbers["newly_covered"].tolist() == [1]
    # 3, 4, 5: the distance is 5 in whole numbers, whichever way it is summed.
    corner = np.array([[0.0, 0.0], [3.0, 4.0], [-3.0, 4.0], [30.0, 40.0]])
    at_radius = prob_cover(corner, _cold(4), 4, rng=_rng(), radius=5.0)
    beyond = prob_cover(corner, _cold(4), 1, rng=_rng(), radius=5.0000001)
    assert at_radius.numbers["newly_covered"].max() == 1
    assert beyond.numbers["newly_covered"].tolist() == [3]


def test_covers_by_density_where_k_center_looks_for_outliers() -> None:
    rng = _rng()
    dense = [
        rng.normal(scale=0.1, size=(size, 2)) + centre for size, centre in ((50, (0, 0)), (30, (5, 0)), (20, (0, 5)))
    ]
    pool = np.concatenate([*dense, [[100.0, 100.0]], [[-100.0, 50.0]]])
    query = prob_cover(pool, _cold(len(pool)), 4, rng=rng, radius=1.0)
    assert query.numbers["newly_covered"].tolist() == [50, 30, 20, 1]
    assert query.reasons[0].startswith("newly covers 50 samples (49.0% of the pool) that lie within 1 of it")
    np.testing.assert_allclose(query.numbers["coverage"], np.array([50, 80, 100, 101]) / 102)


def test_covers_at_least_1_minus_1_over_e_of_the_best() -> None:
    for seed in range(5):
        pool = _rng(seed).normal(size=(14, 2))
        near = cdist(pool, pool) < 0.9
        best = max(near[list(rows)].any(axis=0).sum() for rows in combinations(range(14), 3))
        covered = prob_cover(pool, _cold(14), 3, rng=_rng(), radius=0.9).numbers["newly_covered"].sum()
        assert covered >= (1 - 1 / np.e) * best


def test_what_labeled_samples_cover_counts_as_covered() -> None:
    pool = np.concatenate([np.zeros((20, 2)), np.full((5, 2), 9.0)])
    labeled = np.arange(25) == 3
    query = prob_cover(pool, labeled, 1, rng=_rng(), radius=1.0)
    assert query.rows.tolist() == [20]
    assert query.numbers["coverage"].tolist() == [1.0]


@pytest.mark.parametrize("samples", [7, 499, 733])
def test_a_pool_of_any_size_is_searched_to_its_end(samples: int) -> None:
    # The authors' batches of 500 lose what a pool holds beyond its last full one.
    pool = np.arange(float(samples))[:, None] * 10
    pool[-3:] = pool[-1]
    assert prob_cover(pool, _cold(samples), 1, rng=_rng(), radius=1.0).rows.tolist() == [samples - 3]


def test_once_all_is_covered_it_goes_on_with_the_farthest_and_never_repeats() -> None:
    pool = _clustered(120)
    labeled = np.arange(120) < 4
    query = prob_cover(pool, labeled, 116, rng=_rng(), radius=6.0)
    covering = int(np.isfinite(query.numbers["newly_covered"]).sum())
    assert 0 < covering < 40
    assert len(set(query.rows.tolist())) == 116
    assert not labeled[query.rows].any()
    known = labeled.copy()
    known[query.rows[:covering]] = True
    assert query.rows[covering:].tolist() == k_center(pool, known, 116 - covering, rng=_rng()).rows.tolist()
    assert query.reasons[covering].startswith("the pool is covered; least like")


def test_the_radius_is_the_largest_that_keeps_95_percent_of_the_balls_pure() -> None:
    pool = _clustered(90, 3)
    classes = (pool[:, 0] > 0).astype(np.int64) + (pool[:, 1] > 1)
    distance = cdist(pool.astype(float), pool.astype(float))
    rows = np.arange(90)
    radius = pure_radius(sorted_pool(sketch.as_they_are(pool)), classes, rows, 0.95)

    def purity(radius: float) -> float:
        mixed = (distance < radius) & (classes[:, None] != classes)
        return float(1 - mixed.any(axis=1).mean())

    tried = np.unique(distance)
    assert radius == pytest.approx(max(value for value in tried if purity(value) >= 0.95), rel=1e-12)
    assert purity(radius * (1 - 1e-9)) >= 0.95 > purity(radius * (1 + 1e-9))


def test_the_radius_is_found_where_classes_coincide_and_where_there_is_one() -> None:
    pool = np.array([[0.0], [0.0], [1.0], [5.0]])
    rows = np.arange(4)
    assert pure_radius(sorted_pool(sketch.as_they_are(pool)), np.array([0, 1, 1, 1]), rows, 0.95) == 1.0
    alone = pure_radius(sorted_pool(sketch.as_they_are(pool)), np.zeros(4, dtype=np.int64), rows, 0.95)
    assert alone > 5.0
    assert prob_cover(np.ones((6, 2)), _cold(6), 1, rng=_rng()).numbers["newly_covered"].tolist() == [6]


def test_the_radius_of_a_large_pool_is_found_on_a_sample() -> None:
    pool = _clustered(300)
    classes = (pool[:, 0] > 0).astype(np.int64)
    rows = np.sort(_rng().choice(300, 200, replace=False))
    whole, part = (
        pure_radius(sorted_pool(sketch.as_they_are(pool)), classes, some, 0.95) for some in (np.arange(300), rows)
    )
    assert part == pytest.approx(whole, rel=0.2)


def test_per_minute_it_takes_what_covers_most_a_minute(loops: str) -> None:
    pool, cost = _clustered(), 1 + _rng(2).integers(4, size=120) / 2
    rows = prob_cover(pool, _cold(120), 12, rng=_rng(), radius=2.0, cost=cost).rows.tolist()
    assert rows == _naive(pool, _cold(120), 12, 2.0, cost)
    assert rows != _naive(pool, _cold(120), 12, 2.0)
    evidence = {"embeddings": lambda: pool, "cost": lambda: cost}
    within = select_within(prob_cover, evidence, _cold(120), 10.0, rng=_rng())
    assert cost[within.rows].sum() <= 10


def test_threads_make_no_difference(loops: str) -> None:
    pool = _clustered(150)
    answers = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            answers.append(prob_cover(pool, _cold(150), 10, rng=_rng(), radius=2.0).rows.tolist())
    assert answers[0] == answers[1]


@pytest.mark.parametrize("options", [{"radius": 0.0}, {"radius": np.nan}, {"purity": 0.0}, {"classes": 0}])
def test_refuses_options_that_mean_nothing(options: dict[str, float]) -> None:
    with pytest.raises(SelectionError, match=r"Expected .*\. Leave it out"):
        prob_cover(_clustered(20), _cold(20), 2, rng=_rng(), **options)
