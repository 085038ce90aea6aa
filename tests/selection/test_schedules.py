"""Schedules follow the labeled share, however many rounds there will be."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.errors import SelectionError
from nextmask.selection.schedules import at, constant, exponential, sigmoid

SHARES = np.linspace(0, 1, 21).tolist()


def test_exponential_goes_by_equal_factors() -> None:
    beta = exponential(1, 100, until=0.4)
    # ClaSP PE over five rounds: 1, 3.2, 10, 32, 100.
    assert [beta(share) for share in (0, 0.1, 0.2, 0.3, 0.4)] == pytest.approx([1, 10**0.5, 10, 10**1.5, 100])
    assert exponential(8, 2)(0.5) == pytest.approx(4)


@pytest.mark.parametrize("temperature", [2, 0.5])
def test_sigmoid_starts_and_ends_where_it_is_said_to(temperature: float) -> None:
    beta = sigmoid(1, 100, until=0.5, temperature=temperature)
    assert beta(0) == pytest.approx(1)
    assert beta(0.25) == pytest.approx(50.5)
    assert beta(0.5 - 1e-12) == pytest.approx(100)


def test_a_sharp_sigmoid_is_nearly_a_step() -> None:
    smooth, sharp = sigmoid(0, 1), sigmoid(0, 1, temperature=0.5)
    assert sharp(0.4) < smooth(0.4)
    assert sharp(0.3) < 0.01 < smooth(0.3)


@pytest.mark.parametrize("make", [exponential, sigmoid])
def test_beyond_the_end_it_stays_there(make) -> None:
    # A schedule that is a list, one entry a round, has no entry for one round more.
    beta = make(1, 100, until=0.2)
    assert [beta(share) for share in (0.2, 0.21, 0.9, 1)] == [100, 100, 100, 100]


@pytest.mark.parametrize("make", [exponential, sigmoid])
def test_rises_all_the_way(make) -> None:
    values = [make(1, 30, until=1)(share) for share in SHARES]
    assert (np.diff(values) > 0).all()
    assert (np.diff([make(30, 1, until=1)(share) for share in SHARES]) < 0).all()


def test_constant_and_numbers_stay() -> None:
    assert {constant(4)(share) for share in SHARES} == {4}
    assert at(3, 0.7) == at(constant(3), 0.7) == 3
    assert at(exponential(1, 4), 0.5) == pytest.approx(2)


@pytest.mark.parametrize("until", [0, -0.1, 1.5, float("nan")])
@pytest.mark.parametrize("make", [exponential, sigmoid])
def test_refuses_an_end_outside_of_the_pool(make, until: float) -> None:
    with pytest.raises(SelectionError, match="until is"):
        make(1, 2, until=until)


def test_refuses_what_no_factor_joins_and_a_temperature_of_nothing() -> None:
    with pytest.raises(SelectionError, match="start is 0 and end is 5"):
        exponential(0, 5)
    with pytest.raises(SelectionError, match="temperature is 0"):
        sigmoid(0, 5, temperature=0)
