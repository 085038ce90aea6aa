"""The claims of the two randoms that aim at foreground; what they know it from is all that differs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from nextmask.selection import STRATEGIES, needs, oracle_foreground_random, predicted_foreground_random


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _slices(cases: int = 5, depth: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Cases whose slices 8 to 11 show class 1, and slice 10 a little of class 2; the last case shows nothing."""
    share = np.zeros((cases, depth, 2))
    share[:-1, 8:12, 0] = 0.2
    share[:-1, 10, 1] = 0.01
    return share.reshape(-1, 2), np.repeat(np.arange(cases), depth)


def _free(samples: int) -> np.ndarray:
    return np.zeros(samples, dtype=bool)


def _first(shown: np.ndarray, volume: np.ndarray, draws: int = 800, **options: float) -> np.ndarray:
    free = _free(len(shown))
    return np.concatenate(
        [predicted_foreground_random(shown, volume, free, 1, rng=_rng(seed), **options).rows for seed in range(draws)]
    )


def test_two_thirds_are_aimed_and_the_rest_is_uniform() -> None:
    share, volume = _slices()
    found = share.any(axis=1)[_first(share, volume)].mean()
    assert abs(found - (2 / 3 + 1 / 3 * 16 / 100)) < 0.06
    third = share.any(axis=1)[_first(share, volume, share=1 / 3)].mean()
    assert abs(third - (1 / 3 + 2 / 3 * 16 / 100)) < 0.06


def test_classes_count_alike_however_small() -> None:
    """Class 2 is in one slice of a case: half of all aimed picks are that slice, and an eighth more by class 1."""
    share, volume = _slices()
    rows = _first(share, volume, share=1.0)
    assert abs(np.mean(rows % 20 == 10) - (1 / 2 + 1 / 8)) < 0.06


def test_a_sample_is_the_likelier_the_more_voxels_of_the_class_it_holds() -> None:
    share = np.array([[0.1], [0.3], [0.6], [0.0]])
    rows = _first(share, np.zeros(4, dtype=int), share=1.0)
    counts = np.bincount(rows, minlength=4)
    assert counts[3] == 0
    assert chisquare(counts[:3], len(rows) * np.array([0.1, 0.3, 0.6])).pvalue > 0.001


def test_aimed_picks_take_the_cases_in_turn() -> None:
    share, volume = _slices()
    for seed in range(10):
        rows = predicted_foreground_random(share, volume, _free(100), 8, rng=_rng(seed), share=1.0).rows
        assert sorted(volume[rows].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_of_whole_cases_those_with_any_foreground_are_aimed_at_alike() -> None:
    share = np.array([[0.5], [0.001], [0.0], [0.0]])
    counts = np.bincount(_first(share, np.arange(4), share=1.0), minlength=4)
    assert counts[2:].sum() == 0
    assert chisquare(counts[:2]).pvalue > 0.001


def test_when_all_foreground_is_taken_the_rest_is_uniform() -> None:
    share, volume = _slices(cases=2)
    query = predicted_foreground_random(share, volume, _free(40), 40, rng=_rng(), share=1.0)
    assert sorted(query.rows[:4].tolist()) == [8, 9, 10, 11]
    assert query.numbers["class"][4:].tolist() == [0] * 36
    assert "at random" in query.reasons[-1]


def test_without_any_foreground_it_is_plain_random() -> None:
    counts = np.bincount(_first(np.zeros((6, 2)), np.array([0, 0, 0, 1, 1, 2])), minlength=6)
    assert chisquare(counts).pvalue > 0.001


def test_reasons_say_which_class_it_was_drawn_by_and_how_that_is_known() -> None:
    share, volume = _slices()
    predicted = predicted_foreground_random(share, volume, _free(100), 3, rng=_rng(), share=1.0)
    assert all("predicted to be of class" in reason for reason in predicted.reasons)
    known = oracle_foreground_random(share, volume, _free(100), 3, rng=_rng(), share=1.0)
    assert all("known to be of class" in reason for reason in known.reasons)
    np.testing.assert_array_equal(known.rows, predicted.rows)


@pytest.mark.parametrize("name", STRATEGIES)
def test_only_the_oracle_among_strategies_asks_for_the_truth(name: str) -> None:
    assert ("true_class_share" in needs(STRATEGIES[name])) == (name == "oracle_foreground_random")
