"""Similar: the negative control draws from one cluster only."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from nextmask.selection import similar
from nextmask.selection.similar import _clusters_found


def _planted(sizes: tuple[int, ...] = (30, 20, 12)) -> tuple[np.ndarray, np.ndarray]:
    planted = np.repeat(np.arange(len(sizes)), sizes)
    noise = np.random.default_rng(0).normal(size=(len(planted), 6))
    return ((np.eye(len(sizes), 6) * 30)[planted] + noise).astype(np.float32), planted


def _picks(embeddings: np.ndarray, labeled: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    return similar(embeddings, labeled, n, rng=np.random.default_rng(seed)).rows


def test_draws_from_one_planted_cluster_and_from_another_another_time() -> None:
    embeddings, planted = _planted()
    seen = set()
    for seed in range(7):
        rows = _picks(embeddings, np.zeros(62, bool), 4, seed)
        assert len(set(planted[rows])) == 1
        seen.add(int(planted[rows[0]]))
    assert len(seen) > 1


def test_the_number_of_clusters_has_the_best_silhouette() -> None:
    embeddings, _ = _planted()
    scores = {k: silhouette_score(embeddings, KMeans(k, random_state=0).fit_predict(embeddings)) for k in range(2, 9)}
    assert _clusters_found(embeddings, 8, np.random.default_rng(0)) == max(scores, key=lambda k: scores[k]) == 3


def test_where_no_cluster_is_large_enough_it_fills_up_with_the_nearest() -> None:
    embeddings, planted = _planted()
    rows = _picks(embeddings, np.zeros(62, bool), 40)
    assert set(np.flatnonzero(planted == 0)) == set(rows[:30])
    centre = embeddings[planted == 0].mean(axis=0, dtype=np.float64)
    others = np.flatnonzero(planted != 0)
    distance = np.linalg.norm(embeddings[others] - centre, axis=1)
    np.testing.assert_array_equal(rows[30:], others[np.argsort(distance, kind="stable")[:10]])


def test_a_cluster_must_hold_more_than_it_is_asked_for() -> None:
    embeddings, planted = _planted()
    for seed in range(2):
        assert set(planted[_picks(embeddings, np.zeros(62, bool), 13, seed)]) in ({0}, {1})


def test_what_is_labeled_is_not_drawn() -> None:
    embeddings, planted = _planted()
    labeled = planted == 0
    labeled[:2] = False
    for seed in range(5):
        rows = _picks(embeddings, labeled, 4, seed)
        assert set(planted[rows]) in ({1}, {2})


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_the_smallest_pools_have_no_silhouette(samples: int) -> None:
    embeddings = np.arange(samples, dtype=np.float64)[:, None]
    assert set(_picks(embeddings, np.zeros(samples, bool), samples)) == set(range(samples))


def test_a_reason_says_that_it_is_a_control() -> None:
    embeddings, _ = _planted()
    assert "negative control" in similar(embeddings, np.zeros(62, bool), 3, rng=np.random.default_rng(0)).reasons[0]
