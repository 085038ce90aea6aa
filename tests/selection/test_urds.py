"""URDS: the most difficult of the most typical, clusters by kernels that weigh certainty."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_distances

from nextmask.errors import SelectionError
from nextmask.selection import urds
from nextmask.selection.geometry import kernel_map as module
from nextmask.selection.geometry.directions import directions
from nextmask.selection.geometry.k_means import k_means
from nextmask.selection.geometry.kernel_map import kernel_map


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _planted(sizes: tuple[int, ...] = (30, 20, 12)) -> tuple[np.ndarray, np.ndarray]:
    planted = np.repeat(np.arange(len(sizes)), sizes)
    noise = _rng().normal(size=(len(planted), 6))
    return ((np.eye(len(sizes), 6) * 12)[planted] + noise).astype(np.float32), planted


def test_the_products_of_the_map_are_the_kernel() -> None:
    embeddings, _ = _planted()
    difficulty = _rng().random(62)
    points = kernel_map(directions(embeddings), difficulty, 0.5, _rng())
    units = directions(embeddings).whole()
    squared = ((units[:, None] - units) ** 2).sum(axis=2)
    squared /= np.median(squared[squared > 1e-12])
    u = 0.5 + 0.5 * (difficulty - difficulty.min()) / (difficulty.max() - difficulty.min())
    expected = sum(np.exp(-gamma * squared / 2) for gamma in (0.1, 1, 10)) / (u[:, None] + u)
    np.testing.assert_allclose(points @ points.T, expected, atol=1e-6)
    # Theirs is 10^10 for the least difficult sample with itself.
    assert expected.max() < 3.1


@pytest.mark.parametrize("stage", ["cold", "few"])
def test_picks_the_most_difficult_of_the_three_most_typical(stage: str) -> None:
    embeddings, _ = _planted()
    difficulty = _rng().random(62).round(1)
    labeled = np.zeros(62, bool)
    labeled[[0, 1, 31]] = stage == "few"
    n = 5 if stage == "cold" else 2
    cluster = k_means(kernel_map(directions(embeddings), difficulty, 0.5, _rng()), 5, _rng_after_map()).labels
    expected = set()
    centred = embeddings - embeddings.mean(axis=0, dtype=np.float64)
    for own in np.unique(cluster):
        members = np.flatnonzero(cluster == own)
        far = cosine_distances(centred[members]).mean(axis=1).round(9)
        free = [int(members[place]) for place in np.argsort(far, kind="stable") if not labeled[members[place]]]
        expected.add(min(free[:3], key=lambda row: (-difficulty[row], row)))
    rows = urds(embeddings, difficulty, labeled, n, rng=_rng()).rows
    assert set(rows.tolist()) <= expected
    if stage == "cold":
        assert set(rows.tolist()) == expected


def _rng_after_map() -> np.random.Generator:
    return _rng()  # a small pool's map draws nothing


def test_takes_one_of_each_planted_cluster_whatever_the_scale() -> None:
    embeddings, planted = _planted()
    difficulty = _rng().random(62)
    once = urds(embeddings, difficulty, np.zeros(62, bool), 3, rng=_rng()).rows
    assert set(planted[once]) == {0, 1, 2}
    # Theirs has widths fixed on raw features: scaled ones make every kernel 1, or 0.
    for scale in (np.float32(1024), np.float32(1 / 1024)):
        np.testing.assert_array_equal(
            urds(embeddings * scale, difficulty, np.zeros(62, bool), 3, rng=_rng()).rows, once
        )


def test_goes_on_with_the_other_candidates_when_a_cluster_comes_again() -> None:
    embeddings = np.repeat(np.eye(2, 3) * 5, 5, axis=0) + _rng().normal(size=(10, 3)) * 0.1
    difficulty = np.arange(10) / 10
    query = urds(embeddings, difficulty, np.zeros(10, bool), 10, rng=_rng(), candidates=5)
    assert len(set(query.rows.tolist())) == 10
    query = urds(embeddings, difficulty, np.zeros(10, bool), 2, rng=_rng(), candidates=5)
    assert set(query.rows.tolist()) == {4, 9}


def test_a_large_pool_is_mapped_by_landmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SMALL_POOL", 50)
    monkeypatch.setattr(module, "LANDMARKS", 40)
    embeddings, planted = _planted((120, 80, 50))
    rows = urds(embeddings, _rng().random(250), np.zeros(250, bool), 3, rng=_rng()).rows
    assert set(planted[rows]) == {0, 1, 2}


@pytest.mark.parametrize("wrong", [{"candidates": 0}, {"least": 0.0}, {"least": 1.5}])
def test_refuses_options_without_a_meaning(wrong: dict[str, float]) -> None:
    name, value = next(iter(wrong.items()))
    with pytest.raises(SelectionError, match=rf"{name} is {value}\. Expected"):
        urds(_planted()[0], np.zeros(62), np.zeros(62, bool), 3, rng=_rng(), **wrong)
