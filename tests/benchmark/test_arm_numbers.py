"""What curves show: the planted differences, and what cannot be said."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from nextmask.benchmark.arm_curves import AXES, ArmCurves
from nextmask.benchmark.arm_numbers import choose_baseline, numbers_of

SAMPLES = (10, 20, 40)


def arm(
    name: str, ahead: float = 0.0, seeds: tuple[int, ...] = (0, 1, 2, 3), samples=SAMPLES, noise=0.002
) -> ArmCurves:
    """A curve from .5 to .7 plus ``ahead``; patients and seeds are alike in all arms."""
    shared = np.random.default_rng(0).normal(0, 0.02, (10, 1, 8))[list(seeds)]
    own = np.random.default_rng(len(name)).normal(0, noise, (len(seeds), len(samples), 8))
    level = np.interp(samples, (10, 20, 40), (0.5, 0.6, 0.7))[None, :, None]
    spent = {
        axis: np.tile(np.array(samples, float) * times, (len(seeds), 1))
        for axis, times in zip(AXES, (1, 50, 2), strict=True)
    }
    patients = tuple(f"p{n}" for n in range(8))
    return ArmCurves(name, name.split()[0], seeds, tuple(samples), patients, spent, level + shared + own + ahead)


def decisions(numbers) -> dict:
    return {row.strategy: row.decision for row in numbers.measures[0].table.rows}


def test_planted_differences_are_found_with_the_right_sign():
    found = numbers_of(
        [arm("random"), arm("good", 0.05), arm("bad one", -0.05), arm("the same")], "random", margin=0.01
    )
    assert decisions(found) == {"random": None, "good": "better", "bad one": "worse", "the same": "equivalent"}
    assert [measure.name for measure in found.measures] == [
        "aubc_samples",
        "last",
        "aubc_foreground_voxels",
        "aubc_minutes",
    ]
    assert all(measure.table is not None for measure in found.measures)
    good = next(row for row in found.measures[0].table.rows if row.strategy == "good")
    assert good.difference.interval.estimate == pytest.approx(0.05, abs=0.003)
    assert found.penalty.wins[1, 0] == 1


def test_bands_hold_the_mean_at_what_was_spent():
    found = numbers_of([arm("random"), arm("good", 0.05)], "random", margin=0.01)
    points = found.bands["minutes"]["good"]
    assert [point.spent for point in points] == [20, 40, 80]
    assert [point.dice.estimate for point in points] == pytest.approx([0.55, 0.65, 0.75], abs=0.02)
    assert all(point.dice.lower < point.dice.estimate < point.dice.upper for point in points)


def test_one_budget_is_compared_there_and_the_areas_say_why_not():
    found = numbers_of([arm("random", samples=(20,)), arm("good", 0.05, samples=(20,))], "random", margin=0.01)
    assert found.measures[0].name == "last"
    assert decisions(found)["good"] == "better"
    assert "in common" in found.measures[1].why


def test_no_budget_in_common_says_so_and_arms_are_compared_at_the_last_one_that_is():
    found = numbers_of([arm("random"), arm("good", 0.05, samples=(15, 30))], "random", margin=0.01)
    assert "no budget in common" in found.measures[1].why
    found = numbers_of([arm("random"), arm("good", 0.05, samples=(10, 20))], "random", margin=0.01)
    assert found.measures[1].title == "Dice at 20 samples"


def test_an_arm_without_a_common_seed_is_left_out_and_named():
    found = numbers_of([arm("random"), arm("good", 0.05), arm("late", seeds=(7, 8))], "random", margin=0.01)
    assert found.measures[0].left_out == ("late",)
    assert set(decisions(found)) == {"random", "good"}
    assert next(each for each in found.reaching if each.arm == "late").saving is None


def test_one_seed_decides_nothing_and_one_arm_is_not_compared():
    found = numbers_of([arm("random", seeds=(0,)), arm("good", 0.2, seeds=(0,))], "random", margin=0.01)
    assert decisions(found)["good"] == "undecided"
    assert math.isinf(found.bands["samples"]["good"][0].dice.upper)
    alone = numbers_of([arm("random")], "random", margin=0.01)
    assert alone.measures[0].table is None
    assert alone.penalty is None
    assert len(alone.bands["samples"]["random"]) == 3


def test_the_target_is_what_was_set_or_follows_from_the_baseline():
    arms = [arm("random"), arm("good", 0.1), arm("bad", -0.3)]
    found = numbers_of(arms, "random", margin=0.01, target=0.65)
    spent = {each.arm: each.target for each in found.reaching if each.axis == "samples"}
    assert spent["good"].median == pytest.approx(15, abs=1.5)
    assert math.isinf(spent["bad"].median)
    saving = {each.arm: each.saving for each in found.reaching if each.axis == "samples"}
    assert saving["random"] is None
    assert saving["good"].low == pytest.approx(0.5, abs=0.08)
    assert saving["bad"].high == pytest.approx(1 - 40 / 30, abs=0.1)  # it had spent 40 and was not there
    assert not numbers_of(arms, "random", margin=0.01).target_given
    assert numbers_of(arms, "random", margin=0.01).target == pytest.approx(0.95 * arms[0].dice[:, -1].mean(), abs=1e-3)


def test_what_was_spent_that_falls_is_no_axis_and_breaks_nothing():
    good = arm("good", 0.05)
    good = replace(good, spent={**good.spent, "foreground_voxels": np.tile([500.0, 400.0, 2000.0], (4, 1))})
    found = numbers_of([arm("random"), good], "random", margin=0.01)
    why = {measure.name: measure.why for measure in found.measures}
    assert "falls" in why["aubc_foreground_voxels"]
    assert not why["aubc_samples"]
    assert next(e for e in found.reaching if (e.arm, e.axis) == ("good", "foreground_voxels")).target is None


def test_the_spread_of_differences_is_measured_with_three_seeds_or_more():
    one, other = arm("random", noise=0), arm("good", noise=0)
    shifts = np.array([0.0, 0.02, 0.04])
    other = replace(
        other,
        dice=other.dice[:3] + shifts[:, None, None],
        seeds=(0, 1, 2),
        spent={k: v[:3] for k, v in other.spent.items()},
    )
    assert numbers_of([one, other], "random", margin=0.01).spread == pytest.approx(0.02)
    few = replace(other, dice=other.dice[:2], seeds=(0, 1), spent={k: v[:2] for k, v in other.spent.items()})
    assert numbers_of([one, few], "random", margin=0.01).spread is None


def test_the_baseline_is_plain_random_where_none_is_named():
    arms = [arm("k_center"), arm("stratified_random"), arm("random first=x"), arm("random")]
    assert choose_baseline(arms, None) == "random first=x"
    assert choose_baseline(arms[:2], None) == "stratified_random"
    assert choose_baseline(arms[:1], None) == "k_center"
    assert choose_baseline(arms, "k_center") == "k_center"
    assert choose_baseline(arms, "random first=x") == "random first=x"
    assert choose_baseline([], None) is None


def test_areas_are_those_of_the_stretch_that_all_arms_cover():
    found = numbers_of([arm("random", noise=0), arm("same", samples=(10, 20), noise=0)], "random", margin=0.01)
    means = {row.strategy: row.mean.estimate for row in found.measures[0].table.rows}
    assert means["random"] == pytest.approx(means["same"], abs=1e-9)


def test_a_seed_that_begins_at_the_target_needed_its_first_budget_or_less():
    found = numbers_of([arm("random"), arm("good", 0.3)], "random", margin=0.01, target=0.6)
    targets = {each.arm: each.target for each in found.reaching if each.axis == "minutes"}
    assert (targets["good"].at_once, targets["good"].median) == (4, 20)
    assert targets["random"].at_once == 0


def test_where_the_baseline_never_arrives_its_end_bounds_what_is_saved():
    found = numbers_of([arm("random"), arm("good", 0.1)], "random", margin=0.01, target=0.75)
    saving = {each.arm: each.saving for each in found.reaching if each.axis == "samples"}["good"]
    assert saving.low == pytest.approx(1 - 35 / 40, abs=0.15)
    assert saving.high == 1
