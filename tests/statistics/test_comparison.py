"""The table: planted effects are found, nulls are not, and what cannot be told apart shares a letter."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from nextmask.errors import StudyError
from nextmask.statistics import Interval, Scores, compare, decide, letters_of

PATIENTS = tuple(f"p{i}" for i in range(10))


def rng(seed=0):
    return np.random.default_rng(seed)


def study(levels, generator, seeds=6, noise=0.02):
    """Scores of strategies that share the luck of seeds and the difficulty of patients, and differ by their levels."""
    shared = 0.7 + generator.normal(0, 0.05, (seeds, 1)) + generator.normal(0, 0.1, (1, len(PATIENTS)))
    return {
        name: Scores(shared + level + generator.normal(0, noise, shared.shape), tuple(range(seeds)), patients=PATIENTS)
        for name, level in levels.items()
    }


def test_planted_effects_are_recovered():
    found = compare(study({"random": 0.0, "up": 0.08, "down": -0.08, "same": 0.0}, rng(1)), "random", rng=rng())
    rows = {row.strategy: row for row in found.rows}
    assert (found.rows[0].strategy, found.rows[-1].strategy) == ("up", "down")
    decisions = {name: row.decision for name, row in rows.items() if name != "same"}
    assert decisions == {"random": None, "up": "better", "down": "worse"}
    assert rows["same"].decision in ("equivalent", "undecided")
    for name, level in (("up", 0.08), ("down", -0.08), ("same", 0.0)):
        assert rows[name].difference.interval.lower < level < rows[name].difference.interval.upper
    assert rows["up"].difference.interval.estimate == pytest.approx(0.08, abs=0.02)
    assert rows["up"].p < 0.05
    assert set(found.told_apart) >= {("up", "random"), ("up", "same"), ("up", "down"), ("random", "down")}
    assert not set(rows["up"].letters) & set(rows["down"].letters)
    assert set(rows["same"].letters) & set(rows["random"].letters)


def test_strategies_that_differ_by_less_than_matters_are_equivalent():
    found = compare(study({"random": 0.0, "same": 0.001}, rng(2), noise=0.002), "random", rng=rng(), margin=0.01)
    assert {row.strategy: row.decision for row in found.rows} == {"random": None, "same": "equivalent"}


def test_any_difference_at_all_is_claimed_in_the_nominal_share_of_null_studies():
    generator = rng(3)
    claims = apart = 0
    for _ in range(400):
        null = study(dict.fromkeys("abcd", 0.0), generator, seeds=5)
        found = compare(null, "a", rng=generator, margin=0.0, draws=600)
        claims += any(row.decision in ("better", "worse") for row in found.rows)
        apart += bool(found.told_apart)
    # 99.8 % of Binomial(400, 0.05).
    assert claims <= 35
    assert 8 <= apart <= 35


def test_the_margin_that_a_study_cannot_see_leaves_it_undecided():
    found = compare(study({"random": 0.0, "up": 0.02}, rng(4), noise=0.01), "random", rng=rng(), margin=0.02)
    assert found.rows[0].p < 0.05
    assert found.rows[0].decision == "undecided"


def test_the_mean_is_bounded_more_loosely_than_the_paired_difference():
    row = compare(study({"random": 0.0, "up": 0.05}, rng(5)), "random", rng=rng()).rows[0]
    assert row.mean.upper - row.mean.lower > 2 * (row.difference.interval.upper - row.difference.interval.lower)


def test_no_interval_of_a_mean_leaves_what_scores_can_be():
    drawn = {"a": [[0.0, 0.9], [0.0, 1.0]], "b": [[0.1, 0.9], [0.0, 0.8]]}
    scores = {name: Scores(np.array(values), (0, 1), patients=("p", "q")) for name, values in drawn.items()}
    free = compare(scores, "a", rng=rng()).rows[0].mean
    ended = compare(scores, "a", rng=rng(), ends=(0.0, 1.0)).rows[0].mean
    assert free.lower < 0 < 1 < free.upper
    assert (ended.lower, ended.upper, ended.estimate) == (0.0, 1.0, free.estimate)
    one = {name: Scores(np.array(values[:1]), (0,), patients=("p", "q")) for name, values in drawn.items()}
    assert compare(one, "a", rng=rng(), ends=(0.0, 1.0)).rows[0].mean.upper == math.inf  # not known is not 1


def test_one_seed_decides_nothing():
    found = compare(study({"random": 0.0, "up": 0.5}, rng(6), seeds=1), "random", rng=rng())
    assert found.rows[0].mean.lower == -math.inf
    assert found.rows[0].difference.interval.upper == math.inf
    assert (found.rows[0].p, found.rows[0].decision, found.told_apart) == (1.0, "undecided", ())
    assert {row.letters for row in found.rows} == {"a"}


def test_areas_by_seed_alone_are_compared_over_seeds():
    areas = {"random": Scores(0.6 + rng(7).normal(0, 0.01, 6), tuple(range(6)))}
    areas["up"] = Scores(areas["random"].values[::-1] + 0.05, tuple(range(6))[::-1])
    row = compare(areas, "random", rng=rng()).rows[0]
    assert (row.strategy, row.decision) == ("up", "better")
    assert row.difference.interval.lower == pytest.approx(0.05)


def test_only_common_seeds_and_patients_are_compared_and_the_row_counts_them():
    made = study({"random": 0.0, "up": 0.1}, rng(8))
    fewer = Scores(made["up"].values[1:, 2:], made["up"].seeds[1:], patients=PATIENTS[2:])
    row = compare({"random": made["random"], "up": fewer}, "random", rng=rng()).rows[0]
    assert (row.strategy, row.seeds, row.paired) == ("up", 5, 5)
    assert row.difference.interval.estimate == pytest.approx((made["up"].values - made["random"].values)[1:, 2:].mean())


def test_the_better_one_of_a_pair_is_so_on_the_seeds_that_both_have():
    # "lucky" has the higher mean only because of a seed that the other does not have.
    shared = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    made = {"steady": Scores(shared + 0.01, tuple(range(6))), "lucky": Scores(np.append(shared, 9.0), tuple(range(7)))}
    found = compare(made, "lucky", rng=rng(), margin=0.0)
    assert found.rows[0].strategy == "lucky"
    assert found.told_apart == (("steady", "lucky"),)
    assert found.rows[1].decision == "better"


@pytest.mark.parametrize(
    ("lower", "upper", "p", "expected"),
    [
        (0.02, 0.05, 0.01, "better"),
        (0.02, 0.05, 0.2, "undecided"),
        (0.005, 0.05, 0.01, "undecided"),
        (-0.05, -0.02, 0.01, "worse"),
        (-0.05, -0.02, 0.2, "undecided"),
        (-0.05, -0.005, 0.01, "undecided"),
        (-0.009, 0.01, 0.5, "equivalent"),
        (0.002, 0.009, 0.001, "equivalent"),
        (-0.02, 0.02, 0.9, "undecided"),
        (-math.inf, math.inf, 1.0, "undecided"),
    ],
)
def test_decisions(lower, upper, p, expected):
    assert (
        decide(Interval((lower + upper) / 2 if math.isfinite(lower) else 0.0, lower, upper, 0.95), p, 0.01) == expected
    )


def test_letters_are_shared_by_those_and_only_those_that_cannot_be_told_apart():
    names = ["a", "b", "c", "d", "e"]
    pairs = list(combinations(names, 2))
    for code in range(0, 2 ** len(pairs), 7):
        apart = [pair for bit, pair in enumerate(pairs) if code >> bit & 1]
        letters = dict(zip(names, letters_of(names, apart), strict=True))
        for one, other in pairs:
            assert bool(set(letters[one]) & set(letters[other])) == ((one, other) not in apart)
        groups = [
            {name for name in names if letter in letters[name]} for letter in sorted(set("".join(letters.values())))
        ]
        assert not any(one <= other for i, one in enumerate(groups) for j, other in enumerate(groups) if i != j)


def test_the_first_strategy_has_the_first_letter():
    assert letters_of(["x", "y", "z"], [("x", "y"), ("x", "z")]) == ["a", "b", "b"]
    assert letters_of(["x", "y"], []) == ["a", "a"]


def test_refuses_a_reference_that_is_not_there_and_scores_that_share_nothing():
    made = study({"random": 0.0, "up": 0.1}, rng(9))
    with pytest.raises(StudyError, match=r"'uniform' is to be the baseline of random, up\. Expected one of"):
        compare(made, "uniform", rng=rng())
    with pytest.raises(StudyError, match=r"margin is -1"):
        compare(made, "random", rng=rng(), margin=-1)
    curves = {"random": made["random"], "up": Scores(np.ones((6, 3)), tuple(range(6)), budgets=(10, 20, 40))}
    with pytest.raises(StudyError, match=r"the scores of up come by budget.*Take area_under_budget_curve"):
        compare(curves, "random", rng=rng())
    other = Scores(made["up"].values, tuple(range(10, 16)), patients=PATIENTS)
    with pytest.raises(StudyError, match="share no seed, or no patient"):
        compare({"random": made["random"], "up": other}, "random", rng=rng())
