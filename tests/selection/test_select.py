"""select(): computes what is named, and says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from nextmask.errors import SelectionError
from nextmask.selection import k_center, most_uncertain, needs, select, stratified_random, typiclust

LABELED = np.array([True, False, False, False, True, False])


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _never() -> np.ndarray:
    raise AssertionError("evidence that the strategy does not name was computed")


def _answering(rows: object) -> Callable[..., object]:
    def mine(labeled: np.ndarray, n: int, *, rng: np.random.Generator) -> object:
        return rows

    return mine


def test_needs_reads_the_signature_through_partial() -> None:
    assert needs(k_center) == ("embeddings",)
    assert needs(stratified_random) == ("patient", "position")
    assert needs(partial(partial(typiclust, neighbors=3), smallest=2)) == ("embeddings",)
    assert needs(partial(k_center, embeddings=np.zeros((6, 1)))) == ()


def test_only_named_evidence_is_computed_and_only_once() -> None:
    calls = []

    def uncertainty() -> np.ndarray:
        calls.append(1)
        return np.arange(6.0)

    rows = select(most_uncertain, {"uncertainty": uncertainty, "embeddings": _never}, LABELED, 2, rng=_rng()).rows
    assert rows.tolist() == [5, 3]
    assert rows.dtype == np.int64
    assert calls == [1]


def test_options_reach_the_strategy_through_partial() -> None:
    evidence = {"embeddings": lambda: np.array([[0.0], [1.0], [2.0]])}
    cold = np.zeros(3, dtype=bool)
    firsts = {
        int(select(partial(k_center, first="random"), evidence, cold, 1, rng=np.random.default_rng(seed)).rows[0])
        for seed in range(30)
    }
    assert firsts == {0, 1, 2}
    assert select(k_center, evidence, cold, 1, rng=_rng()).rows.tolist() == [1]


def test_strategies_see_read_only_arrays() -> None:
    def greedy(embeddings: np.ndarray, labeled: np.ndarray, n: int, *, rng: np.random.Generator) -> np.ndarray:
        with pytest.raises(ValueError, match="read-only"):
            embeddings[0] = 0
        with pytest.raises(ValueError, match="read-only"):
            labeled[1] = True
        return np.flatnonzero(~labeled)[:n]

    mine = np.ones((6, 2))
    select(greedy, {"embeddings": lambda: mine}, LABELED, 1, rng=_rng())
    mine[0] = 2  # the caller's own array stays writable


@pytest.mark.parametrize("n", [0, -1, 5])
def test_refuses_an_impossible_number(n: int) -> None:
    with pytest.raises(SelectionError, match=f"{n} samples were asked for, and 4 of 6 are unlabeled"):
        select(_answering([1]), {}, LABELED, n, rng=_rng())


def test_refuses_labeled_that_is_not_bool() -> None:
    with pytest.raises(SelectionError, match="labeled is int64"):
        select(_answering([1]), {}, LABELED.astype(np.int64), 1, rng=_rng())


def test_evidence_that_does_not_exist_gets_a_suggestion() -> None:
    def mine(embedings: np.ndarray, labeled: np.ndarray, n: int, *, rng: np.random.Generator) -> np.ndarray:
        return np.flatnonzero(~labeled)[:n]

    with pytest.raises(SelectionError, match=r"'mine' asks for 'embedings'.*uncertainty.*Did you mean 'embeddings'\?"):
        needs(mine)


def test_a_strategy_that_does_not_know_what_is_labeled_is_refused() -> None:
    def mine(n: int, *, rng: np.random.Generator) -> np.ndarray:
        return np.arange(n)

    with pytest.raises(SelectionError, match="'mine' does not take labeled"):
        needs(mine)


def test_evidence_that_is_not_there_yet_is_named() -> None:
    with pytest.raises(SelectionError, match=r"'most_uncertain' needs uncertainty .*no more than: embeddings"):
        select(most_uncertain, {"embeddings": _never}, LABELED, 1, rng=_rng())


@pytest.mark.parametrize(
    "uncertainty",
    [np.zeros(5), np.zeros((6, 1)), np.zeros(6, dtype=int), np.float64(0)],
    ids=["short", "2-d", "int", "0-d"],
)
def test_refuses_evidence_of_another_shape(uncertainty: np.ndarray) -> None:
    with pytest.raises(SelectionError, match="Expected floating of shape \\(samples\\) with 6 samples"):
        select(most_uncertain, {"uncertainty": lambda: uncertainty}, LABELED, 1, rng=_rng())


def test_refuses_embeddings_without_columns() -> None:
    with pytest.raises(SelectionError, match=r"shape \(6, 0\)"):
        select(k_center, {"embeddings": lambda: np.zeros((6, 0))}, LABELED, 1, rng=_rng())


def test_names_the_rows_that_are_not_finite() -> None:
    embeddings = np.zeros((5000, 3), dtype=np.float32)
    embeddings[7, 1] = np.nan
    embeddings[4999, 2] = -np.inf
    with pytest.raises(SelectionError, match="embeddings is NaN or infinite in 2 of 5000 rows: 7, 4999"):
        select(k_center, {"embeddings": lambda: embeddings}, np.zeros(5000, dtype=bool), 1, rng=_rng())


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([1], "1 rows"),
        ([1, 1], "1 repeated rows"),
        ([1, 4], "labeled rows: 4"),
        ([1, 6], "rows outside the pool of 6: 6"),
        ([-1, 2], "rows outside the pool of 6: -1"),
        ([1.0, 2.0], "float64"),
        ([[1, 2]], "int64 of shape"),
        ([False, True], "bool of shape"),
    ],
)
def test_refuses_a_wrong_answer(rows: object, fault: str) -> None:
    with pytest.raises(SelectionError, match=f"Strategy 'mine' answered with {fault}"):
        select(_answering(rows), {}, LABELED, 2, rng=_rng())


def test_every_message_has_three_parts() -> None:
    with pytest.raises(SelectionError) as caught:
        select(_answering([1]), {}, LABELED, 2, rng=_rng())
    assert "Expected" in str(caught.value)
    assert str(caught.value).count(". ") == 2
