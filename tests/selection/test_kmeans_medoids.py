"""What k-means medoids promise, and their choice against a naive one on the same clusters."""

from __future__ import annotations

import numpy as np

from nextmask.selection import kmeans_medoids
from nextmask.selection.geometry.k_means import k_means


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _blobs(sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    noise = np.random.default_rng(3).normal(size=(len(cluster), len(sizes)))
    return (np.eye(len(sizes))[cluster] * 200 + noise).astype(np.float32), cluster


def _naive(embeddings: np.ndarray, labeled: np.ndarray, n: int) -> list[int]:
    """The nearest unlabeled member of each cluster without labels, largest cluster first."""
    found = k_means(embeddings, int(labeled.sum()) + n, _rng())
    # Both members of a pair are equally far from their middle, whatever the last digits say.
    distance = ((embeddings.astype(np.float64) - found.centres[found.labels]) ** 2).sum(axis=1).round(9)
    held, size = np.bincount(found.labels[labeled], minlength=len(found.centres)), np.bincount(found.labels)
    order = sorted(np.flatnonzero(held == 0), key=lambda c: (-size[c], c))[:n]
    return [min(np.flatnonzero(found.labels == c), key=lambda row: (distance[row], row)) for c in order]


def test_equals_the_naive_version() -> None:
    embeddings = _rng(4).normal(size=(400, 7)).astype(np.float32)
    for labeled in (np.zeros(400, dtype=bool), np.isin(np.arange(400), [0, 5, 17])):
        for n in (1, 4, 60):
            assert kmeans_medoids(embeddings, labeled, n, rng=_rng()).rows.tolist() == _naive(embeddings, labeled, n)


def test_takes_the_middle_of_each_cluster_largest_first() -> None:
    embeddings, cluster = _blobs((40, 30, 20, 10))
    rows = kmeans_medoids(embeddings, np.zeros(100, dtype=bool), 4, rng=_rng()).rows
    assert cluster[rows].tolist() == [0, 1, 2, 3]
    for row in rows:
        from_middle = np.linalg.norm(embeddings - embeddings[cluster == cluster[row]].mean(axis=0), axis=1)
        assert np.argmin(from_middle) == row


def test_clusters_that_hold_a_labeled_sample_are_passed_over() -> None:
    embeddings, cluster = _blobs((40, 30, 20, 10))
    labeled = np.isin(np.arange(100), [0, 70])
    assert cluster[kmeans_medoids(embeddings, labeled, 2, rng=_rng()).rows].tolist() == [1, 3]


def test_a_centre_takes_a_member_of_its_own_where_a_stranger_is_nearer() -> None:
    # The middle of the wide pair lies next to the tight trio: taking the nearest of all would take that trio's samples twice.
    embeddings = np.array([[-10.0, 0.0], [10.0, 0.0], [0.0, 10.1], [0.0, 10.2], [0.0, 10.0]])
    rows = kmeans_medoids(embeddings, np.zeros(5, dtype=bool), 5, rng=_rng()).rows
    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4]
    rows = kmeans_medoids(np.repeat(embeddings, 30, axis=0), np.zeros(150, dtype=bool), 60, rng=_rng()).rows
    assert len(set(rows.tolist())) == 60


def test_fewer_distinct_samples_than_clusters_are_visited_again() -> None:
    embeddings = np.repeat(np.eye(2) * 10, [3, 2], axis=0)
    assert kmeans_medoids(embeddings, np.zeros(5, dtype=bool), 5, rng=_rng()).rows.tolist() == [0, 3, 1, 4, 2]


def test_the_reason_names_the_cluster() -> None:
    embeddings, _ = _blobs((40, 30))
    query = kmeans_medoids(embeddings, np.isin(np.arange(70), [40]), 1, rng=_rng())
    assert "0 of them labeled" in query.reasons[0]
    assert set(query.numbers) == {"turn", "cluster", "distance", "size", "cluster_labeled"}
