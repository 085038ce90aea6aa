"""Where scikit-activeml has the same rule, the same picks; where not, the difference that docs/scikit-activeml.md names."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from nextmask.selection import STRATEGIES

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pool = pytest.importorskip("skactiveml.pool")

# Its own warnings (of radii, of k-means with fewer distinct samples than clusters) are not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore")


def _ours(strategy: str, embeddings: np.ndarray, labeled: np.ndarray, n: int, seed: int = 0, **more: Any) -> list[int]:
    if strategy not in STRATEGIES:
        pytest.skip(f"{strategy} is not there yet")
    answer = STRATEGIES[strategy](embeddings, labeled=labeled, n=n, rng=np.random.default_rng(seed), **more)
    return answer.rows.tolist()


def _theirs(strategy: str, embeddings: np.ndarray, labeled: np.ndarray, n: int, seed: int = 0, **options: Any) -> list[int]:
    asked = getattr(pool, strategy)(random_state=seed, **options)
    return np.asarray(asked.query(embeddings, _as_labels(labeled), batch_size=n)).tolist()


def _as_labels(labeled: np.ndarray) -> np.ndarray:
    return np.where(labeled, 0.0, np.nan)


def _scattered(samples: int = 300, dims: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(samples, dims)), rng.random(samples) < 0.05


def _cold(samples: int) -> np.ndarray:
    return np.zeros(samples, dtype=bool)


def _only(row: int, samples: int) -> np.ndarray:
    return np.arange(samples) == row


def _blobs(sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Clusters so far apart that k-means finds nothing but them."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    return np.eye(len(sizes))[cluster] * 200 + np.random.default_rng(3).normal(size=(len(cluster), len(sizes))), cluster


def test_k_center_picks_what_coreset_picks() -> None:
    embeddings, labeled = _scattered()
    assert _ours("k_center", embeddings, labeled, 60) == _theirs("CoreSet", embeddings, labeled, 60)


def test_k_center_picks_what_coreset_picks_after_the_same_first_sample() -> None:
    embeddings, _ = _scattered()
    first, *rest = _theirs("CoreSet", embeddings, _cold(300), 60, seed=3)
    assert _ours("k_center", embeddings, _only(first, 300), 59) == rest


def test_coreset_starts_at_random_and_k_center_in_the_middle() -> None:
    embeddings, _ = _scattered()
    assert len({_theirs("CoreSet", embeddings, _cold(300), 1, seed)[0] for seed in range(4)}) > 1
    middle = int(np.argmin(np.linalg.norm(embeddings - embeddings.mean(axis=0), axis=1)))
    assert _ours("k_center", embeddings, _cold(300), 1) == [middle]


def test_on_a_common_offset_coreset_loses_the_order_and_k_center_does_not() -> None:
    rng = np.random.default_rng(0)
    near = np.round(rng.normal(size=(400, 16)) * 64) / 64
    labeled = rng.random(400) < 0.02
    right = _ours("k_center", near, labeled, 100)
    # A sixty-fourth is exact beside 3 x 10^7 in float64, so that both see the very same differences.
    assert _ours("k_center", near + 3e7, labeled, 100) == right
    assert _theirs("CoreSet", near, labeled, 100) == right
    assert _theirs("CoreSet", near + 3e7, labeled, 100) != right


def test_on_repeated_samples_coreset_goes_on_at_random_and_k_center_by_row() -> None:
    repeated = np.repeat(_scattered(10, 3)[0], 5, axis=0)
    labeled = _only(0, 50)
    ours = _ours("k_center", repeated, labeled, 49)
    assert {row // 5 for row in ours[:9]} == set(range(1, 10))
    assert ours[9:] == sorted(ours[9:])
    theirs = [_theirs("CoreSet", repeated, labeled, 49, seed) for seed in range(2)]
    assert theirs[0][9:] != theirs[1][9:]


def test_typiclust_picks_what_theirs_picks_from_the_same_clusters() -> None:
    embeddings, _ = _blobs((60, 45, 30, 24, 20, 12))
    ours = _ours("typiclust", embeddings, _cold(191), 6, neighbors=5)
    assert ours == _theirs("TypiClust", embeddings, _cold(191), 6, k=5)
    labeled = np.isin(np.arange(191), [0, 1, 60])
    ours = _ours("typiclust", embeddings, labeled, 3, neighbors=5)
    assert ours == _theirs("TypiClust", embeddings, labeled, 3, k=5)


def test_typiclust_theirs_takes_clusters_of_one_and_ours_passes_them_over() -> None:
    embeddings, cluster = _blobs((60, 45, 30))
    outliers = np.array([[4000.0, 0, 0], [0, -4000, 0], [0, 0, 5000]])
    everything = np.concatenate([embeddings, outliers])
    # Six clusters: three blobs and three outliers, where the labeled samples are all of one blob.
    labeled = np.isin(np.arange(138), [0, 1, 2])
    assert min(_ours("typiclust", everything, labeled, 3, neighbors=5)) < 135
    assert max(_ours("typiclust", everything, labeled, 3, neighbors=5)) < 135
    assert max(_theirs("TypiClust", everything, labeled, 3, k=5)) >= 135
    assert cluster.max() == 2


def test_typiclust_theirs_repeats_itself_on_repeated_samples() -> None:
    repeated = np.repeat(_scattered(20, 8)[0], 5, axis=0)
    theirs = _theirs("TypiClust", repeated, _cold(100), 60)
    assert len(set(theirs)) < 60
    assert len(set(_ours("typiclust", repeated, _cold(100), 60))) == 60


def test_typiclust_theirs_fails_where_every_cluster_is_labeled() -> None:
    constant = np.ones((40, 4))
    with pytest.raises(UnboundLocalError):
        _theirs("TypiClust", constant, _only(0, 40), 5)
    assert len(set(_ours("typiclust", constant, _only(0, 40), 5))) == 5
