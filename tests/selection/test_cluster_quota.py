"""The claims of SAAL's criterion: shares by size, nearest members first, and rounds that go on where the last one stopped."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.errors import SelectionError
from nextmask.selection import cluster_quota
from nextmask.selection.geometry.k_means import k_means


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _blobs(sizes: tuple[int, ...], seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    noise = np.random.default_rng(seed).normal(size=(len(cluster), len(sizes)))
    return (np.eye(len(sizes))[cluster] * 200 + noise).astype(np.float32), cluster


def _naive(embeddings: np.ndarray, labeled: np.ndarray, n: int, clusters: int) -> list[int]:
    """One sample after the other: to the cluster that is the farthest below its share, its nearest unlabeled member."""
    points = embeddings.astype(np.float64)
    found = k_means(embeddings, clusters, _rng())
    distance = ((points - found.centres[found.labels]) ** 2).sum(axis=1).round(9)
    size = np.bincount(found.labels)
    have = labeled.copy()
    chosen: list[int] = []
    for _ in range(n):
        counts = np.bincount(found.labels[have], minlength=len(size))
        below = {
            c: size[c] * (have.sum() + 1) - counts[c] * len(points) for c in range(len(size)) if counts[c] < size[c]
        }
        cluster = min(below, key=lambda c: (-below[c], -size[c], c))
        chosen.append(min(np.flatnonzero((found.labels == cluster) & ~have), key=lambda row: (distance[row], row)))
        have[chosen[-1]] = True
    return chosen


def test_equals_the_naive_version() -> None:
    embeddings, _ = _blobs((60, 45, 30, 15, 10, 8))
    cold = np.zeros(len(embeddings), dtype=bool)
    few = np.isin(np.arange(len(embeddings)), [0, 1, 60, 167])
    for labeled in (cold, few):
        for n in (1, 20, int((~labeled).sum())):
            rows = cluster_quota(embeddings, labeled, n, rng=_rng(), clusters=6).rows
            assert rows.tolist() == _naive(embeddings, labeled, n, 6)


def test_clusters_get_samples_in_proportion_to_their_size() -> None:
    embeddings, cluster = _blobs((80, 60, 40, 20))
    rows = cluster_quota(embeddings, np.zeros(200, dtype=bool), 10, rng=_rng(), clusters=4).rows
    assert np.bincount(cluster[rows]).tolist() == [4, 3, 2, 1]


def test_labeled_samples_count_towards_their_clusters_share() -> None:
    embeddings, cluster = _blobs((80, 60, 40, 20))
    labeled = np.isin(np.arange(200), [0, 1, 2, 3])
    rows = cluster_quota(embeddings, labeled, 6, rng=_rng(), clusters=4).rows
    assert np.bincount(cluster[rows], minlength=4).tolist() == [0, 3, 2, 1]


@pytest.mark.parametrize("sizes", [(80, 60, 40, 20), (60, 60, 20, 7, 3), (31, 29, 3, 2, 1, 1, 1)])
def test_two_rounds_ask_for_what_one_round_would(sizes: tuple[int, ...]) -> None:
    # Remainders settled anew for each total would take samples back (the Alabama paradox).
    embeddings, _ = _blobs(sizes)
    unlabeled = np.zeros(len(embeddings), dtype=bool)
    for first in range(1, 20, 3):
        once = cluster_quota(embeddings, unlabeled, first + 9, rng=_rng(1), clusters=len(sizes)).rows
        labeled = unlabeled.copy()
        labeled[cluster_quota(embeddings, unlabeled, first, rng=_rng(2), clusters=len(sizes)).rows] = True
        later = cluster_quota(embeddings, labeled, 9, rng=_rng(3), clusters=len(sizes)).rows
        assert set(later.tolist()) == set(once.tolist()) - set(np.flatnonzero(labeled).tolist())


def test_shares_are_off_by_less_than_one_sample_and_a_bit() -> None:
    embeddings, cluster = _blobs((97, 53, 31, 11, 8))
    for n in (1, 7, 50, 133, 200):
        rows = cluster_quota(embeddings, np.zeros(200, dtype=bool), n, rng=_rng(), clusters=5).rows
        off = np.bincount(cluster[rows], minlength=5) - np.bincount(cluster) * n / 200
        assert np.abs(off).max() <= 1


def test_the_query_depends_on_the_seed_option_and_not_on_the_rounds_rng() -> None:
    embeddings = _rng().normal(size=(300, 5))
    cold = np.zeros(300, dtype=bool)
    first = cluster_quota(embeddings, cold, 30, rng=_rng(1)).rows.tolist()
    assert cluster_quota(embeddings, cold, 30, rng=_rng(2)).rows.tolist() == first
    assert cluster_quota(embeddings, cold, 30, rng=_rng(1), seed=5).rows.tolist() != first


def test_of_equals_the_lowest_row() -> None:
    embeddings = np.repeat(np.eye(2) * 10, 5, axis=0)
    rows = cluster_quota(embeddings, np.zeros(10, dtype=bool), 10, rng=_rng()).rows
    assert rows.tolist() == [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]


def test_the_reason_names_cluster_share_and_what_came_before() -> None:
    embeddings, _ = _blobs((15, 5))
    query = cluster_quota(embeddings, np.arange(20) < 3, 2, rng=_rng(), clusters=2)
    assert "25.0% of the pool and had 0 samples labeled" in query.reasons[0]
    assert query.numbers["before"].tolist() == [0, 3]


def test_no_clusters_are_refused() -> None:
    with pytest.raises(SelectionError, match="clusters is 0"):
        cluster_quota(np.ones((3, 2)), np.zeros(3, dtype=bool), 1, rng=_rng(), clusters=0)
