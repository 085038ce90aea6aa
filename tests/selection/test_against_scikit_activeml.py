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
    base = pytest.importorskip("skactiveml.base")

# Its own warnings (of radii, of k-means with fewer distinct samples than clusters) are not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore")


def _ours(strategy: str, embeddings: np.ndarray, labeled: np.ndarray, n: int, seed: int = 0, **more: Any) -> list[int]:
    if strategy not in STRATEGIES:
        pytest.skip(f"{strategy} is not there yet")
    answer = STRATEGIES[strategy](embeddings, labeled=labeled, n=n, rng=np.random.default_rng(seed), **more)
    return answer.rows.tolist()


def _theirs(
    strategy: str, embeddings: np.ndarray, labeled: np.ndarray, n: int, seed: int = 0, **options: Any
) -> list[int]:
    asked = getattr(pool, strategy)(random_state=seed, **options)
    return np.asarray(asked.query(embeddings, _as_labels(labeled), batch_size=n)).tolist()


def _as_labels(labeled: np.ndarray) -> np.ndarray:
    return np.where(labeled, 0.0, np.nan)


def _their_badge(
    embeddings: np.ndarray, probabilities: np.ndarray, labeled: np.ndarray, n: int, seed: int = 0
) -> tuple[list[int], np.ndarray]:
    """Rows, and before each pick the chance that it gave to every sample."""

    class Known(base.SkactivemlClassifier):
        def fit(self, X, y, sample_weight=None):
            return self

        def predict_proba(self, X):
            return probabilities[~labeled]

    known = Known(classes=list(range(probabilities.shape[1])))
    asked = pool.Badge(random_state=seed)
    rows, chances = asked.query(
        embeddings, _as_labels(labeled), known, fit_clf=False, batch_size=n, return_utilities=True
    )
    return [int(row) for row in rows], chances


def _scattered(samples: int = 300, dims: int = 12) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(samples, dims)), rng.random(samples) < 0.05


def _cold(samples: int) -> np.ndarray:
    return np.zeros(samples, dtype=bool)


def _only(row: int, samples: int) -> np.ndarray:
    return np.arange(samples) == row


def _blobs(sizes: tuple[int, ...]) -> np.ndarray:
    """Clusters so far apart that k-means finds nothing but them."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    return np.eye(len(sizes))[cluster] * 200 + np.random.default_rng(3).normal(size=(len(cluster), len(sizes)))


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
    embeddings = _blobs((60, 45, 30, 24, 20, 12))
    ours = _ours("typiclust", embeddings, _cold(191), 6, neighbors=5)
    assert ours == _theirs("TypiClust", embeddings, _cold(191), 6, k=5)
    labeled = np.isin(np.arange(191), [0, 1, 60])
    ours = _ours("typiclust", embeddings, labeled, 3, neighbors=5)
    assert ours == _theirs("TypiClust", embeddings, labeled, 3, k=5)


def test_typiclust_theirs_takes_clusters_of_one_and_ours_passes_them_over() -> None:
    embeddings = _blobs((60, 45, 30))
    outliers = np.array([[4000.0, 0, 0], [0, -4000, 0], [0, 0, 5000]])
    everything = np.concatenate([embeddings, outliers])
    # Six clusters: three blobs and three outliers, where the labeled samples are all of one blob.
    labeled = np.isin(np.arange(138), [0, 1, 2])
    assert max(_ours("typiclust", everything, labeled, 3, neighbors=5)) < 135
    assert max(_theirs("TypiClust", everything, labeled, 3, k=5)) >= 135


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


def _predicted(samples: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and what they lack of the class that they favour."""
    probabilities = np.random.default_rng(1).dirichlet(np.ones(classes), samples)
    return probabilities, probabilities - np.eye(classes)[probabilities.argmax(axis=1)]


def _squared_gaps(embeddings: np.ndarray, residual: np.ndarray, row: int) -> np.ndarray:
    gradients = np.einsum("nc,nd->ncd", residual, embeddings).reshape(len(embeddings), -1)
    return ((gradients - gradients[row]) ** 2).sum(axis=1)


def test_badge_begins_where_theirs_begins() -> None:
    embeddings, labeled = _scattered(200, 6)
    probabilities, residual = _predicted(200)
    theirs, _ = _their_badge(embeddings, probabilities, labeled, 1)
    assert _ours("badge", embeddings, labeled, 1, residual=residual) == theirs


def test_badge_draws_by_the_distance_to_what_was_taken_and_theirs_to_the_origin_too() -> None:
    embeddings, labeled = _scattered(12, 3)[0], _only(5, 12)
    probabilities, residual = _predicted(12)
    (first, *_), chances = _their_badge(embeddings, probabilities, labeled, 2)
    right = np.where(labeled, 0, _squared_gaps(embeddings, residual, first))
    right /= right.sum()
    drawn = [_ours("badge", embeddings, labeled, 2, seed, residual=residual)[1] for seed in range(300)]
    shares = np.bincount(drawn, minlength=12) / 300
    # Chi-squared with ten degrees of freedom exceeds 35 once in ten thousand times.
    assert _chi_squared(shares, right) < 35 < _chi_squared(np.nan_to_num(chances[1]), right)


def _chi_squared(shares: np.ndarray, right: np.ndarray, draws: int = 300) -> float:
    likely = right > 0
    return float(draws * ((shares - right)[likely] ** 2 / right[likely]).sum())


def test_badge_theirs_repeats_itself_on_repeated_samples() -> None:
    repeated, labeled = np.repeat(_scattered(4, 3)[0], 5, axis=0), _only(0, 20)
    probabilities, residual = (np.repeat(array, 5, axis=0) for array in _predicted(4))
    assert len(set(_their_badge(repeated, probabilities, labeled, 19)[0])) < 19
    assert len(set(_ours("badge", repeated, labeled, 19, residual=residual))) == 19
