"""k-means against scikit-learn's from the same start, and what holds for its clusters on any pool."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

import nextmask.selection.geometry.k_means as module
from nextmask.selection.geometry.k_means import Clusters, k_means
from nextmask.selection.geometry.nearest_centre import NearestCentre
from nextmask.selection.geometry.seeding import spread_seeds
from nextmask.selection.geometry.side_by_side import side_by_side


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _clustered(samples: int, dims: int = 16, centres: int = 30, seed: int = 0) -> np.ndarray:
    rng = _rng(seed)
    middle = rng.normal(scale=2, size=(centres, dims))
    return (middle[rng.integers(centres, size=samples)] + rng.normal(size=(samples, dims))).astype(np.float32)


def _inertia(points: np.ndarray, clusters: Clusters) -> float:
    return float(((points.astype(np.float64) - clusters.centres[clusters.labels]) ** 2).sum())


POOLS: dict[str, Callable[[], np.ndarray]] = {
    "clustered": lambda: _clustered(400),
    "repeated": lambda: np.repeat(_clustered(12), 5, axis=0),
    "constant": lambda: np.ones((40, 4)),
    "zero": lambda: np.zeros((40, 4), np.float32),
    "offset": lambda: _clustered(200) + np.float32(1e4),
    "half_precision": lambda: _clustered(200).astype(np.float16),
    "tiny": lambda: _clustered(100) * 1e-30,
    "huge": lambda: _clustered(100).astype(np.float64) * 1e60,
    "one": lambda: np.ones((1, 3)),
}


def _as_if_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send small pools the way of large ones: in float32, from a sample, in many chunks and blocks."""
    for name, value in {
        "SMALL_POOL": 8,
        "SMALLEST_SAMPLE": 64,
        "LARGEST_SAMPLE": 128,
        "CHUNK": 64,
        "BLOCK": 24,
        "MANY_CLUSTERS": 8,
        "AROUND": 4,
        "CROWD": 4,
    }.items():
        monkeypatch.setattr(module, name, value)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("k", [1, 2, 11, 10_000])
