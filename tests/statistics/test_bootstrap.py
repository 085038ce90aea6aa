"""Intervals over seeds and patients hold the truth as often as they say, and say so where they cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from nextmask.errors import StudyError
from nextmask.statistics import bootstrap, interval_of_difference, interval_of_mean


def rng(seed=0):
    return np.random.default_rng(seed)


def two_levels(generator, seeds, patients, of_seed, of_patient, noise):
    """Draw scores around 0 of a normal model: a part of the seed, a part of the patient, a part of both."""
    return (
        of_seed * generator.normal(size=(seeds, 1))
        + of_patient * generator.normal(size=(1, patients))
        + noise * generator.normal(size=(seeds, patients))
    )


def coverage(trials, draw):
    generator = rng(11)
    held = 0
    for _ in range(trials):
        found = interval_of_mean(draw(generator), rng=generator, draws=600)
        held += found.lower <= 0 <= found.upper
    return held / trials


@pytest.mark.parametrize(
    ("seeds", "patients", "of_seed", "of_patient", "noise"),
    [(3, 20, 1, 0, 1), (5, 20, 1, 3, 1), (5, 20, 0, 0, 1), (10, 12, 0.3, 1, 3)],
)
def test_it_covers_the_truth_of_a_two_level_normal_model(seeds, patients, of_seed, of_patient, noise):
    share = coverage(400, lambda g: two_levels(g, seeds, patients, of_seed, of_patient, noise))
    # Below: 99.9 % of Binomial(400, 0.95). Above it may be too wide with few seeds, not by much more.
    assert 0.912 <= share <= 0.995


def test_it_covers_the_truth_with_seeds_alone_and_with_patients_of_their_own():
    assert 0.912 <= coverage(400, lambda g: g.normal(size=4)) <= 0.985
    ragged = [6, 9, 12, 7]
    assert 0.912 <= coverage(400, lambda g: [g.normal() + g.normal(size=n) for n in ragged]) <= 0.99


def test_what_patients_share_over_seeds_does_not_average_out():
    # Four seeds on the same twelve patients: the patients alone leave an error of 1 / sqrt(12).
    errors = []
    for seed in range(40):
        found = interval_of_mean(two_levels(rng(seed), 4, 12, 0, 1, 0.1), rng=rng(seed), draws=400)
        errors.append(found.upper - found.lower)
    expected = 2 * stats.t.ppf(0.975, 11) / math.sqrt(12)
    assert np.mean(errors) == pytest.approx(expected, rel=0.12)


def test_noise_of_single_scores_is_not_counted_for_seeds_and_for_patients():
    errors = []
    for seed in range(60):
        found = interval_of_mean(rng(seed).normal(size=(12, 12)), rng=rng(seed), draws=400)
        errors.append(found.upper - found.lower)
    once = 2 * stats.t.ppf(0.975, 11) / 12
    assert np.mean(errors) < 1.2 * once


def test_with_seeds_alone_it_is_close_to_the_interval_of_student():
    values = rng(3).normal(0.7, 0.05, 12)
    found = interval_of_mean(values, rng=rng(), draws=40_000)
    half = stats.t.ppf(0.975, 11) * values.std(ddof=1) / math.sqrt(12)
    assert found.estimate == pytest.approx(values.mean())
    assert (found.lower, found.upper) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.08 * half)


def test_one_seed_or_one_patient_bounds_nothing():
    for values in (np.full((1, 50), 0.8), np.full((4, 1), 0.8), np.array([0.8]), [np.full(9, 0.8)]):
        found = interval_of_mean(values, rng=rng())
        assert found.estimate == pytest.approx(0.8)
        assert (found.lower, found.upper) == (-math.inf, math.inf)
    assert interval_of_difference(np.full((1, 9), 0.9), np.full((1, 9), 0.1), rng=rng()).p == 1.0


def test_a_shift_that_seeds_and_patients_share_is_found_however_much_both_vary():
    shared = two_levels(rng(1), 5, 20, 0.1, 0.2, 0.0)
    noise = rng(2).normal(0, 0.01, (2, 5, 20))
    found = interval_of_difference(shared + 0.03 + noise[0], shared + noise[1], rng=rng())
    assert found.interval.lower < 0.03 < found.interval.upper
    assert found.interval.lower > 0.02
    # No draw was on the other side of 0; that is not a chance of 0.
    assert found.p == pytest.approx(2 / 10_001)


def test_a_null_is_rejected_in_the_nominal_share():
    generator = rng(5)
    rejected = 0
    for _ in range(400):
        shared = two_levels(generator, 5, 10, 1, 1, 0)
        one, other = (shared + two_levels(generator, 5, 10, 0.3, 0.0, 1) for _ in range(2))
        rejected += interval_of_difference(one, other, rng=generator, draws=400).p < 0.05
    # 99.8 % of Binomial(400, 0.05).
    assert 8 <= rejected <= 35


def test_p_is_below_5_percent_exactly_where_the_interval_leaves_out_0():
    agreed = []
    for seed in range(60):
        one, other = rng(seed).normal(0.4, 1, (2, 6, 8)) - np.array([[[0.0]], [[0.4]]])
        found = interval_of_difference(one, other, rng=rng(seed), draws=999)
        outside = found.interval.lower > 0 or found.interval.upper < 0
        agreed.append(outside == (found.p < 0.05) or abs(found.p - 0.05) < 0.004)
    assert all(agreed)


def test_turning_the_difference_round_turns_the_interval_round():
    one, other = rng(1).random((2, 5, 7))
    there, back = (interval_of_difference(a, b, rng=rng()) for a, b in ((one, other), (other, one)))
    assert there.interval.estimate == -back.interval.estimate
    assert there.interval.lower == pytest.approx(-back.interval.upper)
    assert there.p == back.p


def test_equal_scores_are_no_difference():
    found = interval_of_difference(np.ones((3, 4)), np.ones((3, 4)), rng=rng())
    assert (found.interval.lower, found.interval.upper, found.p) == (0.0, 0.0, 1.0)


def test_every_seed_weighs_the_same_however_many_patients_it_has():
    found = interval_of_mean([np.array([1.0]), np.zeros(99)], rng=rng())
    assert found.estimate == 0.5


def test_ragged_differences_are_paired_within_their_seed():
    one, other = [np.array([0.9, 0.8]), np.array([0.7])], [np.array([0.8, 0.7]), np.array([0.6])]
    assert interval_of_difference(one, other, rng=rng()).interval.estimate == pytest.approx(0.1)
    with pytest.raises(StudyError, match="2 seeds of one strategy were paired with 1"):
        interval_of_difference(one, other[:1], rng=rng())
    with pytest.raises(StudyError, match="Expected the same seeds and the same patients"):
        interval_of_difference(one, other[::-1], rng=rng())


def test_the_same_generator_gives_the_same_interval_and_a_pool_of_patients_does_not_fill_memory(monkeypatch):
    values = rng(4).random((4, 30))
    whole = interval_of_mean(values, rng=rng(), draws=500)
    assert interval_of_mean(values, rng=rng(), draws=500) == whole
    monkeypatch.setattr(bootstrap, "AT_ONCE", 64)
    assert interval_of_mean(values, rng=rng(), draws=500) == whole


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.1, np.nan]]), "1 of 2 scores are not finite"),
        (np.ones((2, 3, 4)), r"scores of shape \(2, 3, 4\) were given"),
        (np.ones((0, 4)), "Expected .* with at least one of each"),
        ([np.ones((2, 2))], r"a seed has scores of shape \(2, 2\)"),
        ([np.ones(3), np.array([])], r"a seed has scores of shape \(0,\)"),
        ([np.array([np.nan]), np.ones(2)], "scores are not finite"),
    ],
)
def test_refuses_scores_that_are_none(values, message):
    with pytest.raises(StudyError, match=message):
        interval_of_mean(values, rng=rng())


def test_refuses_a_confidence_in_percent():
    with pytest.raises(StudyError, match="confidence is 95"):
        interval_of_mean(np.ones(3), rng=rng(), confidence=95)
