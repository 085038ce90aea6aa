"""Agglomerative: a random member of each of Ward's clusters."""

from __future__ import annotations

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from nextmask.selection import agglomerative


def _planted() -> tuple[np.ndarray, np.ndarray]:
    planted = np.repeat(np.arange(4), [12, 9, 7, 4])
    return (np.eye(4, 6) * 30)[planted] + np.random.default_rng(0).normal(size=(32, 6)), planted


def _picks(embeddings: np.ndarray, labeled: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    return agglomerative(embeddings, labeled, n, rng=np.random.default_rng(seed)).rows


def test_takes_one_of_each_of_scipys_clusters() -> None:
    embeddings = np.random.default_rng(1).normal(size=(100, 5))
    cluster = fcluster(linkage(embeddings, "ward"), 17, "maxclust")
    assert len(set(cluster[_picks(embeddings, np.zeros(100, bool), 17)])) == 17


def test_every_member_of_a_cluster_is_as_likely_as_the_others() -> None:
    embeddings, planted = _planted()
    drawn = np.concatenate([_picks(embeddings, np.zeros(32, bool), 4, seed) for seed in range(150)])
    for own in range(4):
        times = np.bincount(drawn, minlength=32)[planted == own]
        assert times.sum() == 150
        expected = 150 / len(times)
        assert (np.abs(times - expected) < 5 * np.sqrt(expected)).all()


def test_labeled_samples_are_not_drawn_and_their_clusters_come_last() -> None:
    embeddings, planted = _planted()
    labeled = planted == 0
    labeled[[0, 31]] = [False, True]
    for seed in range(10):
        rows = _picks(embeddings, labeled, 19, seed)
        assert not labeled[rows].any()
    # 11 + 1 labeled and 1 asked for: 13 clusters, and the pick is of none that holds a labeled sample.
    assert planted[_picks(embeddings, labeled, 1)[0]] in {1, 2}
