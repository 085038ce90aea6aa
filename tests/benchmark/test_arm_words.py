"""Sentences: no more than the statistics say, and numbers as people write them."""

from __future__ import annotations

import math

import pytest
from tests.benchmark.test_arm_numbers import arm

from nextmask.benchmark.arm_numbers import Measure, Numbers, Reaching, numbers_of
from nextmask.benchmark.arm_words import (
    amount,
    answer,
    bounds,
    cost_of_random,
    saved,
    saved_bounds,
    saving_words,
    signed,
    target_words,
    what_shown,
)
from nextmask.statistics import Comparison, Decision, Difference, Interval, Row, Saving, Target

INF = math.inf


def row(name: str, decision: Decision, estimate: float, p: float, half: float = 0.02) -> Row:
    difference = Difference(Interval(estimate, estimate - half, estimate + half, 0.95), p)
    return Row(name, 5, 5, Interval(0.7, 0.6, 0.8, 0.95), difference, p, decision, "a")


def said(*rows: Row) -> str:
    own = Row("random", 5, 5, Interval(0.7, 0.6, 0.8, 0.95), None, None, None, "a")
    table = Comparison("random", 0.01, 0.95, (*rows, own), ())
    numbers = Numbers("random", {}, (Measure("last", "Dice at 40 samples", table),), None, None, False, (), None)
    return answer(numbers, [arm("random"), arm("other")])


def test_each_decision_has_its_words():
    found = said(
        row("a", "better", 0.05, 0.001),
        row("b", "undecided", 0.02, 0.03),
        row("c", "equivalent", 0.001, 0.9),
        row("d", "undecided", 0.0, 0.8),
        row("e", "undecided", -0.02, 0.04),
        row("f", "worse", -0.05, 0.001),
    )
    assert found == (
        "Better than random, in Dice at 40 samples: a (by 0.050, 0.030 to 0.070). "
        "Worse than random, in Dice at 40 samples: f (by 0.050, 0.030 to 0.070). "
        "Equivalent to random, within 0.01 Dice: c. Ahead of random, but perhaps by less than 0.01 Dice: b. "
        "Behind random, but perhaps by less than 0.01 Dice: e. Cannot be told apart from random: d."
    )


def test_what_is_all_undecided_is_not_called_alike():
    assert said(row("a", "undecided", 0.03, 0.4)) == (
        "a cannot be told apart from random here. That does not show that they are alike."
    )
    assert said(row("a", "undecided", 0.03, 0.4), row("b", "undecided", 0.01, 0.9)).startswith(
        "None of a, b can be told apart"
    )


def test_a_long_list_is_cut_short():
    assert "a0 (by 0.050, 0.030 to 0.070), a1 (by 0.050, 0.030 to 0.070) and 7 more." in said(
        *(row(f"a{number}", "better", 0.05, 0.001) for number in range(9))
    )


def test_intervals_that_are_not_known_tell_nothing_apart():
    assert "however large, can be shown" in said(row("a", "undecided", 0.3, 1.0, half=INF))


def test_numbers_are_written_as_people_do():
    assert (signed(0.0312), signed(-0.0312)) == ("+0.031", "−0.031")
    assert (amount(41.26), amount(3), amount(12345.6), amount(INF)) == ("41.3", "3", "12,346", "not reached")
    assert bounds(Interval(0.1, -INF, INF, 0.95)) == "interval not known"
    assert bounds(Interval(0.1, -0.1, 0.3, 0.95), difference=True) == "−0.100 to +0.300"


@pytest.mark.parametrize(
    ("found", "share", "ends"),
    [
        (Saving(0.35, 0.35, 0.1, 0.5, 0.95, 8, 8), "35 % less", "95 % bounds 10 % less to 50 % less"),
        (Saving(-0.2, 0.1, -INF, 1.0, 0.95, 4, 2), "20 % more to 10 % less", "no 95 % bounds: too few seeds"),
        (Saving(-INF, 0.3, -INF, 0.6, 0.95, 6, 2), "at most 30 % less", "95 % bounds unbounded to 60 % less"),
        (Saving(-INF, -0.3, -INF, 1.0, 0.95, 4, 2), "at least 30 % more", "no 95 % bounds: too few seeds"),
        (Saving(-INF, 1.0, -INF, 1.0, 0.95, 4, 0), "not known", "no 95 % bounds: too few seeds"),
    ],
)
def test_a_saving_says_what_is_known_of_it(found, share, ends):
    assert (saved(found), saved_bounds(found)) == (share, ends)


def test_a_target_says_who_arrived():
    assert target_words(Target(40.0, 30.0, 60.0, 0.95, 6, 0, 6)) == "40 (30 to 60); 6 of 6 seeds"
    assert target_words(Target(10.0, 0.0, INF, 0.95, 1, 1, 1)) == "10 or less; 1 of 1 seed"
    assert target_words(Target(INF, 0.0, INF, 0.95, 1, 1, 4)) == "not reached; 1 of 4 seeds"
    assert target_words(None) == "cannot be said"


def test_what_random_costs_is_that_of_random_and_said_to_be_unknown_without_it():
    arms = [arm("random"), arm("good", 0.1)]
    found = numbers_of(arms, "random", margin=0.01, target=0.65)
    spent = {(each.arm, each.axis): each for each in found.reaching}
    assert isinstance(spent["random", "samples"], Reaching)
    text = cost_of_random(found, arms)
    assert f"random took {amount(spent['random', 'samples'].target.median)} samples" in text
    assert f"or {amount(spent['good', 'minutes'].target.median)} minutes in the median of 4 seeds" in text
    assert "% less; no 95 % bounds" in text
    never = cost_of_random(numbers_of(arms, "random", margin=0.01, target=0.9), arms)
    assert "random took more than it had: 0 of 4 seeds reached it" in never
    others = [arm("k_center"), arm("good", 0.1)]
    assert "nothing here says what plain random would have cost" in cost_of_random(
        numbers_of(others, "k_center", margin=0.01), others
    )


def test_what_can_be_shown_is_that_of_the_planned_seeds():
    assert "8 comparisons" in what_shown(None, 9, 4)
    assert "no difference, however large, can be shown" in what_shown(None, 2, 1)
    assert what_shown(None, 1, 4) == ""
    arms = [arm("random"), arm("good", 0.1, noise=0.05)]
    found = numbers_of(arms, "random", margin=0.01)
    assert f"One SD was {found.spread:.3f} Dice here, from so few seeds a rough guess." in what_shown(found, 2, 4)
    assert "rough" not in what_shown(found, 2, 5)


def test_a_first_budget_that_is_enough_bounds_what_is_saved_or_tells_nothing():
    arms = [arm("random"), arm("good", 0.3)]
    found = numbers_of(arms, "random", margin=0.01, target=0.6)
    good = next(each for each in found.reaching if (each.arm, each.axis) == ("good", "samples"))
    assert saving_words(good, found) == f"{saved(good.saving)} or better"
    found = numbers_of(arms, "random", margin=0.01, target=0.3)
    good = next(each for each in found.reaching if (each.arm, each.axis) == ("good", "samples"))
    assert saving_words(good, found) == "not known: random began at the target"
    assert "(not known: random began at the target; no 95 % bounds" in cost_of_random(found, arms)
