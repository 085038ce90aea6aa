"""Areas and targets of curves whose answer is known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nextmask.errors import StudyError
from nextmask.statistics import area_under_budget_curve, common_range, spent_to_target

SPENT = [10.0, 20.0, 40.0, 80.0]


def test_the_area_of_a_flat_curve_is_its_height_on_every_axis():
    for log in (False, True):
        assert area_under_budget_curve(SPENT, [[0.7] * 4], log=log) == pytest.approx([0.7])


def test_the_area_of_a_straight_line_is_the_mean_of_its_ends():
    lines = [[x / 100 for x in SPENT], [1 - x / 100 for x in SPENT]]
    assert area_under_budget_curve(SPENT, lines) == pytest.approx([0.45, 0.55])


def test_a_line_in_the_logarithm_is_straight_there_and_bent_in_samples():
    doubling = [[0.1, 0.2, 0.3, 0.4]]
    assert area_under_budget_curve(SPENT, doubling, log=True) == pytest.approx([0.25])
    # (10 * .15 + 20 * .25 + 40 * .35) / 70
    assert area_under_budget_curve(SPENT, doubling) == pytest.approx([20.5 / 70])


def test_a_fine_exponential_has_the_area_of_its_integral():
    x = np.linspace(0, 3, 2001)
    expected = 1 - (1 - math.exp(-3)) / 3
    assert area_under_budget_curve(x, [1 - np.exp(-x)]) == pytest.approx([expected], abs=1e-6)


def test_seeds_that_spent_different_minutes_are_averaged_over_what_all_cover():
    # The same line, seen from 0 to 6 and from 2 to 10: from 2 to 6 both are it.
    spent, scores = [[0, 3, 6], [2, 10]], [[0.0, 0.3, 0.6], [0.2, 1.0]]
    assert common_range(spent) == (2, 6)
    assert area_under_budget_curve(spent, scores) == pytest.approx([0.4, 0.4])
    # The stretch of the slower seed alone would be flattered by the other's later rounds.
    assert area_under_budget_curve(spent[1:], scores[1:]) == pytest.approx([0.6])


def test_a_stretch_that_is_handed_in_is_cut_by_interpolation():
    bent = [[0.0, 0.4, 0.4, 0.4]]
    assert area_under_budget_curve(SPENT, bent, within=(15, 25)) == pytest.approx([(5 * 0.3 + 5 * 0.4) / 10])


def test_areas_by_patient_average_to_the_area_of_the_average():
    scores = np.random.default_rng(0).random((3, 4, 5))
    each = area_under_budget_curve(SPENT, scores, within=(12, 66), log=True)
    assert each.shape == (3, 5)
    np.testing.assert_allclose(each.mean(1), area_under_budget_curve(SPENT, scores.mean(2), within=(12, 66), log=True))


def test_a_query_without_foreground_has_no_width():
    standing = [0.0, 10.0, 10.0, 20.0]
    assert area_under_budget_curve(standing, [[0.0, 0.2, 0.6, 0.6]]) == pytest.approx([(1 + 6) / 20])
    # From where it stood still on, it is the later score that goes on; until there, the earlier one.
    assert area_under_budget_curve(standing, [[0.0, 0.2, 0.6, 0.6]], within=(10, 20)) == pytest.approx([0.6])
    assert area_under_budget_curve(standing, [[0.0, 0.2, 0.6, 0.6]], within=(0, 10)) == pytest.approx([0.1])


def test_a_skipped_budget_is_a_shorter_curve():
    line = [[x / 100 for x in SPENT], [0.1, 0.4, 0.8]]
    assert area_under_budget_curve([SPENT, [10, 40, 80]], line) == pytest.approx([0.45, 0.45])


def test_the_target_is_reached_between_two_budgets():
    assert spent_to_target(SPENT, [[0.1, 0.5, 0.7, 0.8]], 0.6) == pytest.approx([30])
    assert spent_to_target(SPENT, [[0.1, 0.5, 0.7, 0.8]], 0.7) == pytest.approx([40])


def test_a_seed_that_never_arrives_needs_infinitely_much_and_one_that_is_there_its_first_budget():
    never, at_once = [0.1, 0.2, 0.3, 0.59], [0.6, 0.5, 0.9, 0.9]
    assert spent_to_target(SPENT, [never, at_once], 0.6, rule="first").tolist() == [math.inf, 10.0]


def test_one_lucky_round_is_no_arrival_by_the_isotonic_rule_and_one_by_the_first_crossing():
    lucky = [[0.4, 0.8, 0.4, 0.8]]
    assert spent_to_target(SPENT, lucky, 0.6, rule="first") == pytest.approx([15])
    # The nearest curve that never falls is .4, .6, .6, .8.
    assert spent_to_target(SPENT, lucky, 0.7) == pytest.approx([60])


def test_both_rules_agree_on_a_curve_that_never_falls():
    rising = np.sort(np.random.default_rng(1).random((20, 4)), axis=1)
    for target in (0.2, 0.5, 0.8):
        np.testing.assert_allclose(
            spent_to_target(SPENT, rising, target), spent_to_target(SPENT, rising, target, rule="first")
        )


@pytest.mark.parametrize(
    ("spent", "scores", "message"),
    [
        (SPENT, [[0.1, 0.2, 0.3]], r"curve 0 has scores of shape \(3,\) .* Expected one score a budget"),
        (SPENT, [[0.1, 0.2, math.nan, 0.4]], r"1 of 4 scores of curve 0 are not finite, the first at \(2,\)"),
        ([10, math.inf], [[0.1, 0.2]], "not finite"),
        ([[10, 20], [10, 20]], [[0.1, 0.2]], "2 rows of what was spent came with 1 rows of scores"),
        ([20, 10], [[0.1, 0.2]], r"what curve 0 spent falls: \[20.0, 10.0\]\. Expected sums that grow"),
        ([10], [[0.1]], "Expected a stretch of some width"),
        ([[10, 20], [30, 40]], [[0.1, 0.2], [0.1, 0.2]], "from 30 to 20 in common"),
        (SPENT, [], "Expected one curve a seed"),
        (SPENT, [[[[0.1]]]], "curve 0 has scores of shape"),
    ],
)
def test_curves_that_are_none_are_refused_in_three_parts(spent, scores, message):
    with pytest.raises(StudyError, match=message) as caught:
        area_under_budget_curve(spent, scores)
    assert len(str(caught.value).split(". ")) >= 3


def test_nothing_is_extrapolated_and_no_logarithm_taken_of_nothing():
    with pytest.raises(StudyError, match=r"from 10 to 80 was to be averaged from 5 to 80.*Take common_range"):
        area_under_budget_curve(SPENT, [[0.1] * 4], within=(5, 80))
    with pytest.raises(StudyError, match="begin at 0 on a logarithmic axis"):
        area_under_budget_curve([0, 1], [[0.1, 0.2]], log=True)


def test_a_target_wants_one_score_a_budget_and_a_rule_that_is_one():
    with pytest.raises(StudyError, match="Average over patients first"):
        spent_to_target(SPENT, np.zeros((2, 4, 3)), 0.5)
    with pytest.raises(StudyError, match="rule is 'last'"):
        spent_to_target(SPENT, [[0.1] * 4], 0.5, rule="last")
