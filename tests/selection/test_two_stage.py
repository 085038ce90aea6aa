"""The claims of k-center in two stages: the factor of four, and that one shard is k-center."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nextmask.errors import SelectionError
from nextmask.selection import k_center, two_stage_k_center
from nextmask.selection.two_stage import first_stage, in_two_stages, merge


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _radius(embeddings: np.ndarray, centres: list[int]) -> float:
    return float(cdist(embeddings, embeddings[centres]).min(axis=1).max())


def _best(embeddings: np.ndarray, labeled: np.ndarray, n: int) -> float:
    given = np.flatnonzero(labeled).tolist()
    open_rows = np.flatnonzero(~labeled).tolist()
    return min(_radius(embeddings, [*given, *centres]) for centres in combinations(open_rows, n))


@pytest.mark.parametrize("count", [0, 3])
@pytest.mark.parametrize("shards", [1, 2, 4, 14])
@pytest.mark.parametrize("seed", range(4))
def test_radius_is_within_four_times_the_optimum(seed: int, shards: int, count: int) -> None:
    rng = _rng(seed)
    # Sorted, so that shards hold different parts of the space, and all that is labeled lies in the first.
    embeddings = rng.normal(size=(14, 2))
    embeddings = embeddings[np.argsort(embeddings[:, 0])]
    labeled = np.arange(14) < count
    query = two_stage_k_center(embeddings, labeled, 3, rng=rng, shards=shards)
    radius = _radius(embeddings, np.flatnonzero(labeled).tolist() + query.rows.tolist())
    assert radius <= 4 * _best(embeddings, labeled, 3) + 1e-12
    assert radius <= query.numbers["radius_at_most"][-1] + 1e-12


def test_labeled_samples_of_other_shards_are_centres() -> None:
    # The second shard repeats what the first has labeled, but for one sample; asked for one, it must be that one.
    seen = np.arange(10.0)[:, None] * 100
    embeddings = np.concatenate([seen, seen + 0.1])
    embeddings[18] += 50
    labeled = np.arange(20) < 10
    assert two_stage_k_center(embeddings, labeled, 1, rng=_rng(), shards=2).rows.tolist() == [18]
    assert first_stage(embeddings[10:], labeled[10:], 1, rng=_rng(), centres=embeddings[:10]).tolist() == [8]
    assert first_stage(embeddings[10:], labeled[10:], 1, rng=_rng()).tolist() != [8]


@pytest.mark.parametrize("count", [0, 20])
def test_one_shard_is_k_center(count: int) -> None:
    embeddings = _rng().normal(size=(300, 8))
    labeled = np.arange(300) % 15 < count / 20
    whole = k_center(embeddings, labeled, 40, rng=_rng())
    two = two_stage_k_center(embeddings, labeled, 40, rng=_rng())
    if count:
        np.testing.assert_array_equal(two.rows, whole.rows)
    else:
        # The same finalists; which of them is most central differs.
        assert len(set(two.rows.tolist()) & set(whole.rows.tolist())) == 40


@pytest.mark.parametrize("shards", [2, 7, 300, 1000])
def test_many_shards_cover_nearly_as_well_as_one(shards: int) -> None:
    rng = _rng(3)
    cluster = rng.integers(12, size=300)
    embeddings = np.eye(12)[cluster] * 20 + rng.normal(size=(300, 12))
    cold = np.zeros(300, dtype=bool)
    query = two_stage_k_center(embeddings, cold, 12, rng=rng, shards=shards)
    assert sorted(cluster[query.rows].tolist()) == list(range(12))
    whole = _radius(embeddings, k_center(embeddings, cold, 12, rng=rng).rows.tolist())
    assert _radius(embeddings, query.rows.tolist()) <= 2 * whole


def test_the_stages_by_hand_give_the_query() -> None:
    embeddings = _rng(5).normal(size=(90, 4))
    labeled = _rng(6).random(90) < 0.1
    given = embeddings[labeled]
    rows = np.concatenate(
        [
            start
            + np.sort(
                first_stage(embeddings[start : start + 30], labeled[start : start + 30], 8, rng=_rng(), centres=given)
            )
            for start in (0, 30, 60)
        ]
    )
    places = merge(embeddings[rows], 8, rng=_rng(), centres=given)
    query = two_stage_k_center(embeddings, labeled, 8, rng=_rng(), shards=3)
    assert rows[places].tolist() == query.rows.tolist()


def test_shards_with_fewer_samples_than_asked_for_give_all_they_have() -> None:
    embeddings = _rng().normal(size=(40, 3))
    labeled = np.arange(40) < 12
    query = two_stage_k_center(embeddings, labeled, 28, rng=_rng(), shards=9)
    assert sorted(query.rows.tolist()) == list(range(12, 40))


def test_repeated_samples_are_not_picked_twice() -> None:
    embeddings = np.repeat(_rng().normal(size=(5, 3)), 20, axis=0)
    query = two_stage_k_center(embeddings, np.zeros(100, dtype=bool), 60, rng=_rng(), shards=3)
    assert len(set(query.rows.tolist())) == 60


def test_shards_must_be_one_or_more() -> None:
    with pytest.raises(SelectionError, match="shards is 0"):
        two_stage_k_center(np.ones((4, 2)), np.zeros(4, dtype=bool), 1, rng=_rng(), shards=0)


def test_the_first_stage_may_run_anywhere_and_sees_every_shard_that_is_open():
    embeddings = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    labeled, seen = np.arange(60) < 20, []

    def each(first, parts):
        shards = list(parts)
        seen.extend(len(vectors) for vectors, _ in shards)
        return [first(*shard) for shard in shards]

    given = {"rng": np.random.default_rng(1), "shards": 3}
    found = in_two_stages(embeddings, labeled, 7, each=each, **given)
    local = two_stage_k_center(embeddings, labeled, 7, **given)
    assert seen == [20, 20]
    assert found.rows.tolist() == local.rows.tolist()
    assert found.reasons == local.reasons
