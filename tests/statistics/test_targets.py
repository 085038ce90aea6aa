"""Summaries of what it takes to reach a target, where some seeds never did."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nextmask.errors import StudyError
from nextmask.statistics import saving, summarise_target


def test_the_median_counts_seeds_that_never_arrived_as_beyond_the_others():
    found = summarise_target([20, math.inf, 30, 10, math.inf], first=10)
    assert (found.median, found.reached, found.at_once, found.seeds) == (30, 3, 1, 5)


def test_a_strategy_that_fails_half_of_the_time_has_no_finite_median():
    assert summarise_target([20, math.inf, 30, math.inf]).median == math.inf


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_up_to_five_seeds_bound_nothing_at_95_percent(seeds):
    found = summarise_target(np.arange(1.0, seeds + 1))
    assert (found.lower, found.upper) == (0.0, math.inf)


def test_six_seeds_are_bounded_by_their_extremes():
    # Both extremes on one side of the median: 2 / 2^6 = 3.1 %.
    found = summarise_target([6, 1, 5, 2, 4, 3])
    assert (found.lower, found.upper) == (1, 6)


def test_an_upper_bound_is_infinite_where_its_rank_never_arrived():
    found = summarise_target([1, 2, 3, 4, 5, math.inf])
    assert (found.median, found.lower, found.upper) == (3.5, 1, math.inf)


def test_the_bounds_hold_the_median_as_often_as_they_say():
    rng = np.random.default_rng(0)
    runs = [summarise_target(rng.exponential(size=11)) for _ in range(400)]
    held = sum(run.lower <= math.log(2) <= run.upper for run in runs)
    # Ranks 2 and 10 of 11 hold it in 98.8 %.
    assert held >= 388


def test_a_saving_is_one_minus_the_ratio_seed_by_seed():
    found = saving([10, 20, 30, 40, 50, 60], [20, 40, 60, 80, 100, 120], last=100, baseline_last=200)
    assert (found.low, found.high, found.lower, found.upper) == (0.5, 0.5, 0.5, 0.5)
    assert (found.known, found.seeds) == (6, 6)


def test_a_reference_that_never_arrived_leaves_only_the_least_that_was_saved():
    found = saving([20], [math.inf], last=100, baseline_last=80)
    assert (found.low, found.high, found.known) == (0.75, 1.0, 0)


def test_a_strategy_that_never_arrived_leaves_only_the_most_that_it_may_have_saved():
    found = saving([math.inf], [200], last=100, baseline_last=200)
    assert (found.low, found.high) == (-math.inf, 0.5)


def test_where_neither_arrived_nothing_is_known():
    found = saving([math.inf], [math.inf], last=100, baseline_last=100)
    assert (found.low, found.high) == (-math.inf, 1.0)


def test_bounds_hold_whatever_the_runs_that_were_cut_would_have_needed():
    rng = np.random.default_rng(2)
    needs, baseline = rng.uniform(5, 60, 9), rng.uniform(5, 60, 9)
    whole = saving(needs, baseline, last=60, baseline_last=60)
    cut = saving(
        np.where(needs > 30, math.inf, needs), np.where(baseline > 40, math.inf, baseline), last=30, baseline_last=40
    )
    assert cut.known < 9
    assert cut.low <= whole.low == whole.high <= cut.high
    assert cut.lower <= whole.lower <= whole.upper <= cut.upper


def test_few_seeds_bound_no_saving():
    found = saving([10, 10], [20, 20], last=30, baseline_last=30)
    assert (found.lower, found.upper) == (-math.inf, 1.0)


@pytest.mark.parametrize("values", [[math.nan], [], [[1.0]], [0.0]])
def test_refuses_what_is_no_amount(values):
    with pytest.raises(StudyError, match=r"Expected one number above 0 a seed.*Take what spent_to_target returns"):
        summarise_target(values)


def test_refuses_seeds_that_do_not_match_and_a_confidence_that_is_none():
    with pytest.raises(StudyError, match="Expected the same seeds"):
        saving([1.0], [1.0, 2.0], last=3, baseline_last=3)
    with pytest.raises(StudyError, match="2 budgets came with 3 seeds"):
        saving([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], last=[3, 3], baseline_last=3)
    with pytest.raises(StudyError, match="2 budgets came with 1 seeds"):
        summarise_target([1.0], first=[1, 2])
    with pytest.raises(StudyError, match="confidence is 95"):
        summarise_target([1.0], confidence=95)
