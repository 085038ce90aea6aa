"""CALR: of each BIRCH cluster the sample most alike to all others of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.cluster import Birch
from sklearn.metrics.pairwise import cosine_similarity
from threadpoolctl import threadpool_limits

from nextmask.selection import calr
from nextmask.selection.geometry import birch as module
from nextmask.selection.geometry.birch import birch
from nextmask.selection.geometry.directions import directions, mean_cosine


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _planted(sizes: tuple[int, ...] = (12, 9, 7, 5), spread: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    planted = np.repeat(np.arange(len(sizes)), sizes)
    centres = np.eye(len(sizes), 12) * 6
    return (centres[planted] + _rng().normal(size=(len(planted), 12)) * spread).astype(np.float32), planted


def _nothing(embeddings: np.ndarray) -> np.ndarray:
    return np.zeros(len(embeddings), dtype=bool)


POOLS = {
    "planted": lambda: _planted()[0],
    "noise": lambda: _rng().normal(size=(90, 7)),
    "duplicates": lambda: np.repeat(_rng().normal(size=(9, 5)), 4, axis=0),
    "constant_columns": lambda: np.hstack([_rng().normal(size=(40, 3)), np.full((40, 3), 7.0)]),
    "offset": lambda: _rng().normal(size=(60, 6)) + 1e4,
}


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("n", [1, 4, 9])
def test_picks_are_those_of_the_definition(name: str, n: int) -> None:
    embeddings = POOLS[name]()
    centred = embeddings - embeddings.mean(axis=0, dtype=np.float64)
    cluster = birch(directions(embeddings), n, _rng())
    query = calr(embeddings, _nothing(embeddings), n, rng=_rng())
    expected = []
    for own in np.unique(cluster):
        members = np.flatnonzero(cluster == own)
        density = cosine_similarity(centred[members]).mean(axis=1).round(9)
        expected.append(members[np.argmax(density)])
    assert set(query.rows[query.numbers["turn"] == 1]) == set(expected)


@pytest.mark.parametrize("n", [3, 8])
def test_clusters_are_those_of_scikit_learn(n: int) -> None:
    embeddings = _rng().normal(size=(120, 6))
    centred = embeddings - embeddings.mean(axis=0)
    units = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    theirs = Birch(n_clusters=n).fit_predict(units)
    ours = birch(directions(embeddings), n, _rng())
    assert len(np.unique(np.stack([ours, theirs]), axis=1).T) == n


def test_takes_one_of_each_planted_cluster_largest_first() -> None:
    embeddings, planted = _planted()
    np.testing.assert_array_equal(planted[calr(embeddings, _nothing(embeddings), 4, rng=_rng()).rows], [0, 1, 2, 3])


def test_goes_to_clusters_without_labeled_samples_first() -> None:
    embeddings, planted = _planted()
    labeled = np.isin(np.arange(len(planted)), [0, 13])  # one of the first, one of the second cluster
    assert set(planted[calr(embeddings, labeled, 2, rng=_rng()).rows]) == {2, 3}


def test_the_mean_cosine_is_the_mean_of_all_cosines() -> None:
    embeddings = _rng().normal(size=(50, 6)).astype(np.float32) + 30
    embeddings[7:11] = embeddings[7]
    cluster = _rng().integers(6, size=50)
    centred = embeddings - embeddings.mean(axis=0, dtype=np.float64)
    cosines = cosine_similarity(centred)
    expected = [cosines[row, cluster == cluster[row]].mean() for row in range(50)]
    np.testing.assert_allclose(mean_cosine(directions(embeddings), cluster), expected, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_threshold_without_a_scale_does_not_lose_clusters(scale: float) -> None:
    # Ports run BIRCH on raw features: with small ones all samples fall into one sub-cluster.
    embeddings, planted = _planted(spread=0.01)
    query = calr(embeddings * np.float32(scale), _nothing(embeddings), 9, rng=_rng())
    assert set(planted[query.rows]) == {0, 1, 2, 3}
    assert (query.numbers["turn"] == 1).all()


def test_a_large_pool_is_summarised_by_some_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEARNS_FROM", 200)
    monkeypatch.setattr(module, "MOST", 25)
    embeddings, planted = _planted((300, 200, 100, 50), spread=1.0)
    query = calr(embeddings, _nothing(embeddings), 4, rng=_rng())
    assert set(planted[query.rows]) == {0, 1, 2, 3}
    assert 4 <= len(module._summary(directions(_rng().normal(size=(200, 9))).whole(), 4)) <= 25
    cluster = birch(directions(embeddings), 4, _rng())
    assert len(np.unique(np.stack([cluster, planted]), axis=1).T) <= 8  # all but a few strays


def test_reads_a_memory_map_and_the_threads_change_nothing(tmp_path: Path) -> None:
    embeddings = _rng().normal(size=(300, 32)).astype(np.float32)
    np.save(tmp_path / "pool.npy", embeddings)
    on_disk = np.load(tmp_path / "pool.npy", mmap_mode="r")
    with threadpool_limits(1):
        once = calr(embeddings, _nothing(embeddings), 30, rng=_rng()).rows
    with threadpool_limits(4):
        np.testing.assert_array_equal(once, calr(on_disk, _nothing(embeddings), 30, rng=_rng()).rows)


def test_an_offset_of_all_features_changes_nothing() -> None:
    embeddings = (np.round(_rng().normal(size=(80, 6)) * 4) / 4).astype(np.float32)
    near = calr(embeddings, _nothing(embeddings), 12, rng=_rng()).rows
    np.testing.assert_array_equal(near, calr(embeddings + 1e4, _nothing(embeddings), 12, rng=_rng()).rows)


def test_a_constant_pool_has_no_directions() -> None:
    constant = np.full((33, 4), 1e4 + 0.1)
    assert (constant.mean(axis=0) != constant[0]).all()  # or there would be nothing to see
    assert not directions(constant).length.any()
    np.testing.assert_array_equal(calr(constant, _nothing(constant), 5, rng=_rng()).rows, range(5))
