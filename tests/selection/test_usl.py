"""USL: one dense sample a cluster, away from the representatives of the others."""

from __future__ import annotations

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from nextmask.errors import SelectionError
from nextmask.selection import usl
from nextmask.selection.geometry import nearby
from nextmask.selection.geometry.directions import directions
from nextmask.selection.geometry.k_means import k_means
from nextmask.selection.geometry.visiting import clusters_wanted, rounded


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _clustered(samples: int = 90) -> np.ndarray:
    rng = _rng()
    return (rng.normal(size=(6, 8))[rng.integers(6, size=samples)] * 3 + rng.normal(size=(samples, 8))).astype(
        np.float32
    )


POOLS = {
    "clustered": _clustered,
    "noise": lambda: _rng().normal(size=(70, 5)),
    "duplicates": lambda: np.repeat(_clustered(14), 5, axis=0),
    "constant_columns": lambda: np.hstack([_clustered(), np.full((90, 2), 3, np.float32)]),
    "offset": lambda: _clustered() + np.float32(1e3),
}


def _authors(embeddings: np.ndarray, labeled: np.ndarray, n: int, k: int, iterations: int = 10) -> list[int]:
    """Pick as the authors' loop does, every distance anew by differences; first turn of the clusters only."""
    units = directions(embeddings).whole()
    cluster = k_means(units, clusters_wanted(labeled, n), _rng()).labels
    squared = ((units[:, None] - units[None]) ** 2).sum(axis=2)
    others = np.where(np.eye(len(units), dtype=bool), np.inf, squared)
    density = 1 / np.maximum(np.sort(others, axis=1)[:, :k].mean(axis=1), 1e-10)
    inverse = np.maximum(squared, 1e-10) ** -0.5 * (cluster[:, None] != cluster)
    crowding = np.zeros(len(units))
    for iteration in range(iterations):
        score = rounded(density - 0.5 * crowding)
        best = {}
        for row in np.flatnonzero(~labeled):
            own = int(cluster[row])
            if own not in best or score[row] > score[best[own]]:
                best[own] = int(row)
        if iteration < iterations - 1:
            standing_for = [row for own, row in best.items() if not labeled[cluster == own].any()]
            now = inverse[:, standing_for + np.flatnonzero(labeled).tolist()].sum(axis=1)
            crowding = 0.9 * crowding + 0.1 * now
    size, held = np.bincount(cluster), np.bincount(cluster[labeled], minlength=cluster.max() + 1)
    lowest = [int(np.flatnonzero(cluster == own)[0]) for own in range(len(size))]
    return [best[own] for own in sorted(best, key=lambda own: (held[own], -size[own], lowest[own]))][:n]


@pytest.mark.parametrize("stage", ["cold", "few"])
@pytest.mark.parametrize("name", POOLS)
def test_picks_are_those_of_the_authors_loop(name: str, stage: str) -> None:
    embeddings = POOLS[name]()
    labeled = np.zeros(len(embeddings), bool)
    labeled[[3, 40, 41, 60]] = stage == "few"
    for n in (1, 7, 12):
        expected = _authors(embeddings, labeled, n, k=20)
        np.testing.assert_array_equal(usl(embeddings, labeled, n, rng=_rng()).rows[: len(expected)], expected)


def test_keeps_the_rule_of_one_pick_a_cluster() -> None:
    # Eight tight clusters and a dozen outliers: ports, which take the densest of the whole pool, hit three of the eight.
    rng = _rng()
    tight = (
        np.repeat(rng.normal(size=(8, 16)) * 5, 20, axis=0)
        + rng.normal(size=(160, 16)) * np.repeat(np.linspace(0.05, 0.4, 8), 20)[:, None]
    )
    embeddings = np.vstack([tight, rng.normal(size=(12, 16)) * 2])
    rows = usl(embeddings, np.zeros(172, bool), 12, rng=_rng()).rows
    assert set(range(8)) <= set((rows[rows < 160] // 20).tolist())


def test_the_regulariser_drives_picks_of_neighbouring_clusters_apart() -> None:
    # A filled disc of directions, densest in the middle, cut into clusters: without it all picks huddle in the middle.
    rng = _rng()
    disc = rng.normal(size=(400, 2)) * [1, 1]
    embeddings = np.hstack([disc, np.full((400, 1), 0.0)])

    def nearest_pick(strength: float) -> float:
        rows = usl(embeddings, np.zeros(400, bool), 6, rng=_rng(), strength=strength).rows
        units = directions(embeddings).rows(rows)
        return float(np.sort(((units[:, None] - units) ** 2).sum(axis=2), axis=1)[:, 1].min())

    assert nearest_pick(200.0) > nearest_pick(0.0)


def test_a_large_pool_looks_for_neighbours_within_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = _clustered(300)
    exact = nearby.mean_distance_nearby(embeddings, 5, _rng())
    monkeypatch.setattr(nearby, "SMALL_POOL", 100)
    monkeypatch.setattr(nearby, "CELL", 100)
    in_cells = nearby.mean_distance_nearby(embeddings, 5, _rng())
    assert (in_cells >= exact - 1e-12).all()
    assert (in_cells > exact + 1e-12).any()
    assert np.corrcoef(in_cells, exact)[0, 1] > 0.9


def test_nobody_is_near_a_sample_that_is_alone() -> None:
    assert nearby.mean_distance_nearby(np.ones((1, 3)), 5, _rng()) == [np.inf]


def test_the_threads_change_nothing() -> None:
    embeddings = _rng().normal(size=(300, 48)).astype(np.float32)
    with threadpool_limits(1):
        once = usl(embeddings, np.zeros(300, bool), 40, rng=_rng()).rows
    with threadpool_limits(4):
        np.testing.assert_array_equal(once, usl(embeddings, np.zeros(300, bool), 40, rng=_rng()).rows)


@pytest.mark.parametrize("option", ["neighbors", "iterations"])
def test_refuses_less_than_one(option: str) -> None:
    with pytest.raises(SelectionError, match=rf"{option} is 0\. Expected 1 or more"):
        usl(_clustered(), np.zeros(90, bool), 3, rng=_rng(), **{option: 0})
