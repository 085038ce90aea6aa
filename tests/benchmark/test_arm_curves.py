"""Curves of arms: every unit where it belongs, whatever is missing."""

from __future__ import annotations

import numpy as np
import pytest
from tests.benchmark.made_benchmark import config_of, dice_of, made, played

from nextmask.benchmark.arm_curves import count_tested, curves_of


def curves(folder, *args, **given):
    return {arm.name: arm for arm in curves_of(played(made(folder, *args, **given)))}


def test_every_arm_has_its_seeds_points_and_patients_in_place(tmp_path):
    benchmark = made(tmp_path)
    found = {arm.name: arm for arm in curves_of(played(benchmark))}
    assert list(found) == ["random", "typiclust", "k_center"]
    arm = found["typiclust"]
    assert (arm.seeds, arm.samples, arm.patients) == ((0, 1, 2, 3), (10, 20, 40), tuple(f"p{n}" for n in range(6)))
    unit = next(job.unit for job in benchmark.jobs if job.unit.strategy == "typiclust" and job.unit.seed == 2)
    assert arm.dice[2, 1, 5] == pytest.approx(dice_of(unit, 1, 5))
    assert arm.spent["foreground_voxels"].tolist() == [[1000 + s, 2000 + s, 4000 + s] for s in range(4)]


def test_a_score_is_the_mean_over_classes_then_scans(tmp_path):
    units = played(made(tmp_path, config_of(budgets=[5], seeds=1, arms=[{"strategies": ["random"]}]), patients=1))
    cases = [("a", "x", 0.2), ("a", "y", None), ("b", "x", 0.6), ("b", "y", 1.0)]
    units[0][2]["rounds"][0]["cases"] = [
        {"case": case, "class": label, "dice": dice, "patient": "p"} for case, label, dice in cases
    ]
    (arm,) = curves_of(units)
    assert arm.dice.item() == pytest.approx((0.2 + 0.8) / 2)


def test_a_patient_without_a_score_somewhere_is_left_out_everywhere(tmp_path):
    def score(unit, point, patient):
        return (
            np.nan
            if (unit.strategy, unit.seed, point, patient) == ("k_center", 1, 2, 3)
            else dice_of(unit, point, patient)
        )

    benchmark = made(tmp_path, score=score)
    assert all(arm.patients == ("p0", "p1", "p2", "p4", "p5") for arm in curves_of(played(benchmark)))
    assert all(arm.dice.shape == (4, 3, 5) for arm in curves_of(played(benchmark)))
    assert count_tested(played(benchmark)) == 6


def test_budgets_that_are_asked_for_at_once_make_one_curve_and_a_seed_without_all_of_them_waits(tmp_path):
    config = config_of(budgets=[[10], [20], [40]], seeds=3)
    found = curves(tmp_path, config, done=lambda unit: (unit.seed, unit.sizes) != (2, (40,)))
    assert found["random"].samples == (10, 20, 40)
    assert found["random"].seeds == (0, 1)


def test_ways_to_grow_make_a_curve_each(tmp_path):
    found = curves(tmp_path, config_of(budgets=None, query_sizes=[5, 10], rounds=2, arms=[{"strategies": ["random"]}]))
    assert {name: arm.samples for name, arm in found.items()} == {"random, 5+5": (5, 10), "random, 10+10": (10, 20)}


def test_training_seeds_are_averaged_within_seeds_and_are_the_seeds_where_there_is_one(tmp_path):
    by_training = lambda unit, point, patient: 0.5 + 0.1 * unit.training_seed  # noqa: E731
    config = config_of(seeds=2, training_seeds=[3, 4], arms=[{"strategies": ["random"]}])
    (arm,) = curves(tmp_path / "two", config, score=by_training).values()
    assert arm.seeds == (0, 1)
    assert np.allclose(arm.dice, 0.85)
    config = config_of(seeds=1, training_seeds=[3, 4], arms=[{"strategies": ["random"]}])
    (arm,) = curves(tmp_path / "one", config, score=by_training).values()
    assert arm.seeds == (3, 4)
    assert arm.dice[:, 0, 0].tolist() == pytest.approx([0.8, 0.9])


def test_nothing_done_gives_no_curve():
    assert curves_of([]) == ()
