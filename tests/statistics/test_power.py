"""What seeds can show: against simulation, against SciPy's noncentral t, and in words."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nextmask.errors import StudyError
from nextmask.statistics import count_comparisons, plan, power_of_paired_test, seeds_needed, smallest_effect


@pytest.mark.parametrize("seeds", [2, 4, 10])
@pytest.mark.parametrize("comparisons", [1, 8, 180])
@pytest.mark.parametrize("effect", [0.0, 0.5, 2.0])
def test_it_is_the_noncentral_t(seeds, comparisons, effect):
    needed, shift = stats.t.isf(0.05 / comparisons / 2, seeds - 1), effect * math.sqrt(seeds)
    # SciPy's lower tail is NaN where it is next to nothing, as for 10 seeds, 180 comparisons and 2 SD.
    tails = [stats.nct.sf(needed, seeds - 1, shift), stats.nct.cdf(-needed, seeds - 1, shift)]
    assert power_of_paired_test(effect, seeds, comparisons) == pytest.approx(np.nansum(tails), rel=2e-3, abs=2e-6)


def test_it_is_what_a_simulation_finds():
    differences = 2 + np.random.default_rng(0).normal(size=(20_000, 4))
    p = stats.ttest_1samp(differences, 0, axis=1).pvalue
    assert power_of_paired_test(2.0, 4) == pytest.approx((p < 0.05).mean(), abs=0.01)
    assert power_of_paired_test(2.0, 4, 36) == pytest.approx((p < 0.05 / 36).mean(), abs=0.006)


def test_four_seeds_show_next_to_nothing_after_holm():
    # Nine strategies, five budgets: 180 comparisons; without any correction 75 %.
    assert (count_comparisons(9, budgets=5), count_comparisons(9, with_one=True)) == (180, 8)
    assert power_of_paired_test(2.0, 4) == pytest.approx(0.755, abs=0.001)
    assert power_of_paired_test(2.0, 4, 180) == pytest.approx(0.0127, abs=0.0002)
    # Below 1 % from here on: the tests of both directions counted, or ten strategies at six budgets.
    assert power_of_paired_test(2.0, 4, 360) < power_of_paired_test(2.0, 4, count_comparisons(10, budgets=6)) < 0.01


def test_without_an_effect_the_power_is_the_error():
    assert power_of_paired_test(0.0, 6, 10) == pytest.approx(0.005, rel=1e-3)


def test_one_seed_shows_nothing():
    assert power_of_paired_test(100.0, 1) == 0.0
    assert smallest_effect(1) == math.inf
    assert "no difference, however large, can be shown" in plan(1, 3).sentence


def test_the_smallest_effect_is_found_in_the_share_that_was_asked_for():
    for seeds, comparisons in ((2, 180), (4, 1), (20, 8)):
        smallest = smallest_effect(seeds, comparisons, power=0.9)
        assert power_of_paired_test(smallest, seeds, comparisons) == pytest.approx(0.9, abs=1e-6)


def test_the_seeds_that_are_needed_are_enough_and_one_fewer_is_not():
    for effect, comparisons in ((2.0, 180), (1.0, 1), (0.3, 8)):
        seeds = seeds_needed(effect, comparisons)
        assert (
            power_of_paired_test(effect, seeds, comparisons)
            >= 0.8
            > power_of_paired_test(effect, seeds - 1, comparisons)
        )
    assert seeds_needed(0.001) is None
    assert seeds_needed(1e6) == 2


def test_the_plan_says_it_in_words_and_in_dice():
    found = plan(4, 180, sd=0.03)
    assert found.smallest_dice == pytest.approx(0.03 * found.smallest)
    assert found.sentence == (
        "With 4 seeds and paired t-tests with Holm's correction for 180 comparisons, a true difference between two "
        "strategies of 2 SD (of what they differ by from seed to seed) is found in 1.3 % of studies; the smallest that is "
        "found in 80 % of studies is 12.4 SD (0.372 Dice). 12 seeds would be needed to find 2 SD."
    )


def test_enough_seeds_need_no_more():
    sentence = plan(20, 1).sentence
    assert sentence.startswith("With 20 seeds and a paired t-test, ")
    assert "is found in nearly all studies; the smallest that is found in 80 % of studies is 0.7 SD." in sentence
    assert "needed" not in sentence


@pytest.mark.parametrize(("seeds", "comparisons", "alpha"), [(0, 1, 0.05), (4, 0, 0.05), (4, 1, 5)])
def test_refuses_a_plan_that_is_none(seeds, comparisons, alpha):
    with pytest.raises(StudyError, match=r"were planned\. Expected at least one seed.*Count the comparisons"):
        plan(seeds, comparisons, alpha=alpha)


def test_refuses_a_power_that_a_coin_has():
    with pytest.raises(StudyError, match=r"power is 0.05\. Expected a share above alpha"):
        smallest_effect(4, power=0.05)