@pytest.mark.parametrize("pool", POOLS)
def test_labels_have_no_gaps_and_centres_are_means(
    pool: str, k: int, large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if large:
        _as_if_large(monkeypatch)
    points = POOLS[pool]()
    points.flags.writeable = False
    clusters = k_means(points, k, _rng())
    distinct = len(np.unique(points, axis=0))
    used, lowest_row = np.unique(clusters.labels, return_index=True)
    assert used.tolist() == list(range(len(clusters.centres)))
    assert (np.diff(lowest_row) > 0).all()
    assert len(used) <= min(k, distinct)
    if not large:
        assert len(used) == min(k, distinct)
    for label in used:
        mean = points[clusters.labels == label].mean(axis=0, dtype=np.float64)
        np.testing.assert_allclose(clusters.centres[label], mean, rtol=1e-6, atol=1e-6 * np.abs(points).max())


@pytest.mark.parametrize("large", [False, True])
def test_equal_samples_share_a_cluster(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.tile(_clustered(150), (4, 1))
    if large:
        _as_if_large(monkeypatch)
        monkeypatch.setattr(module, "CHUNK", 600)
        monkeypatch.setattr(module, "BLOCK", 41)
    labels = k_means(points, 40, _rng()).labels.reshape(4, 150)
    assert (labels == labels[0]).all()


@pytest.mark.parametrize("k", [2, 9, 60])
def test_same_partition_as_scikit_learn_from_the_same_seeds(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points = _clustered(900).astype(np.float64)
    seeds = _rng(5).choice(len(points), k, replace=False)
    monkeypatch.setattr(module, "spread_seeds", lambda *_: seeds)
    ours = k_means(points, k, _rng()).labels
    theirs = KMeans(k, init=points[seeds], n_init=1, tol=0, algorithm="lloyd").fit(points).labels_
    pairs = np.unique(np.stack([ours, theirs]), axis=1)
    assert pairs.shape[1] == k


@pytest.mark.parametrize("noise", [0.2, 3.0])
def test_inertia_is_at_or_below_scikit_learns(noise: float) -> None:
    rng = _rng(6)
    points = rng.normal(size=(40, 24))[rng.zipf(1.5, 1500) % 40] + noise * rng.normal(size=(1500, 24))
    ours = [_inertia(points, k_means(points, 60, _rng(seed))) for seed in range(3)]
    theirs = [KMeans(60, n_init=1, random_state=seed).fit(points).inertia_ for seed in range(3)]
    assert np.mean(ours) <= np.mean(theirs)


def test_a_large_pool_learned_from_a_sample_is_nearly_as_tight() -> None:
    points = _clustered(20_000, dims=8, centres=60)
    theirs = KMeans(40, n_init=1, random_state=0).fit(points).inertia_
    assert _inertia(points, k_means(points, 40, _rng())) <= 1.02 * theirs


def test_to_look_for_a_centre_near_the_former_one_only_is_nearly_as_good(monkeypatch: pytest.MonkeyPatch) -> None:
    points = _clustered(9000, dims=12, centres=40)
    found = []
    for many in (8, 1000):
        monkeypatch.setattr(module, "MANY_CLUSTERS", many)
        found.append(_inertia(points, k_means(points, 300, _rng())))
    assert found[0] <= 1.003 * found[1]


def test_a_local_sweep_compares_a_row_with_few_centres_and_never_leaves_it_worse_off() -> None:
    points = _clustered(3000)
    centres = points[:200].astype(np.float64)
    partition = module._Partition(centres, len(points))
    with side_by_side() as run:
        partition.sweep(points.__getitem__, run, hold=True)
        partition.centres = centres = centres[::-1] * 0.9
        partition.counts[:] = 100  # None is empty, and none to be refilled.
        own = ((points - centres[partition.labels]) ** 2).sum(axis=1)
        crowds = module._Crowds.of(centres, run)
        shares = crowds.shares(partition.labels, slice(0, len(points)), centres)
        partition.sweep(points.__getitem__, run, hold=True, local=True)
    np.testing.assert_array_equal(np.sort(np.concatenate([share.rows for share in shares])), np.arange(len(points)))
    assert np.mean([len(share.among) for share in shares]) < 150
    assert (((points - centres[partition.labels]) ** 2).sum(axis=1) <= own * (1 + 1e-6)).all()


@pytest.mark.parametrize("large", [False, True])
def test_same_on_any_number_of_threads(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        _as_if_large(monkeypatch)
    points = _clustered(500)
    found = []
    for threads in (1, 2, 5):
        with threadpool_limits(threads):
            found.append(k_means(points, 25, _rng()))
    for other in found[1:]:
        np.testing.assert_array_equal(other.labels, found[0].labels)
        np.testing.assert_array_equal(other.centres, found[0].centres)


@pytest.mark.parametrize("large", [False, True])
def test_an_offset_of_all_features_changes_nothing(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        _as_if_large(monkeypatch)
    points = (np.round(_clustered(500) * 4) / 4).astype(np.float32)
    near, far = k_means(points, 25, _rng()), k_means(points + np.float32(1e4), 25, _rng())
    np.testing.assert_array_equal(near.labels, far.labels)


def test_a_pool_on_disk_gives_the_same_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _as_if_large(monkeypatch)
    points = _clustered(400)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    np.testing.assert_array_equal(k_means(mapped, 20, _rng()).labels, k_means(points, 20, _rng()).labels)


def test_seeds_are_distinct_and_reach_every_cluster() -> None:
    points = np.concatenate([_rng(1).normal(size=(200, 3)) * 0.01, np.eye(3) * 50])
    with side_by_side() as run:
        for seed in range(5):
            seeds = spread_seeds(points, 20, _rng(seed), run)
            assert len(set(seeds.tolist())) == 20
            assert {200, 201, 202} <= set(seeds.tolist())


def test_seeds_are_drawn_by_squared_distance() -> None:
    # Seen from the crowd, where nearly every start is, one third of the squared distance lies with the one and two with the other.
    points = np.repeat([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0**0.5]], [100, 1, 1], axis=0)
    second = []
    with side_by_side() as run, pytest.MonkeyPatch.context() as patch:
        patch.setattr("nextmask.selection.geometry.seeding.GREEDY", 0)
        for seed in range(300):
            second.append(int(spread_seeds(points, 2, _rng(seed), run)[1]))
    assert np.mean(np.array(second) == 101) == pytest.approx(2 / 3, abs=0.08)


def test_near_ties_are_decided_in_float64() -> None:
    rng = _rng(2)
    centres = rng.normal(size=(50, 32))
    centres[25:] = centres[:25] + 1e-6 * rng.normal(size=(25, 32))
    points = (centres[rng.integers(50, size=300)] + 0.1 * rng.normal(size=(300, 32))).astype(np.float32)
    labels, _ = NearestCentre(centres)(points)
    np.testing.assert_array_equal(labels, cdist(points.astype(np.float64), centres).argmin(axis=1))


def test_fewer_distinct_samples_than_clusters_is_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(k_means(np.repeat(np.eye(3), 7, axis=0), 9, _rng()).centres) == 3
