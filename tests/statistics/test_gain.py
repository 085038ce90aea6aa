"""What the next samples would buy: on curves that were made, so that the truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.errors import StudyError
from nextmask.statistics import gain_of_next
from nextmask.statistics.gain import PARAMETERS

LABELED = [10, 20, 30, 40, 50, 60]


def power_law(labeled, ceiling=0.9, drop=2.0, rate=0.8):
    return ceiling - drop * np.asarray(labeled, float) ** -rate


def test_without_noise_the_gain_is_that_of_the_curve():
    found = gain_of_next(LABELED, power_law(LABELED), 20)
    true = power_law(80) - power_law(60)
    assert found.curve.estimate == pytest.approx(true, abs=0.002)
    assert found.curve.lower < true < found.curve.upper < true + 0.01


def test_fewer_rounds_than_parameters_tell_nothing():
    for rounds in range(PARAMETERS):
        assert gain_of_next(LABELED[:rounds], power_law(LABELED[:rounds]), 10) is None
    assert gain_of_next(LABELED[:PARAMETERS], power_law(LABELED[:PARAMETERS]), 10) is not None


def test_three_rounds_leave_more_open_than_six():
    few, many = (gain_of_next(LABELED[-n:], power_law(LABELED[-n:]), 10) for n in (3, 6))
    for name in ("curve", "measured"):
        one, other = getattr(few, name), getattr(many, name)
        assert one.upper - one.lower > 1.3 * (other.upper - other.lower)


def test_a_flat_curve_promises_little_and_a_steep_one_much():
    flat = gain_of_next(LABELED, [0.8, 0.801, 0.8, 0.799, 0.8, 0.8], 10).curve
    steep = gain_of_next(LABELED, power_law(LABELED, drop=4.0), 10).curve
    assert flat.upper < 0.005
    assert steep.lower > 0.01


def test_a_curve_that_fell_is_noise_and_never_promises_a_loss():
    found = gain_of_next([10, 20, 30], [0.8, 0.75, 0.7], 10)
    assert 0 <= found.curve.lower <= found.curve.estimate < 0.02
    assert found.measured.lower < 0


def test_nothing_is_promised_beyond_a_dice_of_one():
    found = gain_of_next(LABELED, [0.76, 0.82, 0.86, 0.9, 0.94, 0.98], 100_000)
    assert found.curve.upper < 0.1  # without a bound it would be far more


def test_more_samples_buy_more():
    one, other = (gain_of_next(LABELED, power_law(LABELED), n).curve.estimate for n in (10, 100))
    assert other > 2 * one


@pytest.mark.parametrize(("rounds", "noise"), [(3, 0.03), (10, 0.02)])
@pytest.mark.parametrize("curve", [{}, {"ceiling": 0.85, "drop": 1.0, "rate": 0.3}], ids=["fast", "slow"])
def test_the_intervals_hold_what_they_promise(rounds, noise, curve):
    """Of 40 data sets 95 % are 38; 34 or fewer come by chance in 5 of 1,000 tests. Runs are seeded."""
    rng, labeled = np.random.default_rng([rounds, int(1000 * noise)]), 10 * np.arange(1, rounds + 1)
    held = np.zeros(2, int)
    for _ in range(40):
        seen = power_law(labeled, **curve) + rng.normal(0, noise, rounds)
        found = gain_of_next(labeled.tolist(), seen.clip(0, 1).tolist(), 10)
        come = power_law(10 * rounds + 10, **curve) - power_law(10 * rounds, **curve)
        seen_then = power_law(10 * rounds + 10, **curve) + rng.normal(0, noise) - seen[-1]
        held += [
            found.curve.lower <= come <= found.curve.upper,
            found.measured.lower <= seen_then <= found.measured.upper,
        ]
    assert held.min() >= 35


@pytest.mark.parametrize(
    ("labeled", "dice", "samples"),
    [([10, 10, 20], [0.1, 0.2, 0.3], 5), ([0, 10, 20], [0.1, 0.2, 0.3], 5), ([10, 20, 30], [0.1, 0.2], 5),
     ([10, 20, 30], [0.1, 0.2, 1.3], 5), ([10, 20, 30], [0.1, 0.2, float("nan")], 5), ([10, 20, 30], [0.1, 0.2, 0.3], 0)],
)  # fmt: skip
def test_what_is_no_curve_is_refused(labeled, dice, samples):
    with pytest.raises(StudyError, match="Expected a Dice of 0 to 1 at numbers of samples that grow"):
        gain_of_next(labeled, dice, samples)
