"""The claims of k-center, against three obvious lines and against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nextmask.errors import SelectionError
from nextmask.selection import k_center
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
        k_center(embeddings, cold, 1, rng=_rng(), first="middle").rows


def test_float32_features_with_an_offset_keep_their_order() -> None:
    # 32 + a multiple of 1/4096 is exact in float32; |x|^2 + |c|^2 - 2xc in float32 cannot tell these apart.
    steps = np.array([0, 1, 3, 7, 12])
    embeddings = (30 + steps[:, None] / 4096 * np.ones((1, 512))).astype(np.float32)
    labeled = np.array([True, False, False, False, False])
    assert k_center(embeddings, labeled, 4, rng=_rng()).rows.tolist() == [4, 3, 2, 1]
