"""The claims of TypiClust, and its choice against a naive one on the same clusters."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nextmask.selection import typiclust
from nextmask.selection.geometry.k_means import k_means


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _blobs(sizes: tuple[int, ...], spread: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Well separated clusters, so that k-means can find nothing but them."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    noise = np.random.default_rng(3).normal(scale=spread, size=(len(cluster), len(sizes)))
    return np.eye(len(sizes))[cluster] * 200 + noise, cluster


def _naive(embeddings: np.ndarray, cluster: np.ndarray, labeled: np.ndarray, n: int) -> list[int]:
    """TypiClust on given clusters, none of which is passed over for its size."""
    order = sorted(range(cluster.max() + 1), key=lambda c: (labeled[cluster == c].sum(), -(cluster == c).sum()))
    chosen: list[int] = []
    while len(chosen) < n:
        for c in order:
            members = np.flatnonzero(cluster == c)
            free = ~labeled[members] & ~np.isin(members, chosen)
            if free.any():
                chosen.append(int(members[np.argmax(np.where(free, _typicality(embeddings[members]), -1))]))
    return chosen[:n]


def _typicality(points: np.ndarray) -> np.ndarray:
    if len(points) == 1:
        return np.zeros(1)
    distances = np.sort(cdist(points, points), axis=1)
    return 1 / (distances[:, 1 : 1 + max(1, min(20, len(points) // 2))].mean(axis=1) + 1e-5)


def test_equals_the_naive_version() -> None:
    embeddings, cluster = _blobs((60, 45, 30, 15, 10, 8))
    cold = np.zeros(len(embeddings), dtype=bool)
    assert typiclust(embeddings, cold, 6, rng=_rng()).rows.tolist() == _naive(embeddings, cluster, cold, 6)
    labeled = np.isin(np.arange(len(embeddings)), [0, 1, 60])
    assert typiclust(embeddings, labeled, 3, rng=_rng()).rows.tolist() == _naive(embeddings, cluster, labeled, 3)
    capped = typiclust(embeddings, labeled, 20, rng=_rng(), max_clusters=6).rows
    assert capped.tolist() == _naive(embeddings, cluster, labeled, 20)


def test_takes_the_dense_middle_of_each_cluster_and_no_outlier() -> None:
    embeddings, cluster = _blobs((50, 40, 30))
    outliers = np.array([[400.0, -300, 0], [-400, 0, 300], [0, 500, 500]])
    pool = np.concatenate([embeddings, outliers])
    # Six clusters for three blobs and three outliers: half of the labeled ones are in the first blob.
    labeled = np.isin(np.arange(len(pool)), [0, 1, 2])
    rows = typiclust(pool, labeled, 3, rng=_rng()).rows
    assert rows.max() < 120
    for row in rows:
        members = embeddings[cluster == cluster[row]]
        from_middle = np.linalg.norm(members - members.mean(axis=0), axis=1)
        assert np.linalg.norm(embeddings[row] - members.mean(axis=0)) < np.median(from_middle)


def test_clusters_without_labels_come_first_and_then_the_largest() -> None:
    embeddings, cluster = _blobs((40, 30, 20, 10))
    labeled = np.isin(np.arange(100), [0])
    rows = typiclust(embeddings, labeled, 4, rng=_rng(), max_clusters=4).rows
    assert cluster[rows].tolist() == [1, 2, 3, 0]


def test_small_clusters_wait_until_the_others_are_used_up() -> None:
    embeddings, cluster = _blobs((20, 20, 3))
    rows = typiclust(embeddings, np.zeros(43, dtype=bool), 43, rng=_rng(), max_clusters=3).rows
    assert set(cluster[rows[:40]].tolist()) == {0, 1}
    assert cluster[rows[40:]].tolist() == [2, 2, 2]


def test_a_pool_of_small_clusters_only_is_still_clustered() -> None:
    embeddings, cluster = _blobs((3,) * 10)
    rows = typiclust(embeddings, np.zeros(30, dtype=bool), 10, rng=_rng()).rows
    assert sorted(cluster[rows].tolist()) == list(range(10))


def test_what_counts_as_small_follows_the_size_of_the_pool() -> None:
    # Passing over all clusters of five or fewer would fill this query from the two clusters of eight.
    embeddings, cluster = _blobs((8, 8, 4, 4, 4, 4, 4, 4))
    rows = typiclust(embeddings, np.zeros(40, dtype=bool), 8, rng=_rng()).rows
    assert sorted(cluster[rows].tolist()) == list(range(8))


def test_labeled_samples_stay_neighbours() -> None:
    embeddings = np.array([0, 0.1, 0.2, 0.3, 0.15, 5, 5.3, 5.6, 5.9])[:, None]
    labeled = np.arange(9) < 4
    assert typiclust(embeddings, labeled, 1, rng=_rng(), max_clusters=1).rows.tolist() == [4]


def test_a_cluster_of_one_can_be_chosen() -> None:
    embeddings = np.array([[0.0], [10.0], [20.0]])
    assert sorted(typiclust(embeddings, np.zeros(3, dtype=bool), 3, rng=_rng()).rows.tolist()) == [0, 1, 2]


def test_of_equals_the_lowest_row() -> None:
    embeddings = np.repeat(np.eye(2) * 10, 20, axis=0)
    rows = typiclust(embeddings, np.zeros(40, dtype=bool), 4, rng=_rng(), max_clusters=2).rows
    assert rows.tolist() == [0, 20, 1, 21]


def test_a_cluster_is_visited_again_when_all_have_had_their_turn() -> None:
    embeddings, cluster = _blobs((30, 20))
    query = typiclust(embeddings, np.zeros(50, dtype=bool), 5, rng=_rng(), max_clusters=2)
    assert cluster[query.rows].tolist() == [0, 1, 0, 1, 0]
    typicality = query.numbers["typicality"]
    assert typicality[0] > typicality[2] > typicality[4]


def test_the_reason_names_the_cluster_and_the_typicality() -> None:
    embeddings, _ = _blobs((30, 20))
    query = typiclust(embeddings, np.isin(np.arange(50), [0]), 2, rng=_rng(), max_clusters=2)
    assert "left of cluster 1: 20 samples, 0 of them labeled" in query.reasons[0]
    assert "left of cluster 0: 30 samples, 1 of them labeled" in query.reasons[1]


def _tight_and_far() -> np.ndarray:
    rng = np.random.default_rng(5)
    return rng.normal(size=(300, 6)) * 1e-3 + np.repeat(rng.normal(size=(3, 6)) * 1e3, 100, axis=0)


@pytest.mark.parametrize(
    "embeddings",
    [
        np.random.default_rng(1).normal(size=(900, 12)).astype(np.float32),
        np.random.default_rng(1).normal(size=(300, 12)).astype(np.float16),
        np.random.default_rng(1).normal(size=(60, 12)).repeat(9, axis=0),
        np.random.default_rng(1).normal(size=(400, 12)).astype(np.float32) + np.float32(1e3),
        _tight_and_far(),
        np.ones((50, 3)),
    ],
    ids=["random", "half_precision", "repeated", "offset", "tight_and_far", "constant"],
)
def test_equals_the_naive_version_on_the_same_clusters(embeddings: np.ndarray) -> None:
    labeled = np.arange(len(embeddings)) % 90 == 7
    for n in (1, 12, 100):
        n = min(n, int((~labeled).sum()))
        cluster = k_means(embeddings, min(int(labeled.sum()) + n, 20), _rng()).labels
        rows = typiclust(embeddings, labeled, n, rng=_rng(), max_clusters=20, smallest=0).rows
        expected = _naive(embeddings.astype(np.float64), cluster, labeled, n)
        assert rows.tolist() == expected[:n]


def test_large_pools() -> None:
    rng = _rng()
    cluster = rng.integers(12, size=6_000)
    embeddings = (np.eye(12)[cluster] * 50 + rng.normal(size=(6_000, 12))).astype(np.float32)
    rows = typiclust(embeddings, np.zeros(6_000, dtype=bool), 12, rng=_rng()).rows
    assert len(set(cluster[rows].tolist())) >= 11
    np.testing.assert_array_equal(rows, typiclust(embeddings, np.zeros(6_000, dtype=bool), 12, rng=_rng()).rows)
    constant = typiclust(np.ones((21_000, 2)), np.zeros(21_000, dtype=bool), 3, rng=_rng()).rows
    assert constant.tolist() == [0, 1, 2]
