"""The claims of facility location, against three obvious lines and against brute force."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from nextmask.errors import SelectionError
from nextmask.selection import facility_location


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _cold(samples: int) -> np.ndarray:
    return np.zeros(samples, dtype=bool)


def _similarity(embeddings: np.ndarray, references: np.ndarray | slice = slice(None)) -> np.ndarray:
    """(1 + cosine) / 2, by differences: equal samples get equal rows."""
    unit = embeddings.astype(float) / np.linalg.norm(embeddings.astype(float), axis=1, keepdims=True)
    similarity = 1 - ((unit[:, None] - unit[references]) ** 2).sum(axis=2) / 4
    return np.rint(similarity * 2**40) / 2**40


def _naive(similarity: np.ndarray, labeled: np.ndarray, n: int, cost: np.ndarray | float = 1.0) -> list[int]:
    best, taken = similarity[labeled].max(axis=0, initial=0), labeled.copy()
    rows: list[int] = []
    for _ in range(n):
        gain = np.array([math.fsum(np.maximum(row - best, 0)) for row in similarity]) / cost
        rows.append(int(np.argmax(np.where(taken, -1, gain))))
        best, taken[rows[-1]] = np.maximum(best, similarity[rows[-1]]), True
    return rows


def _clustered(samples: int = 150, dims: int = 6, seed: int = 0) -> np.ndarray:
    rng = _rng(seed)
    centres = rng.normal(scale=3, size=(8, dims))
    return (centres[rng.integers(8, size=samples)] + rng.normal(size=(samples, dims))).astype(np.float32)


POOLS = {
    "clustered": _clustered(),
    "offset": _clustered() + np.float32(64),
    "duplicated": np.repeat(_clustered(30), 4, axis=0),
    "constant": np.ones((30, 4)),
    "wide": _clustered(70, 200),
    "half precision": _clustered().astype(np.float16),
}


@pytest.mark.parametrize("share_labeled", [0.0, 0.05])
@pytest.mark.parametrize("pool", POOLS)
def test_equals_the_naive_version(pool: str, share_labeled: float) -> None:
    embeddings = POOLS[pool]
    labeled = _rng(1).random(len(embeddings)) < share_labeled
    n = min(10, int((~labeled).sum()))
    rows = facility_location(embeddings, labeled, n, rng=_rng()).rows.tolist()
    assert rows == _naive(_similarity(embeddings), labeled, n)


def test_a_shift_of_the_cosines_changes_no_pick() -> None:
    embeddings = _clustered()
    cosine = 2 * _similarity(embeddings) - 1
    rows = facility_location(embeddings, _cold(150), 10, rng=_rng()).rows.tolist()
    best, plain = np.full(150, -1.0), []
    for _ in range(10):
        plain.append(int(np.argmax(np.maximum(cosine, best).sum(axis=1))))
        best = np.maximum(best, cosine[plain[-1]])
    assert rows == plain


def test_reaches_at_least_1_minus_1_over_e_of_the_best_and_says_so() -> None:
    for seed in range(4):
        embeddings = _rng(seed).normal(size=(12, 3))
        similarity = _similarity(embeddings)
        best = max(similarity[list(rows)].max(axis=0).mean() for rows in combinations(range(12), 3))
        query = facility_location(embeddings, _cold(12), 3, rng=_rng())
        assert (1 - 1 / np.e) * best <= query.numbers["coverage"][-1] <= best + 1e-12
        assert query.numbers["share_of_best"] == pytest.approx(np.full(3, 1 - 1 / np.e))
        assert query.numbers["epsilon"].tolist() == [0, 0, 0]


def test_on_a_sample_of_references_the_picks_are_those_of_the_sample() -> None:
    embeddings, labeled = _clustered(), np.arange(150) < 3
    references = np.sort(_rng(5).choice(150, 40, replace=False))
    query = facility_location(embeddings, labeled, 8, rng=_rng(5), references=40)
    assert query.rows.tolist() == _naive(_similarity(embeddings, references), labeled, 8)
    assert query.reasons[0].startswith(f"represents {query.numbers['closer'][0]} of 40 samples")


def test_what_it_says_of_a_sample_holds_for_the_whole_pool() -> None:
    embeddings, labeled = _clustered(), np.arange(150) < 3
    similarity = _similarity(embeddings)
    query = facility_location(embeddings, labeled, 8, rng=_rng(5), references=60)
    so_far = [similarity[np.append([0, 1, 2], query.rows[: k + 1])].max(axis=0).mean() for k in range(8)]
    np.testing.assert_allclose(query.numbers["coverage"], so_far, rtol=1e-9)
    assert query.numbers["epsilon"] == pytest.approx(np.full(8, math.sqrt(math.log(8 / 0.01) / 120)))
    exact = facility_location(embeddings, labeled, 8, rng=_rng()).numbers["coverage"]
    before = similarity[:3].max(axis=0).mean()
    rise = (query.numbers["coverage"] - before) / (exact - before)
    assert (query.numbers["share_of_best"] > 0).all()
    # The greedy choice is at most as good as the best one, whose rise the share is a bound of.
    assert (query.numbers["share_of_best"] <= rise).all()


def test_labeled_samples_count_as_taken() -> None:
    pool = np.concatenate([np.tile([1.0, 0.0], (30, 1)), np.tile([0.0, 1.0], (5, 1))])
    assert facility_location(pool, _cold(35), 1, rng=_rng()).rows.tolist() == [0]
    assert facility_location(pool, np.arange(35) == 7, 1, rng=_rng()).rows.tolist() == [30]


def test_per_minute_it_takes_what_raises_most_a_minute() -> None:
    embeddings, cost = _clustered(), 1 + _rng(2).integers(4, size=150) / 2
    query = facility_location(embeddings, _cold(150), 12, rng=_rng(), cost=cost)
    assert query.rows.tolist() == _naive(_similarity(embeddings), _cold(150), 12, cost)
    assert "share_of_best" not in query.numbers


def test_refuses_references_that_are_none() -> None:
    with pytest.raises(SelectionError, match=r"references is 0\. Expected 1 or more"):
        facility_location(_clustered(10), _cold(10), 1, rng=_rng(), references=0)
