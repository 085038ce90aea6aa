"""Pairs are made by name; the t-test agrees with SciPy's and Holm's correction with a table computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nextmask.errors import StudyError
from nextmask.statistics import Scores, holm, pair, paired_t_test


def test_the_t_test_is_that_of_scipy():
    rng = np.random.default_rng(0)
    for seeds in (2, 3, 4, 10, 50):
        one, other = rng.normal(0.7, 0.05, seeds), rng.normal(0.72, 0.05, seeds)
        assert paired_t_test(one, other) == pytest.approx(stats.ttest_rel(one, other).pvalue, rel=1e-9)


def test_a_single_seed_and_equal_scores_show_nothing():
    assert paired_t_test([0.9], [0.1]) == 1.0
    assert paired_t_test([0.5, 0.6], [0.5, 0.6]) == 1.0


def test_the_same_difference_at_every_seed_leaves_no_doubt():
    assert paired_t_test([0.75, 0.5, 0.25], [0.5, 0.25, 0.0]) == 0.0


def test_the_t_test_errs_in_its_nominal_share_of_nulls():
    rng = np.random.default_rng(1)
    rejected = sum(paired_t_test(*rng.normal(size=(2, 5))) < 0.05 for _ in range(400))
    # 99.8 % of Binomial(400, 0.05).
    assert 8 <= rejected <= 35


def test_holm_is_the_table_computed_by_hand():
    # Sorted .001 x 5, .008 x 4, .039 x 3 = .117, .041 x 2 = .082 (not below .117), .27 x 1.
    np.testing.assert_allclose(holm([0.039, 0.001, 0.27, 0.008, 0.041]), [0.117, 0.005, 0.27, 0.032, 0.117])


def test_holm_of_one_is_itself_of_none_is_none_and_never_exceeds_1():
    assert holm([0.04]).tolist() == [0.04]
    assert holm([]).tolist() == []
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]


def test_holm_errs_anywhere_in_its_nominal_share_of_studies():
    rng = np.random.default_rng(2)
    p = stats.ttest_1samp(rng.normal(size=(400, 6, 5)), 0, axis=2).pvalue
    wrong = sum(bool((holm(each) < 0.05).any()) for each in p)
    uncorrected = int((p < 0.05).any(1).sum())
    assert 8 <= wrong <= 35
    assert uncorrected > 70


@pytest.mark.parametrize("p", [[1.2], [-0.1], [[0.1]], [np.nan]])
def test_holm_refuses_what_is_no_probability(p):
    with pytest.raises(StudyError, match=r"p-values"):
        holm(p)


def test_pairs_are_made_by_name_whatever_the_order():
    one = Scores(np.array([[1.0, 2.0], [3.0, 4.0]]), seeds=(7, 8), patients=("a", "b"))
    other = Scores(np.array([[40.0, 30.0, 50.0], [20.0, 10.0, 60.0]]), seeds=(8, 7), patients=("b", "a", "c"))
    first, second = pair(one, other)
    assert first.tolist() == [[1, 2], [3, 4]]
    assert second.tolist() == [[10, 20], [30, 40]]


def test_only_what_both_have_is_paired():
    one = Scores(np.array([[1.0, 2.0], [3.0, 4.0]]), seeds=(1, 2), budgets=(10, 20))
    other = Scores(np.array([[5.0], [6.0]]), seeds=(2, 3), budgets=(20,))
    first, second = pair(one, other)
    assert (first.tolist(), second.tolist()) == ([[4.0]], [[5.0]])
    assert pair(one, Scores(np.zeros((1, 1)), (9,), (10,)))[0].size == 0


def test_seeds_budgets_and_patients_are_paired_at_once():
    values = np.arange(8.0).reshape(2, 2, 2)
    one, other = (
        Scores(values, (1, 2), (10, 20), ("a", "b")),
        Scores(values[::-1, ::-1, ::-1], (2, 1), (20, 10), ("b", "a")),
    )
    first, second = pair(one, other)
    np.testing.assert_array_equal(first, second)


def test_scores_by_seed_alone_are_paired_by_seed():
    first, second = pair(Scores(np.array([1.0, 2.0]), (1, 2)), Scores(np.array([20.0, 10.0]), (2, 1)))
    assert (first.tolist(), second.tolist()) == ([1, 2], [10, 20])
    with pytest.raises(StudyError, match="patients in both or in none"):
        pair(Scores(np.ones((1, 1)), (1,), patients=(10,)), Scores(np.ones((1, 1)), (1,), budgets=(10,)))
    with pytest.raises(StudyError, match="Expected budgets in both or in none"):
        pair(Scores(np.ones(1), (1,)), Scores(np.ones((1, 1)), (1,), patients=("a",)))


@pytest.mark.parametrize(
    ("values", "seeds", "budgets", "message"),
    [
        (
            np.ones((2, 3)),
            (1, 2),
            (10, 20),
            r"shape \(2, 3\) came with 2 seeds, 2 budgets and 0 patients\. Expected the shape \(2, 2\)",
        ),
        (np.ones((2, 2)), (1, 2), (), r"Expected the shape \(2,\)"),
        (
            np.array([[0.5, np.nan]]),
            (1,),
            (10, 20),
            r"1 of 2 scores are not finite, the first at \(0, 1\)\. .*do not put 0",
        ),
        (np.ones((2, 1)), (1, 1), (10,), "the names 1 come more than once among 2"),
        (np.ones((1, 2)), (1,), (10, 10), "the names 10 come more than once"),
    ],
)
def test_refuses_scores_without_a_name_a_number_or_a_place_of_their_own(values, seeds, budgets, message):
    with pytest.raises(StudyError, match=message):
        Scores(values, seeds, budgets)


def test_refuses_lengths_that_differ():
    with pytest.raises(StudyError, match=r"shape \(2,\) were paired with scores of shape \(3,\)"):
        paired_t_test([0.1, 0.2], [0.1, 0.2, 0.3])
