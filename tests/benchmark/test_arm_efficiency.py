"""FG-Eff of arms: the planted rate is found, and where it is not defined that is said."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nextmask.benchmark.arm_curves import AXES, ArmCurves
from nextmask.benchmark.arm_efficiency import efficiency_of

START, FULL, POOL = 0.3, 0.9, 10_000
VOXELS = np.array([[200, 1000, 4000], [200, 1500, 5000]], float)


def arm(name: str, gamma: float, voxels=VOXELS, samples=(10, 20, 40)) -> ArmCurves:
    """A curve that rises towards `FULL` by ``gamma`` with the share of foreground; patients differ about it."""
    dice = FULL - (FULL - START) * np.exp(-gamma * (voxels - voxels[:, :1]) / POOL)
    patients = dice[:, :, None] + np.array([-0.05, 0.05])
    spent = {axis: np.asarray(voxels) for axis in AXES}
    return ArmCurves(name, name, (0, 1), tuple(samples), ("a", "b"), spent, patients)


def whole_pool(dice: float) -> ArmCurves:
    spent = {axis: np.full((2, 1), float(POOL)) for axis in AXES}
    return ArmCurves("all", "random", (0, 1), (100,), ("a", "b"), spent, np.full((2, 1, 2), dice))


def test_the_planted_rates_are_found():
    found = efficiency_of([arm("slow", 2.0), arm("fast", 8.0)], samples=100, foreground=POOL, full=FULL)
    assert found.gamma == {"slow": pytest.approx(2, rel=1e-3), "fast": pytest.approx(8, rel=1e-3)}
    assert (found.full, found.given, found.why) == (FULL, True, "")


def test_an_arm_that_labels_the_whole_pool_tells_where_curves_rise_to_and_has_no_rate_itself():
    found = efficiency_of([arm("fast", 8.0), whole_pool(FULL)], samples=100, foreground=POOL)
    assert found.gamma == {"fast": pytest.approx(8, rel=1e-3)}
    assert found.full == pytest.approx(FULL)
    assert not found.given


def test_a_score_in_the_file_goes_before_that_of_an_arm():
    found = efficiency_of([arm("fast", 8.0), whole_pool(0.7)], samples=100, foreground=POOL, full=FULL)
    assert found.gamma["fast"] == pytest.approx(8, rel=1e-3)


def test_without_the_score_of_all_labels_it_says_what_to_add():
    found = efficiency_of([arm("fast", 8.0)], samples=100, foreground=POOL)
    assert found.gamma == {}
    assert "full_score" in found.why


@pytest.mark.parametrize("foreground", [None, 0])
def test_without_the_pools_foreground_there_is_none(foreground):
    found = efficiency_of([arm("fast", 8.0)], samples=None, foreground=foreground, full=FULL)
    assert found.gamma == {}
    assert "not known" in found.why


def test_a_start_above_the_end_is_not_defined():
    found = efficiency_of([arm("fast", 8.0)], samples=100, foreground=POOL, full=0.2)
    assert found.gamma == {}
    assert "not defined here" in found.why


def test_a_curve_at_the_end_from_its_second_point_on_cannot_be_told_how_fast():
    found = efficiency_of([arm("fast", 8.0), arm("steep", 1e6)], samples=100, foreground=POOL, full=FULL)
    assert math.isinf(found.gamma["steep"])
    assert math.isfinite(found.gamma["fast"])
