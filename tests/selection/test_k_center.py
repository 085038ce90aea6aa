"""The claims of k-center, against three obvious lines and against brute force."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from threadpoolctl import threadpool_limits

from nextmask.errors import SelectionError
from nextmask.selection import Query, k_center
from nextmask.selection.geometry import farthest_first


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _naive(embeddings: np.ndarray, labeled: np.ndarray, n: int) -> list[int]:
    chosen = np.flatnonzero(labeled).tolist()
    for _ in range(n):
        distance = cdist(embeddings, embeddings[chosen]).min(axis=1)
        distance[chosen] = -1
        chosen.append(int(np.argmax(distance)))
    return chosen[int(labeled.sum()) :]


def _radius(embeddings: np.ndarray, centres: np.ndarray | tuple[int, ...]) -> float:
    return float(cdist(embeddings, embeddings[list(centres)]).min(axis=1).max())


@pytest.mark.parametrize("seed", range(3))
def test_equals_the_naive_version(seed: int) -> None:
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=(300, 12)) + 50
    labeled = rng.random(300) < 0.05
    assert k_center(embeddings, labeled, 40, rng=rng).rows.tolist() == _naive(embeddings, labeled, 40)


def test_equals_the_naive_version_where_many_distances_are_equal() -> None:
    grid = np.stack(np.meshgrid(np.arange(8.0), np.arange(8.0)), axis=-1).reshape(-1, 2).repeat(2, axis=0)
    labeled = np.arange(128) == 37
    assert k_center(grid, labeled, 127, rng=_rng()).rows.tolist() == _naive(grid, labeled, 127)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = _rng().normal(size=(100, 5))
    cold = np.zeros(100, dtype=bool)
    whole = k_center(embeddings, cold, 30, rng=_rng()).rows
    # The package's name k_center is the function, so the module is reached through it.
    monkeypatch.setattr(farthest_first, "BLOCK", 7)
    np.testing.assert_array_equal(k_center(embeddings, cold, 30, rng=_rng()).rows, whole)


def test_covers_every_cluster_before_it_repeats_one() -> None:
    rng = _rng()
    cluster = rng.permutation(np.repeat(np.arange(8), [40, 1, 3, 60, 5, 2, 30, 9]))
    embeddings = np.eye(8)[cluster] * 20 + rng.normal(size=(150, 8))
    assert sorted(cluster[k_center(embeddings, np.zeros(150, dtype=bool), 8, rng=rng).rows].tolist()) == list(range(8))


@pytest.mark.parametrize("seed", range(5))
def test_radius_is_within_twice_the_optimum(seed: int) -> None:
    embeddings = np.random.default_rng(seed).normal(size=(14, 2))
    best = min(_radius(embeddings, centres) for centres in combinations(range(14), 4))
    rows = k_center(embeddings, np.zeros(14, dtype=bool), 4, rng=_rng()).rows
    assert _radius(embeddings, rows) <= 2 * best


def test_labeled_samples_are_centres() -> None:
    embeddings = np.array([[0.0], [1.0], [10.0], [11.0], [4.0]])
    assert k_center(embeddings, np.array([True, False, True, False, False]), 1, rng=_rng()).rows.tolist() == [4]


def test_first_of_a_cold_pool_is_central_and_deterministic() -> None:
    embeddings = np.array([[0.0], [5.1], [10.0], [4.0]])
    cold = np.zeros(4, dtype=bool)
    assert k_center(embeddings, cold, 3, rng=np.random.default_rng(1)).rows.tolist() == [1, 0, 2]
    with pytest.raises(SelectionError, match="first is 'middle'"):
        k_center(embeddings, cold, 1, rng=_rng(), first="middle")


def test_float32_features_with_an_offset_keep_their_order() -> None:
    # 32 + a multiple of 1/4096 is exact in float32; |x|^2 + |c|^2 - 2xc in float32 cannot tell these apart.
    steps = np.array([0, 1, 3, 7, 12])
    embeddings = (30 + steps[:, None] / 4096 * np.ones((1, 512))).astype(np.float32)
    labeled = np.array([True, False, False, False, False])
    assert k_center(embeddings, labeled, 4, rng=_rng()).rows.tolist() == [4, 3, 2, 1]


# Both ways of searching: every row against every centre in NumPy, and the lazy loops, which take large pools only.


def _by(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(farthest_first, "WORTH_COMPILING", 0 if way == "lazy" else 10**18)


def _both_ways(
    embeddings: np.ndarray, labeled: np.ndarray, n: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Query, Query]:
    _by("plain", monkeypatch)
    plain = k_center(embeddings, labeled, n, rng=_rng())
    _by("lazy", monkeypatch)
    return plain, k_center(embeddings, labeled, n, rng=_rng())


def _clustered(samples: int, dims: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(9, dims)) * 4
    return (
        centres[rng.integers(9, size=samples)] + rng.normal(size=(samples, dims)) * rng.random(samples)[:, None]
    ).astype(np.float32)


NASTY = {
    "clustered": lambda: _clustered(500, 40),
    "one_dimension": lambda: np.round(_clustered(500, 1), 1),
    "hard": lambda: _rng().normal(size=(400, 70)).astype(np.float32),
    "duplicated": lambda: np.repeat(_clustered(40, 8), 5, axis=0),
    "constant": lambda: np.ones((150, 5), np.float32),
    "offset": lambda: (np.round(_clustered(400, 12) * 4) / 4 + np.float32(1e4)).astype(np.float32),
    "tiny": lambda: _clustered(150, 10) * np.float32(1e-20),
    "huge": lambda: _clustered(150, 10) * np.float32(1e18),
    "grid": lambda: np.stack(np.meshgrid(np.arange(13.0), np.arange(13.0)), axis=-1).reshape(-1, 2).astype(np.float32),
    "half_precision": lambda: _clustered(150, 33).astype(np.float16),
    "columns_first": lambda: np.asfortranarray(_clustered(150, 33)),
}


@pytest.mark.parametrize("count", [0, 1, 40])
@pytest.mark.parametrize("pool", NASTY)
def test_lazy_search_equals_the_plain_one(pool: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = NASTY[pool]()
    embeddings.flags.writeable = False
    labeled = np.zeros(len(embeddings), dtype=bool)
    labeled[_rng().permutation(len(embeddings))[:count]] = True
    n = len(embeddings) - count if len(embeddings) < 350 else 100
    plain, lazy = _both_ways(embeddings, labeled, n, monkeypatch)
    assert lazy.rows.tolist() == plain.rows.tolist()
    for name, values in plain.numbers.items():
        np.testing.assert_array_equal(lazy.numbers[name], values)


@pytest.mark.parametrize("pool", ["clustered", "hard", "duplicated", "grid", "offset"])
def test_many_labeled_samples_and_a_small_table_change_nothing(pool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = NASTY[pool]()
    labeled = _rng().random(len(embeddings)) < 0.4
    monkeypatch.setattr(farthest_first, "PIVOTS", 11)
    monkeypatch.setattr(farthest_first, "TABLE", 1500)
    plain, lazy = _both_ways(embeddings, labeled, 80, monkeypatch)
    assert lazy.rows.tolist() == plain.rows.tolist() == _naive(embeddings.astype(float), labeled, 80)


@pytest.mark.slow
def test_lazy_search_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    # Slow where it has to be compiled first.
    embeddings = _rng().normal(size=(400, 37)) + 1e6
    labeled = _rng().random(400) < 0.2
    monkeypatch.setattr(farthest_first, "PIVOTS", 11)
    plain, lazy = _both_ways(embeddings, labeled, 100, monkeypatch)
    assert lazy.rows.tolist() == plain.rows.tolist() == _naive(embeddings, labeled, 100)


def test_lazy_search_reads_a_memory_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "pool.npy", _clustered(4000, 8))
    embeddings = np.load(tmp_path / "pool.npy", mmap_mode="r")
    plain, lazy = _both_ways(embeddings, np.arange(4000) < 5, 50, monkeypatch)
    assert lazy.rows.tolist() == plain.rows.tolist()


@pytest.mark.parametrize("way", ["plain", "lazy"])
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_and_blocks_do_not_matter(way: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, labeled = _clustered(700, 40), np.arange(700) % 50 == 0
    _by("plain", monkeypatch)
    expected = k_center(embeddings, labeled, 60, rng=_rng()).rows.tolist()
    _by(way, monkeypatch)
    monkeypatch.setattr(farthest_first, "ROWS_PER_BLOCK", 16)
    with threadpool_limits(threads):
        assert k_center(embeddings, labeled, 60, rng=_rng()).rows.tolist() == expected


def test_large_pools_are_searched_lazily_and_small_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(farthest_first, "compiled", asked.append)
    k_center(_clustered(300, 8), np.arange(300) < 3, 5, rng=_rng())
    assert asked == []
    monkeypatch.setattr(farthest_first, "WORTH_COMPILING", 300 * 8 * 8)
    # Where there is no numba, compiled() answers None, and the plain way has to do.
    assert len(k_center(_clustered(300, 8), np.arange(300) < 3, 5, rng=_rng())) == 5
    assert asked == ["nextmask.selection.geometry.k_center_loops"]


@pytest.mark.parametrize("way", ["plain", "lazy"])
def test_reasons_name_the_distance_and_the_radius_that_is_left(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _by(way, monkeypatch)
    embeddings = np.array([[0.0], [1.0], [10.0], [11.0], [4.0]], dtype=np.float32)
    query = k_center(embeddings, np.array([True, False, True, False, False]), 3, rng=_rng())
    assert query.rows.tolist() == [4, 1, 3]
    assert query.numbers["distance"].tolist() == [4, 1, 1]
    assert query.numbers["radius"].tolist() == [1, 1, 0]
    assert "4 from the nearest" in query.reasons[0]
    cold = k_center(embeddings, np.zeros(5, dtype=bool), 5, rng=_rng())
    assert cold.rows[0] == 4
    assert cold.numbers["radius"][0] == 7
    assert "7 from it" in cold.reasons[0]


@pytest.mark.parametrize("seed", range(3))
def test_the_radius_that_is_left_is_the_covering_radius(seed: int) -> None:
    embeddings = np.random.default_rng(seed).normal(size=(60, 3))
    query = k_center(embeddings, np.zeros(60, dtype=bool), 20, rng=_rng(), first="random")
    for picks in (1, 7, 20):
        assert query.numbers["radius"][picks - 1] == pytest.approx(_radius(embeddings, tuple(query.rows[:picks])))


def test_first_may_be_random() -> None:
    embeddings = _clustered(50, 3)
    firsts = {
        int(k_center(embeddings, np.zeros(50, dtype=bool), 1, rng=np.random.default_rng(seed), first="random").rows[0])
        for seed in range(30)
    }
    assert len(firsts) > 10


def test_outliers_of_repeated_samples_are_all_distinct() -> None:
    # Public code returned 149 distinct picks of 300 here: at distance 0 it takes the same row again and again.
    embeddings = np.repeat(_clustered(100, 4), 5, axis=0)
    assert len(set(k_center(embeddings, np.zeros(500, dtype=bool), 300, rng=_rng()).rows.tolist())) == 300
