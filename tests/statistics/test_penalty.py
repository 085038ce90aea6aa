"""The penalty matrix: 1 is the maximum, seeds are paired by name, and skipped budgets change neither."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from nextmask.errors import StudyError
from nextmask.statistics import Scores, holm, paired_t_test, penalty_matrix

SEEDS = (0, 1, 2, 3)
BUDGETS = (10, 20, 40)
LUCK = np.array([[0.0], [0.02], [0.05], [-0.03]])
"""What a seed adds to every strategy alike."""


def scores(level, budgets=BUDGETS, seeds=SEEDS, rng_seed=0):
    noise = np.random.default_rng(rng_seed).normal(0, 0.001, (len(seeds), len(budgets)))
    return Scores(level + LUCK[: len(seeds)] + noise, tuple(seeds), tuple(budgets))


def test_a_strategy_that_wins_everywhere_has_1_and_the_other_0():
    found = penalty_matrix({"good": scores(0.8, rng_seed=1), "poor": scores(0.7, rng_seed=2)})
    assert found.names == ("good", "poor")
    assert found.wins.tolist() == [[0, 1], [0, 0]]
    assert found.budgets.tolist() == [[0, 3], [3, 0]]
    assert (found.beats.tolist(), found.beaten.tolist()) == ([1, 0], [0, 1])


def test_skipped_budgets_leave_the_maximum_at_1():
    # nnActive with skip_first counts wins at all three budgets and divides by two: 1.5.
    found = penalty_matrix({"good": scores(0.8, (20, 40), rng_seed=1), "poor": scores(0.7, rng_seed=2)})
    assert found.wins[0, 1] == 1.0
    assert found.budgets[0, 1] == 2
    first_only = {
        "good": scores(0.8, (10,), rng_seed=1),
        "poor": scores(0.7, rng_seed=2),
        "late": scores(0.6, (20, 40)),
    }
    wins = penalty_matrix(first_only).wins
    assert (wins[0, 1], wins[1, 2]) == (1.0, 1.0)
    assert np.nanmax(wins) == 1.0


def test_strategies_without_a_common_budget_or_enough_seeds_are_not_compared():
    found = penalty_matrix(
        {"early": scores(0.8, (10,)), "late": scores(0.7, (20, 40)), "once": scores(0.9, seeds=(0,))}
    )
    assert np.isnan(found.wins[~np.eye(3, dtype=bool)]).all()
    assert not found.budgets.any()
    assert np.isnan(found.beats).all()


def test_a_share_of_the_budgets_is_that_share():
    level = np.array([0.0, 0.1, 0.1])
    found = penalty_matrix({"later": scores(0.7 + level, rng_seed=1), "flat": scores(0.7, rng_seed=3)})
    assert found.wins[0, 1] == pytest.approx(2 / 3)


def test_seeds_are_paired_by_name_and_not_by_their_order():
    good, poor = scores(0.71, rng_seed=1), scores(0.70, rng_seed=2)
    turned = Scores(poor.values[::-1], poor.seeds[::-1], poor.budgets)
    np.testing.assert_array_equal(
        penalty_matrix({"good": good, "poor": turned}).wins, penalty_matrix({"good": good, "poor": poor}).wins
    )
    # By order, which is what the public one does, the seeds' luck hides the difference.
    by_order = Scores(turned.values, good.seeds, good.budgets)
    assert penalty_matrix({"good": good, "poor": by_order}).wins[0, 1] == 0.0
    assert penalty_matrix({"good": good, "poor": turned}).wins[0, 1] == 1.0


def test_the_correction_is_over_all_pairs_and_budgets():
    strategies = {f"s{i}": scores(0.7 + 0.001 * i, rng_seed=i) for i in range(4)}
    pairs = [(one.values, other.values) for one, other in combinations(strategies.values(), 2)]
    p = [paired_t_test(one[:, b], other[:, b]) for one, other in pairs for b in range(3)]
    plain, corrected = penalty_matrix(strategies), penalty_matrix(strategies, corrected=True)
    assert plain.wins.sum() * 3 == pytest.approx(sum(each < 0.05 for each in p))
    assert corrected.wins.sum() * 3 == pytest.approx(sum(holm(p) < 0.05))
    assert 0 < corrected.wins.sum() < plain.wins.sum()


def test_a_null_is_won_in_the_nominal_share():
    rng = np.random.default_rng(3)
    won = 0.0
    for _ in range(60):
        null = {name: Scores(rng.normal(size=(4, 3)), SEEDS, BUDGETS) for name in "abc"}
        won += penalty_matrix(null).wins.sum()
    # 60 studies of 3 pairs; each pair is won by either side at 5 % of its budgets.
    assert 0.02 < won / 180 < 0.09


def test_patients_are_averaged():
    good, poor = scores(0.71, rng_seed=1), scores(0.70, rng_seed=2)
    # Apart, patients are all noise; on average they are the curve.
    noise = np.random.default_rng(0).normal(0, 0.3, (2, 4, 3, 1)) * np.array([-1.0, 0.0, 1.0])
    by_patient = {
        name: Scores(each.values[:, :, None] + apart, each.seeds, each.budgets, ("p1", "p2", "p3"))
        for (name, each), apart in zip({"good": good, "poor": poor}.items(), noise, strict=True)
    }
    np.testing.assert_array_equal(penalty_matrix(by_patient).wins, penalty_matrix({"good": good, "poor": poor}).wins)


def test_averages_leave_out_what_was_not_compared():
    found = penalty_matrix(
        {"good": scores(0.8, rng_seed=1), "poor": scores(0.7, rng_seed=2), "elsewhere": scores(0.6, (80,))}
    )
    assert found.beats[:2].tolist() == [1, 0]
    assert np.isnan(found.beats[2])


def test_refuses_one_strategy_and_scores_without_budgets():
    with pytest.raises(StudyError, match="asked for of 1 strategies"):
        penalty_matrix({"one": scores(0.7)})
    with pytest.raises(StudyError, match="2 strategies, 1 of them without budgets"):
        penalty_matrix({"one": scores(0.7), "area": Scores(np.ones(4), SEEDS)})
