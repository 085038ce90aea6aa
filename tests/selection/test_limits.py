"""A limited strategy keeps its order of preference and leaves out what the limits forbid."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextmask.errors import SelectionError
from nextmask.selection import k_center, limited, most_uncertain, needs, random_sampling, select, typiclust

Pool = dict[str, np.ndarray]


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _slices(volumes: int = 4, depth: int = 6) -> Pool:
    """Volumes of slices, two volumes a patient, more uncertain from row to row."""
    volume = np.repeat(np.arange(volumes), depth)
    z, zero = np.tile(np.arange(depth), volumes), np.zeros(volumes * depth, dtype=np.int64)
    return {
        "uncertainty": np.linspace(0, 1, volumes * depth),
        "embeddings": _rng(5).normal(size=(volumes * depth, 3)),
        "patient": volume // 2,
        "volume": volume,
        "bounds": np.stack([z, zero, zero, z + 1, zero + 8, zero + 8], axis=1),
    }


def _boxes(seed: int, samples: int) -> Pool:
    """Boxes at random places of few volumes, so that many overlap."""
    rng = _rng(seed)
    start = rng.integers(0, 8, size=(samples, 3))
    volume = rng.integers(0, 3, size=samples)
    return {
        "uncertainty": rng.random(samples).round(1),
        "embeddings": rng.normal(size=(samples, 2)),
        "patient": np.minimum(volume, 1),
        "volume": volume,
        "bounds": np.concatenate([start, start + rng.integers(1, 5, size=(samples, 3))], axis=1),
    }


def _ask(strategy, pool: Pool, labeled: np.ndarray, n: int, seed: int = 0):
    evidence = {name: lambda array=array: array for name, array in pool.items()}
    return select(strategy, evidence, labeled, n, rng=_rng(seed))


def _conflict(pool: Pool, one: int, other: int, spacing: int = 1) -> bool:
    """Whether two samples are of one volume and share a voxel, or are too few slices apart where they lie in line."""
    (a, b), (c, d) = np.split(pool["bounds"][one], 2), np.split(pool["bounds"][other], 2)
    extra = np.array([spacing - 1, 0, 0])
    return bool(pool["volume"][one] == pool["volume"][other] and (a < d + extra).all() and (c < b + extra).all())


def _naive(pool: Pool, labeled: np.ndarray, n: int, limits: dict[str, int]) -> list[int]:
    """Go down the list of the most uncertain, and take what conflicts with nothing."""
    taken: list[int] = []
    for row in np.argsort(-pool["uncertainty"], kind="stable").tolist():
        before = [*np.flatnonzero(labeled).tolist(), *taken]
        apart = not any(_conflict(pool, row, other, limits.get("spacing", 1)) for other in before)
        fits = all(
            sum(pool[name][row] == pool[name][other] for other in taken) < limits.get(f"per_{name}", len(labeled))
            for name in ("patient", "volume")
        )
        if not labeled[row] and apart and fits and len(taken) < n:
            taken.append(row)
    return taken


def test_without_a_conflict_the_answer_is_the_strategys_own() -> None:
    pool, cold = _slices(), np.zeros(24, dtype=bool)
    for strategy in (most_uncertain, k_center, typiclust):
        plain, within = _ask(strategy, pool, cold, 5), _ask(limited(strategy, no_overlap=False), pool, cold, 5)
        assert within.rows.tolist() == plain.rows.tolist()
        assert within.reasons == plain.reasons


def test_spacing_counts_slices_also_from_labeled_ones() -> None:
    pool = _slices(volumes=2, depth=10)
    labeled = np.isin(np.arange(20), [15])
    rows = _ask(limited(most_uncertain, spacing=3), pool, labeled, 5).rows
    # The second volume holds rows 10 to 19: 18 and 12 are three slices from 15.
    assert rows.tolist() == [19, 12, 9, 6, 3]
    assert _ask(limited(most_uncertain, spacing=1), pool, labeled, 5).rows.tolist() == [19, 18, 17, 16, 14]


def test_caps_count_this_query_and_not_earlier_rounds() -> None:
    pool, labeled = _slices(), np.isin(np.arange(24), [23, 22])
    rows = _ask(limited(most_uncertain, per_volume=2), pool, labeled, 8).rows
    assert rows.tolist() == [21, 20, 17, 16, 11, 10, 5, 4]
    rows = _ask(limited(most_uncertain, per_volume=2, per_patient=3), pool, labeled, 6).rows
    assert rows.tolist() == [21, 20, 17, 11, 10, 5]


def test_boxes_beside_one_another_in_the_plane_need_no_spacing() -> None:
    bounds = np.array([[0, 0, 0, 2, 4, 4], [0, 4, 0, 2, 8, 4], [3, 0, 0, 5, 4, 4], [1, 3, 3, 3, 5, 5]])
    pool = {"uncertainty": np.array([0.4, 0.3, 0.2, 0.9]), "volume": np.zeros(4, dtype=int), "bounds": bounds}
    cold = np.zeros(4, dtype=bool)
    labeled = np.isin(np.arange(4), [0])
    # Row 3 shares voxels with rows 0 and 1; row 2 begins one slice after row 0 ends.
    assert _ask(limited(most_uncertain), pool, cold, 2).rows.tolist() == [3, 2]
    assert _ask(limited(most_uncertain), pool, labeled, 2).rows.tolist() == [1, 2]
    assert _ask(limited(most_uncertain, spacing=3), pool, labeled, 1).rows.tolist() == [1]
    with pytest.raises(SelectionError, match="1 could be had"):
        _ask(limited(most_uncertain, spacing=3), pool, labeled, 2)
    assert _ask(limited(most_uncertain, no_overlap=False), pool, labeled, 3).rows.tolist() == [3, 1, 2]


def test_the_same_place_in_another_volume_is_no_overlap() -> None:
    pool = {"volume": np.arange(3), "bounds": np.tile([0, 0, 0, 4, 4, 4], (3, 1))}
    assert sorted(_ask(limited(random_sampling), pool, np.zeros(3, dtype=bool), 3).rows.tolist()) == [0, 1, 2]


def test_an_identical_box_overlaps() -> None:
    pool = {"volume": np.zeros(2, dtype=int), "bounds": np.tile([1, 1, 1, 3, 3, 3], (2, 1))}
    with pytest.raises(SelectionError, match="1 could be had"):
        _ask(limited(random_sampling), pool, np.zeros(2, dtype=bool), 2)


@given(
    seed=st.integers(0, 10**6),
    samples=st.integers(1, 25),
    known=st.integers(0, 4),
    n=st.integers(1, 8),
    limits=st.fixed_dictionaries(
        {}, optional={name: st.integers(1, 3) for name in ("per_patient", "per_volume", "spacing")}
    ),
    strategy=st.sampled_from([most_uncertain, random_sampling, k_center]),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_never_overlaps_keeps_caps_and_n_and_is_deterministic(seed, samples, known, n, limits, strategy) -> None:
    pool = _boxes(seed, samples)
    labeled = np.isin(np.arange(samples), _rng(seed).permutation(samples)[: min(known, samples - 1)])
    n = min(n, int(np.count_nonzero(~labeled)))
    within = limited(strategy, **limits)
    try:
        rows = _ask(within, pool, labeled, n).rows.tolist()
    except SelectionError as error:
        found = int(str(error).split(" samples were asked for, and ")[1].split(" ")[0])
        assert found < n
        assert found == 0 or len(_ask(within, pool, labeled, found)) == found or strategy is not most_uncertain
        rows = _naive(pool, labeled, n, limits)
        assert strategy is not most_uncertain or len(rows) == found
        return
    assert rows == _ask(within, pool, labeled, n).rows.tolist()
    assert len(set(rows)) == n
    assert not labeled[rows].any()
    if strategy is most_uncertain:
        assert rows == _naive(pool, labeled, n, limits)
    before = np.flatnonzero(labeled).tolist()
    for place, row in enumerate(rows):
        assert not any(_conflict(pool, row, other, limits.get("spacing", 1)) for other in [*before, *rows[:place]])
    for name in ("patient", "volume"):
        assert np.bincount(pool[name][rows]).max() <= limits.get(f"per_{name}", n)


def test_with_caps_alone_n_are_found_wherever_there_are_n() -> None:
    pool, cold = _slices(volumes=6, depth=4), np.zeros(24, dtype=bool)
    for seed in range(20):
        rows = _ask(limited(random_sampling, per_patient=3, per_volume=2, no_overlap=False), pool, cold, 9, seed).rows
        assert np.bincount(pool["patient"][rows]).tolist() == [3, 3, 3]


def test_what_was_taken_counts_as_labeled_and_what_conflicts_is_gone() -> None:
    seen = []

    def spy(embeddings: np.ndarray, labeled: np.ndarray, n: int, *, rng: np.random.Generator) -> np.ndarray:
        seen.append((embeddings[:, 0].astype(int).tolist(), labeled.tolist(), n))
        return np.flatnonzero(~labeled)[:n]

    pool = {**_slices(volumes=2, depth=3), "embeddings": np.arange(6.0)[:, None]}
    query = _ask(limited(spy, per_volume=1), pool, np.isin(np.arange(6), [1]), 2)
    assert query.rows.tolist() == [0, 3]
    # Of the first volume row 1 is labeled and stays, row 0 was taken, and row 2 left.
    assert seen == [
        ([0, 1, 2, 3, 4, 5], [False, True, False, False, False, False], 2),
        ([0, 1, 3, 4, 5], [True, True, False, False, False], 1),
    ]


def test_reasons_and_numbers_come_along() -> None:
    query = _ask(limited(most_uncertain, per_volume=1), _slices(), np.zeros(24, dtype=bool), 3)
    assert query.rows.tolist() == [23, 17, 11]
    assert query.reasons == (
        "rank 1 of 24 by uncertainty (1)",
        "rank 1 of 18 by uncertainty (0.739); of what the limits left",
        "rank 1 of 12 by uncertainty (0.478); of what the limits left",
    )
    np.testing.assert_array_equal(query.numbers["uncertainty"], _slices()["uncertainty"][query.rows])


def test_asks_for_the_evidence_of_the_strategy_and_of_the_limits_in_use() -> None:
    assert needs(limited(k_center)) == ("embeddings", "volume", "bounds")
    assert needs(limited(k_center, no_overlap=False)) == ("embeddings",)
    assert needs(limited(k_center, per_patient=1, no_overlap=False)) == ("embeddings", "patient")
    assert needs(limited(partial(k_center, embeddings=np.zeros((3, 1))), per_volume=1)) == ("volume", "bounds")
    assert needs(partial(limited(k_center, per_patient=1, no_overlap=False), first="random")) == (
        "embeddings",
        "patient",
    )
    assert limited(partial(k_center, first="random")).__name__ == "k_center"


def test_a_strategy_that_sees_the_patients_itself_still_does() -> None:
    def first_patients(patient: np.ndarray, labeled: np.ndarray, n: int, *, rng: np.random.Generator) -> np.ndarray:
        return np.flatnonzero(~labeled)[np.argsort(patient[~labeled], kind="stable")][:n]

    assert needs(limited(first_patients, per_patient=1, no_overlap=False)) == ("patient",)
    pool = _slices()
    rows = _ask(limited(first_patients, per_patient=1), pool, np.zeros(24, dtype=bool), 2).rows
    assert pool["patient"][rows].tolist() == [0, 1]


def test_arrays_that_were_bound_to_the_strategy_lose_the_same_rows() -> None:
    pool, cold = _slices(), np.zeros(24, dtype=bool)
    bound = limited(partial(most_uncertain, uncertainty=pool["uncertainty"][::-1].copy()), per_volume=1)
    assert _ask(bound, pool, cold, 4).rows.tolist() == [0, 6, 12, 18]


def test_options_and_positions_reach_the_strategy() -> None:
    pool, cold = _slices(), np.zeros(24, dtype=bool)
    within = limited(k_center, per_volume=1, no_overlap=False)
    rows = within(pool["embeddings"], cold, 3, rng=_rng(), volume=pool["volume"], first="random").rows
    assert rows.tolist() == _ask(partial(within, first="random"), pool, cold, 3).rows.tolist()
    with pytest.raises(SelectionError, match="first is 'last'"):
        _ask(partial(within, first="last"), pool, cold, 3)


def test_a_strategy_that_takes_anything_is_handed_its_own_and_no_more() -> None:
    def collecting(labeled: np.ndarray, n: int, *, rng: np.random.Generator, **options: object) -> np.ndarray:
        assert options == {"flavour": "mild"}
        return np.flatnonzero(~labeled)[:n]

    rows = _ask(
        partial(limited(collecting, per_patient=1), flavour="mild"), _slices(), np.zeros(24, dtype=bool), 2
    ).rows
    assert rows.tolist() == [0, 12]


def test_limits_on_limits_are_one_set_of_limits() -> None:
    # Walked one inside the other, the inner caps would be counted anew each time that the outer walk asks again.
    pool, cold = _slices(volumes=6), np.zeros(36, dtype=bool)
    twice = limited(partial(limited(most_uncertain, per_patient=2, no_overlap=False)), spacing=4)
    once = limited(most_uncertain, per_patient=2, spacing=4)
    assert _ask(twice, pool, cold, 6).rows.tolist() == _ask(once, pool, cold, 6).rows.tolist()
    with pytest.raises(SelectionError, match=r"7 samples were asked for, and 6 could be had within .*per_patient=2"):
        _ask(twice, pool, cold, 7)


def test_an_impossible_request_says_how_many_could_be_had() -> None:
    with pytest.raises(SelectionError) as caught:
        _ask(limited(most_uncertain, per_patient=1), _slices(), np.zeros(24, dtype=bool), 5)
    assert str(caught.value) == (
        "5 samples were asked for, and 2 could be had within the limits (per_patient=1, no_overlap). "
        "Expected n <= 2. Ask for fewer, or loosen the limits."
    )


def test_a_wrong_answer_of_the_strategy_is_named() -> None:
    def everything(labeled: np.ndarray, n: int, *, rng: np.random.Generator) -> np.ndarray:
        return np.flatnonzero(~labeled)

    with pytest.raises(SelectionError, match="'everything' answered with 24 rows"):
        _ask(limited(everything, per_volume=1), _slices(), np.zeros(24, dtype=bool), 2)


@pytest.mark.parametrize("name", ["per_patient", "per_volume", "spacing"])
def test_refuses_a_limit_of_nothing(name: str) -> None:
    with pytest.raises(SelectionError, match=rf"{name} is 0\. Expected 1 or more"):
        limited(most_uncertain, **{name: 0})


def test_pictures_have_no_slices_to_space() -> None:
    pool = {"uncertainty": np.array([0.1, 0.2]), "volume": np.arange(2), "bounds": np.array([[0, 0, 8, 8]] * 2)}
    assert _ask(limited(most_uncertain), pool, np.zeros(2, dtype=bool), 2).rows.tolist() == [1, 0]
    with pytest.raises(SelectionError, match="spacing is 2, and the samples are of pictures"):
        _ask(limited(most_uncertain, spacing=2), pool, np.zeros(2, dtype=bool), 1)
