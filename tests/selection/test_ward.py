"""Ward's method: the partitions that SciPy finds, of weighted points too, and of pools that are too large for it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from threadpoolctl import threadpool_limits

from nextmask.selection.geometry import ward as module
from nextmask.selection.geometry.k_means import k_means
from nextmask.selection.geometry.ward import merged, ward


def _same_partition(one: np.ndarray, two: np.ndarray) -> bool:
    pairs = np.unique(np.stack([one, two]), axis=1).shape[1]
    return pairs == len(np.unique(one)) == len(np.unique(two))


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("offset", [0.0, 1e7])
@pytest.mark.parametrize(("samples", "dims"), [(2, 3), (17, 1), (60, 8), (200, 30)])
def test_equals_scipy(samples: int, dims: int, offset: float) -> None:
    points = _rng().normal(size=(samples, dims)) + offset
    tree = linkage(points - offset, "ward")
    for k in {1, 2, 5, samples // 2, samples - 1, samples}:
        if 1 <= k <= samples:
            assert _same_partition(ward(points, k, _rng()), fcluster(tree, k, "maxclust"))


def test_a_weight_stands_for_so_many_equal_samples() -> None:
    points, weights = _rng().normal(size=(25, 3)), _rng().integers(1, 6, size=25)
    repeated = np.repeat(points, weights, axis=0)
    for k in (2, 6, 12):
        alone = merged(points, weights.astype(float), k)
        assert _same_partition(np.repeat(alone, weights), fcluster(linkage(repeated, "ward"), k, "maxclust"))


def test_a_large_pool_is_merged_from_micro_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL_POOL", 60)
    planted = np.repeat(np.arange(5), [100, 60, 20, 15, 5])
    points = _rng().normal(size=(5, 4))[planted] * 20 + _rng().normal(size=(200, 4))
    assert _same_partition(ward(points, 5, _rng()), planted)


def test_micro_clusters_weigh_as_many_samples_as_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL_POOL", 30)
    points = np.concatenate([_rng().normal(size=(80, 2)) * 0.1, _rng().normal(size=(60, 2)) * 3])
    micro = k_means(points, 30, _rng())
    weighed = merged(micro.centres, np.bincount(micro.labels).astype(float), 6)[micro.labels]
    assert _same_partition(ward(points, 6, _rng()), weighed)
    assert not _same_partition(merged(micro.centres, np.ones(30), 6)[micro.labels], weighed)


def test_repeated_samples_are_merged_first_and_equal_samples_stay_without_warning() -> None:
    points = np.repeat(_rng().normal(size=(6, 4)), 5, axis=0)
    assert _same_partition(ward(points, 6, _rng()), np.repeat(np.arange(6), 5))
    assert len(np.unique(ward(np.full((20, 3), 1e4 + 0.1), 7, _rng()))) == 7


def test_the_threads_change_nothing() -> None:
    points = np.round(_rng().normal(size=(150, 64)), 1)
    with threadpool_limits(1):
        once = ward(points, 20, _rng())
    with threadpool_limits(4):
        np.testing.assert_array_equal(once, ward(points, 20, _rng()))
