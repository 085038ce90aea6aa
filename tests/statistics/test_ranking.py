"""Whether uncertainty ranks errors: on orders that were made, so that the answer is known."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from nextmask.errors import StudyError
from nextmask.statistics import area_under_risk_coverage, auroc, rank_correlation


def test_the_correlation_is_that_of_scipy():
    one, other = np.random.default_rng(0).normal(size=(2, 12)).round(1)
    assert rank_correlation(one, other).estimate == pytest.approx(stats.spearmanr(one, other).statistic)


@pytest.mark.parametrize(("patients", "told"), [(3, False), (4, False), (5, True), (9, True)])
def test_a_perfect_order_shows_something_only_where_chance_seldom_comes_to_it(patients, told):
    order = np.arange(patients)
    found = rank_correlation(order, order)
    assert (found.estimate, found.upper) == (pytest.approx(1.0), pytest.approx(1.0))
    assert (found.lower > 0) == told
    assert (rank_correlation(order, -order).upper < 0) == told


@pytest.mark.parametrize("patients", [5, 6])
def test_chance_is_seldom_taken_for_order(patients):
    """Every order of so many patients, all equally likely where uncertainty says nothing; nominal 2.5 %."""
    risk = np.arange(patients)
    above = np.mean([rank_correlation(order, risk).lower > 0 for order in permutations(range(patients))])
    assert 0 < above <= 0.035


@pytest.mark.parametrize("patients", [9, 25])
@pytest.mark.parametrize("rho", [0.0, 0.5, 0.8])
def test_the_interval_holds_the_truth(patients, rho):
    rng, true = np.random.default_rng(0), 6 / np.pi * np.arcsin(rho / 2)
    drawn = rng.multivariate_normal([0, 0], [[1, rho], [rho, 1]], (1000, patients))
    found = [rank_correlation(each[:, 0], each[:, 1]) for each in drawn]
    assert 0.925 <= np.mean([each.lower <= true <= each.upper for each in found]) <= 0.985


def test_what_is_the_same_for_all_has_no_rank():
    found = rank_correlation([0.3, 0.3, 0.3, 0.3], [0.1, 0.2, 0.3, 0.4])
    assert np.isnan(found.estimate)
    assert (found.lower, found.upper) == (-1.0, 1.0)


def test_unpaired_and_missing_numbers_are_refused():
    for one, other in (([1.0, 2.0], [1.0]), ([1.0, np.nan], [1.0, 2.0])):
        with pytest.raises(StudyError, match="one finite number each for every patient"):
            rank_correlation(one, other)


def test_the_area_is_that_of_the_curve_drawn_point_by_point():
    unsure, risk = [0.4, 0.1, 0.3, 0.2], [0.5, 0.1, 0.2, 0.4]
    surest_first = [0.1, 0.4, 0.2, 0.5]
    by_hand = np.mean([np.mean(surest_first[:k]) for k in range(1, 5)])
    ideal = np.mean([np.mean(sorted(risk)[:k]) for k in range(1, 5)])
    assert area_under_risk_coverage(unsure, risk) == pytest.approx((by_hand, by_hand - ideal))


def test_an_order_that_says_nothing_has_the_mean_risk_and_the_ideal_no_excess():
    risk = np.random.default_rng(0).random(30)
    assert area_under_risk_coverage(np.zeros(30), risk)[0] == pytest.approx(risk.mean())
    assert area_under_risk_coverage(risk, risk)[1] == pytest.approx(0.0)
    assert area_under_risk_coverage(-risk, risk)[0] > risk.mean()
    assert all(np.isnan(area_under_risk_coverage([], [])))


def test_voxels_are_compared_pair_by_pair_with_ties_half():
    rng = np.random.default_rng(0)
    unsure, wrong = rng.integers(0, 5, (6, 7)).astype(np.float32), rng.random((6, 7)) < 0.3
    pairs = [(a > b) + (a == b) / 2 for a in unsure[wrong] for b in unsure[~wrong]]
    assert auroc(unsure, wrong) == pytest.approx(np.mean(pairs))


def test_without_an_error_or_without_a_right_voxel_there_is_nothing_to_compare():
    unsure = np.linspace(0, 1, 6)
    assert np.isnan(auroc(unsure, np.zeros(6, bool)))
    assert np.isnan(auroc(unsure, np.ones(6, bool)))
