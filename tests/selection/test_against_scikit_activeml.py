"""Where scikit-activeml has the same rule, the same picks; where not, the difference that docs/scikit-activeml.md names."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from nextmask.selection import STRATEGIES, Query

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pool = pytest.importorskip("skactiveml.pool")
    base = pytest.importorskip("skactiveml.base")

# Its own warnings (of radii, of k-means with fewer distinct samples than clusters) are not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore")


def _query(strategy: str, embeddings: np.ndarray, labeled: np.ndarray, n: int, seed: int = 0, **more: Any) -> Query:
    return STRATEGIES[strategy](embeddings, labeled=labeled, n=n, rng=np.random.default_rng(seed), **more)


def _ours(strategy: str, embeddings: np.ndarray, labeled: np.ndarray, n: int, seed: int = 0, **more: Any) -> list[int]:
    return _query(strategy, embeddings, labeled, n, seed, **more).rows.tolist()


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


def _their_coverage(embeddings: np.ndarray, labeled: np.ndarray, n: int, radius: float, picks: list[int]) -> np.ndarray:
    """What ProbCover would say that each sample newly covers, were these the picks: (n, samples), asked one by one."""
    known, said = labeled.copy(), []
    for row in picks[:n]:
        asked = pool.ProbCover(deltas=[radius], random_state=0)
        said.append(np.nan_to_num(asked.query(embeddings, _as_labels(known), return_utilities=True)[1][0]))
        known[row] = True
    return np.array(said)


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


def test_prob_cover_picks_what_theirs_picks_with_the_same_radius() -> None:
    embeddings, labeled = _scattered(300, 3)
    ours = _ours("prob_cover", embeddings, labeled, 12, radius=1.0)
    utilities = _their_coverage(embeddings, labeled, 12, 1.0, ours)
    newly = _query("prob_cover", embeddings, labeled, 12, radius=1.0).numbers["newly_covered"]
    # Where samples cover equally many, theirs draws one of them: so ours must be among the best of theirs at every pick.
    np.testing.assert_array_equal(newly, utilities.max(axis=1))


def test_prob_cover_ours_takes_the_lowest_of_equal_rows_and_theirs_any() -> None:
    embeddings, labeled = _scattered(300, 3)
    assert len({tuple(_theirs("ProbCover", embeddings, labeled, 12, seed, deltas=[1.0])) for seed in range(3)}) > 1
    assert len({tuple(_ours("prob_cover", embeddings, labeled, 12, seed, radius=1.0)) for seed in range(3)}) == 1


def test_prob_cover_theirs_counts_samples_at_exactly_the_radius_and_ours_as_the_paper_does_not() -> None:
    line = np.arange(9.0)[:, None]
    theirs = pool.ProbCover(deltas=[1.0], random_state=0)
    chances = theirs.query(line, _as_labels(_only(8, 9)), batch_size=1, return_utilities=True)[1]
    assert np.nanmax(chances) == 3
    assert _query("prob_cover", line, _only(8, 9), 1, radius=1.0).numbers["newly_covered"].tolist() == [1]


def test_prob_cover_ours_finds_the_radius_exactly_and_theirs_the_last_of_a_grid() -> None:
    rng = np.random.default_rng(0)
    embeddings = np.repeat([[0.0, 0], [3, 0], [0, 3]], 40, axis=0) + rng.normal(scale=0.5, size=(120, 2))
    grid = np.linspace(0.05, 3, 60)
    theirs = pool.ProbCover(n_classes=3, deltas=grid, cluster_algo_dict={"n_init": 10}, random_state=0)
    theirs.query(embeddings, _as_labels(_cold(120)), batch_size=1)
    radius = float(_query("prob_cover", embeddings, _cold(120), 1, classes=3).numbers["ball_radius"][0])
    assert theirs.delta_max_ < radius <= grid[grid > theirs.delta_max_][0]


def test_prob_cover_ours_goes_on_with_the_farthest_once_all_is_covered_and_theirs_at_random() -> None:
    embeddings, labeled = _scattered(60, 2)
    ours = _query("prob_cover", embeddings, labeled, 50, radius=2.0)
    covering = int(np.count_nonzero(np.nan_to_num(ours.numbers["newly_covered"])))
    known = labeled.copy()
    known[ours.rows[:covering]] = True
    assert 0 < covering < 50
    assert ours.rows[covering:].tolist() == _ours("k_center", embeddings, known, 50 - covering)
    theirs = {tuple(_theirs("ProbCover", embeddings, labeled, 50, seed, deltas=[2.0])[covering:]) for seed in range(3)}
    assert len(theirs) == 3


def test_prob_cover_theirs_remembers_the_pool_before_and_ours_nothing() -> None:
    near, far = _scattered(50, 2)[0], _scattered(50, 2)[0] * 100
    asked = pool.ProbCover(deltas=[0.5], random_state=0)
    asked.query(near, _as_labels(_cold(50)), batch_size=5)
    used = asked.query(far, _as_labels(_cold(50)), batch_size=5, return_utilities=True)[1]
    fresh = pool.ProbCover(deltas=[0.5], random_state=0)
    unused = fresh.query(far, _as_labels(_cold(50)), batch_size=5, return_utilities=True)[1]
    assert used[0].max() > unused[0].max() == 1
    with pytest.raises(IndexError):
        asked.query(_scattered(80, 2)[0], _as_labels(_cold(80)), batch_size=5)
    newly = _query("prob_cover", far, _cold(50), 5, radius=0.5).numbers["newly_covered"]
    assert newly.tolist() == [1] * 5


@pytest.mark.parametrize("stage", ["cold", "few"])
def test_max_herding_picks_what_theirs_picks(stage: str) -> None:
    embeddings, few = _scattered(300, 6)
    labeled = few if stage == "few" else _cold(300)
    theirs = _theirs("MaxHerding", embeddings, labeled, 40, metric_dict={"gamma": 1.0})
    assert _ours("max_herding", embeddings, labeled, 40) == theirs
    theirs = _theirs("MaxHerding", embeddings, labeled, 40, metric_dict={"gamma": 4.0})
    assert _ours("max_herding", embeddings, labeled, 40, length_scale=0.5) == theirs


def test_max_herding_theirs_has_a_kernel_as_wide_as_there_are_dims() -> None:
    embeddings, labeled = _scattered(300, 60)
    theirs = _theirs("MaxHerding", embeddings, labeled, 40)
    assert _ours("max_herding", embeddings, labeled, 40) != theirs
    assert _ours("max_herding", embeddings, labeled, 40, length_scale=60**0.5) == theirs


def test_max_herding_ours_takes_the_lowest_row_of_repeated_samples_and_theirs_any() -> None:
    repeated, labeled = np.repeat(_scattered(10, 3)[0], 5, axis=0), _cold(50)
    assert all(row % 5 == 0 for row in _ours("max_herding", repeated, labeled, 10))
    assert any(row % 5 for row in _theirs("MaxHerding", repeated, labeled, 10))
