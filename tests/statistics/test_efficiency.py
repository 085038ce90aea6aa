"""FG-Eff finds the gamma that made a curve."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nextmask.errors import StudyError
from nextmask.statistics import foreground_efficiency

FULL, START = 0.9, 0.3
SHARE = np.array([[0.02, 0.05, 0.1, 0.2, 0.4], [0.02, 0.04, 0.12, 0.3, 0.5]])


def made(gamma):
    return FULL - (FULL - START) * np.exp(-gamma * (SHARE - 0.02))


@pytest.mark.parametrize("gamma", [-0.5, 0.0, 0.3, 4.0, 60.0])
def test_the_gamma_that_made_the_curve_is_found(gamma):
    assert foreground_efficiency({"made": (SHARE, made(gamma))}, FULL)["made"] == pytest.approx(
        gamma, rel=1e-4, abs=1e-5
    )


def test_it_is_the_least_squares_over_all_seeds():
    noisy = made(5.0) + np.random.default_rng(0).normal(0, 0.03, SHARE.shape)
    noisy[:, 0] = START
    found = foreground_efficiency({"noisy": (SHARE, noisy)}, FULL)["noisy"]

    def misfit(gamma):
        return ((noisy - made(gamma)) ** 2).sum()

    assert abs(found - 5) < 2
    assert misfit(found) <= min(misfit(found * 0.99), misfit(found * 1.01), misfit(5.0))


def test_all_strategies_start_at_their_common_mean():
    low, high = made(3.0), made(3.0)
    low[:, 0], high[:, 0] = START - 0.1, START + 0.1
    found = foreground_efficiency({"low": (SHARE, low), "high": (SHARE, high)}, FULL)
    assert found == {"low": pytest.approx(3.0, rel=1e-4), "high": pytest.approx(3.0, rel=1e-4)}


def test_a_curve_above_the_asymptote_cannot_be_told_how_fast():
    above = made(3.0)
    above[:, 1:] = 0.95
    assert foreground_efficiency({"above": (SHARE, above)}, FULL)["above"] == math.inf


def test_it_is_not_defined_where_the_start_is_not_below_the_end():
    with pytest.raises(StudyError, match=r"start at 0.300 and all labels give 0.290.*not defined here"):
        foreground_efficiency({"made": (SHARE, made(1.0))}, START - 0.01)


@pytest.mark.parametrize(
    ("share", "scores", "message"),
    [
        (SHARE, made(1.0)[:1], "Expected the same seeds"),
        (SHARE * 100, made(1.0), "go from 2 to 50"),
        (SHARE[:, ::-1], made(1.0), "Expected them to grow, within 0 to 1"),
        (SHARE[:, :1], made(1.0)[:, :1], "two points or more"),
        (SHARE, np.full(SHARE.shape, np.nan), "10 of 10 scores of made are not finite"),
    ],
)
def test_refuses_shares_that_are_none(share, scores, message):
    with pytest.raises(StudyError, match=message):
        foreground_efficiency({"made": (share, scores)}, FULL)


def test_refuses_no_strategy():
    with pytest.raises(StudyError, match="no strategy was given"):
        foreground_efficiency({}, FULL)


def test_refuses_a_strategy_that_never_met_foreground():
    with pytest.raises(
        StudyError, match=r"idle annotated no foreground beyond a share of 0.02.*Leave the strategy out"
    ):
        foreground_efficiency({"idle": (np.full((2, 3), 0.02), np.full((2, 3), 0.4))}, FULL)
