"""CSCS: typical and difficult at once, one sample a cluster."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from nextmask.errors import SelectionError
from nextmask.selection import cscs
from nextmask.selection.cscs import _gamma, _ranks, _spearman, _standardised
from nextmask.selection.geometry.k_means import k_means
from nextmask.selection.geometry.visiting import clusters_wanted, rounded


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _clustered(samples: int = 80) -> np.ndarray:
    rng = _rng()
    return (rng.normal(size=(5, 6))[rng.integers(5, size=samples)] * 4 + rng.normal(size=(samples, 6))).astype(
        np.float32
    )


POOLS = {
    "clustered": _clustered,
    "duplicates": lambda: np.repeat(_clustered(16), 5, axis=0),
    "constant_columns": lambda: np.hstack([_clustered(), np.full((80, 2), 3, np.float32)]),
    "constant": lambda: np.full((80, 3), 1e4 + 0.1),
    "offset": lambda: _clustered() + np.float32(1e3),
}


@pytest.mark.parametrize("stage", ["cold", "few"])
@pytest.mark.parametrize("name", POOLS)
def test_picks_are_those_of_the_definition(name: str, stage: str) -> None:
    embeddings, difficulty = POOLS[name](), _rng().random(80).round(1)
    labeled = np.zeros(80, bool)
    labeled[[3, 40, 41, 60]] = stage == "few"
    for n in (1, 9):
        cluster = k_means(_standardised(embeddings), clusters_wanted(labeled, n), _rng()).labels
        apart = np.sort(np.linalg.norm(embeddings[:, None] - embeddings[None].astype(np.float64), axis=2), axis=1)
        typicality = rounded(1 / (apart[:, 1:21].mean(axis=1) + 1e-8))
        rho = spearmanr(difficulty, typicality).statistic if name != "constant" else 0.0
        annotated = labeled.sum() + n
        gamma = np.clip(0.5 + rho / 4 * annotated / (np.sqrt(80) + annotated), 0.3, 0.7)
        best = set()
        for own in np.unique(cluster):
            members = np.flatnonzero(cluster == own)
            ranks = [np.ones(1)] * 2
            if len(members) > 1:
                ranks = [(rankdata(v[members]) - 1) / (len(members) - 1) for v in (typicality, difficulty)]
            score = rounded(np.maximum(ranks[0], 0.01) ** (1 - gamma) * np.maximum(ranks[1], 0.01) ** gamma)
            if not labeled[members].all():
                best.add(int(members[np.argmax(np.where(labeled[members], -1, score))]))
        query = cscs(embeddings, difficulty, labeled, n, rng=_rng())
        assert set(query.rows[query.numbers["turn"] == 1].tolist()) <= best
        assert query.numbers["gamma"][0] == pytest.approx(gamma, abs=1e-9)


def test_takes_the_sample_that_is_both_over_those_that_are_only_one() -> None:
    rng = _rng()
    clump, outliers = rng.normal(size=(40, 4)) * 0.1, rng.normal(size=(10, 4)) * 5
    embeddings = np.vstack([clump, outliers])
    difficulty = np.concatenate([rng.random(40) * 0.2, 0.8 + rng.random(10) * 0.2])
    difficulty[7] = 0.79  # in the clump, and harder than all of it
    assert cscs(embeddings, difficulty, np.zeros(50, bool), 1, rng=rng).rows[0] == 7


@pytest.mark.parametrize(
    ("rho", "annotated", "samples", "expected"),
    [(-0.04, 77, 387, 0.49), (0.29, 7, 34, 0.54), (0.29, 14, 34, 0.55), (0.23, 12, 39, 0.54), (0.68, 9, 18, 0.62)],
)
def test_gamma_is_what_the_published_numbers_give(rho: float, annotated: int, samples: int, expected: float) -> None:
    assert _gamma(rho, annotated, samples, 0.3, 0.7) == pytest.approx(expected, abs=0.006)


def test_gamma_stays_within_its_bounds() -> None:
    assert _gamma(1.0, 10**6, 4, 0.4, 0.6) == 0.6
    assert _gamma(-1.0, 10**6, 4, 0.4, 0.6) == 0.4


def test_correlation_is_scipys_and_0_where_nothing_varies() -> None:
    one, two = _rng().random(50).round(1), _rng().integers(5, size=50).astype(float)
    assert _spearman(one, two) == pytest.approx(spearmanr(one, two).statistic)
    assert _spearman(one, np.zeros(50)) == 0.0


def test_equal_values_share_their_rank_within_a_cluster() -> None:
    ranks = _ranks(np.array([5.0, 1, 1, 3, 7]), np.array([0, 0, 0, 0, 1]))
    np.testing.assert_allclose(ranks, [1, 1 / 6, 1 / 6, 2 / 3, 1])


def test_the_last_of_a_cluster_is_not_worth_nothing() -> None:
    np.testing.assert_allclose(_ranks(np.array([2.0, 1, 3]), np.zeros(3, int)), [0.5, 0.01, 1])


def test_a_dimension_that_does_not_vary_says_nothing() -> None:
    embeddings = np.hstack([_clustered(30).astype(np.float64), np.full((30, 1), 1e4 + 0.1)])
    assert embeddings[:, 6].std() > 0  # as rounding has it
    points = _standardised(embeddings)
    np.testing.assert_array_equal(points[:, 6], 0)
    np.testing.assert_allclose(points[:, :6].std(axis=0), 1)


def test_refuses_no_neighbours() -> None:
    with pytest.raises(SelectionError, match=r"neighbors is 0\. Expected 1 or more"):
        cscs(_clustered(), np.zeros(80), np.zeros(80, bool), 3, rng=_rng(), neighbors=0)
