"""A budget in minutes is never exceeded and never left unused."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nextmask.errors import SelectionError
from nextmask.selection import k_center, limited, most_uncertain, power_entropy, random_sampling, select_within

COST = np.array([4.0, 1.0, 2.0, 3.0, 5.0, 1.5])
UNCERTAINTY = np.array([0.9, 0.1, 0.5, 0.8, 0.7, 0.2])
COLD = np.zeros(6, dtype=bool)


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _within(strategy, minutes: float, labeled: np.ndarray = COLD, seed: int = 0, **more: np.ndarray):
    pool = {"uncertainty": UNCERTAINTY, "cost": COST, **more}
    evidence = {name: lambda array=array: array for name, array in pool.items()}
    return select_within(strategy, evidence, labeled, minutes, rng=_rng(seed))


def _by_uncertainty(uncertainty: np.ndarray, labeled: np.ndarray, n: int, *, rng: np.random.Generator) -> np.ndarray:
    """The most uncertain, blind to what they cost."""
    return most_uncertain(uncertainty, labeled, n, rng=rng).rows


def test_takes_what_fits_in_the_order_of_preference() -> None:
    # 0 costs 4 of 8.5 minutes; 3 costs 3 of the 4.5 left; then 1 and 5 fit into 1.5, and 5 is less sure.
    query = _within(_by_uncertainty, 8.5)
    assert query.rows.tolist() == [0, 3, 5]
    assert query.numbers["minutes"].tolist() == [4, 3, 1.5]


def test_a_strategy_with_an_option_cost_gains_most_a_minute() -> None:
    # Per minute: 0.225, 0.1, 0.25, 0.267, 0.14, 0.133.
    query = _within(most_uncertain, 9)
    assert query.rows.tolist() == [3, 2, 0]
    assert query.reasons[0] == "rank 1 of 6 by uncertainty per minute (0.8); about 3 min"
    assert _within(partial(most_uncertain, cost=np.ones(6)), 9).rows.tolist() == [0, 3, 2]
    assert _within(partial(power_entropy, beta=np.inf), 9).rows.tolist() == [3, 2, 0]


def test_a_strategy_that_needs_cost_is_handed_it() -> None:
    def cheapest(cost: np.ndarray, labeled: np.ndarray, n: int, *, rng: np.random.Generator) -> np.ndarray:
        return np.flatnonzero(~labeled)[np.argsort(cost[~labeled], kind="stable")][:n]

    assert _within(cheapest, 5).rows.tolist() == [1, 5, 2]


@given(
    seed=st.integers(0, 10**6),
    samples=st.integers(1, 30),
    budget=st.floats(0.3, 60),
    strategy=st.sampled_from([_by_uncertainty, most_uncertain, random_sampling, k_center]),
)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_never_exceeds_the_budget_and_leaves_nothing_that_fits(seed, samples, budget, strategy) -> None:
    rng = _rng(seed)
    cost, labeled = rng.exponential(5, samples) + 0.1, rng.random(samples) < 0.3
    labeled[0] = False
    more = {"cost": cost, "uncertainty": rng.random(samples), "embeddings": rng.normal(size=(samples, 2))}
    if cost[~labeled].min() > budget:
        with pytest.raises(SelectionError, match="the cheapest unlabeled sample costs"):
            _within(strategy, budget, labeled, seed, **more)
        return
    rows = _within(strategy, budget, labeled, seed, **more).rows
    assert len(set(rows.tolist())) == len(rows) > 0
    assert not labeled[rows].any()
    spent = cost[rows].sum()
    assert spent <= budget * (1 + 1e-9)
    left = ~labeled
    left[rows] = False
    assert not (cost[left] <= budget - spent - 1e-6).any()
    assert rows.tolist() == _within(strategy, budget, labeled, seed, **more).rows.tolist()


def test_equals_going_down_the_list_where_the_list_does_not_depend_on_n() -> None:
    rng = _rng(1)
    cost, uncertainty = rng.integers(1, 20, 200) / 4, rng.random(200).round(2)
    taken, left = [], 37.0
    for row in np.argsort(-uncertainty, kind="stable").tolist():
        if cost[row] <= left:
            taken.append(row)
            left -= cost[row]
    query = _within(_by_uncertainty, 37.0, np.zeros(200, dtype=bool), cost=cost, uncertainty=uncertainty)
    assert query.rows.tolist() == taken


def test_ten_times_a_tenth_is_one() -> None:
    assert len(_within(random_sampling, 1.0, np.zeros(20, dtype=bool), cost=np.full(20, 0.1))) == 10
    assert len(_within(random_sampling, 0.3, np.zeros(20, dtype=bool), cost=np.full(20, 0.1))) == 3


def test_a_budget_for_everything_takes_everything() -> None:
    assert sorted(_within(random_sampling, 1000).rows.tolist()) == [0, 1, 2, 3, 4, 5]


def test_limits_hold_over_the_whole_budget() -> None:
    # Asked for again and again, caps that count anew at every asking would let more than one of a patient through.
    samples = 40
    patient = np.arange(samples) // 10
    more = {"cost": np.ones(samples), "uncertainty": np.linspace(0, 1, samples), "patient": patient}
    within = partial(limited(_by_uncertainty, per_patient=2, no_overlap=False))
    rows = _within(within, 30, np.zeros(samples, dtype=bool), **more).rows
    assert rows.tolist() == [39, 38, 29, 28, 19, 18, 9, 8]


def test_refuses_a_budget_that_buys_nothing() -> None:
    with pytest.raises(
        SelectionError, match=r"budget is 0\.5 minutes, and the cheapest unlabeled sample costs 1\. Expe"
    ):
        _within(random_sampling, 0.5)
    with pytest.raises(SelectionError, match=r"the cheapest unlabeled sample costs 1\.5"):
        _within(random_sampling, 1.2, np.isin(np.arange(6), [1]))
    for minutes in (float("nan"), float("inf"), -1.0):
        with pytest.raises(SelectionError, match="budget is"):
            _within(random_sampling, minutes)


def test_refuses_what_the_limits_leave_nothing_of() -> None:
    more = {"volume": np.zeros(6, dtype=int), "bounds": np.tile([0, 0, 0, 4, 4, 4], (6, 1))}
    with pytest.raises(SelectionError, match="can be had within the limits"):
        _within(limited(random_sampling), 10, np.isin(np.arange(6), [0]), **more)


def test_refuses_samples_that_cost_nothing_unless_they_are_labeled() -> None:
    free = np.array([0.0, 1, 1, 1, 1, 1])
    with pytest.raises(SelectionError, match="cost is 0 minutes"):
        _within(random_sampling, 3, cost=free)
    assert len(_within(most_uncertain, 3, np.isin(np.arange(6), [0]), cost=free)) == 3
    assert len(_within(power_entropy, 3, np.isin(np.arange(6), [0]), cost=free)) == 3


def test_refuses_a_pool_that_is_labeled_and_evidence_without_cost() -> None:
    with pytest.raises(SelectionError, match="All 6 samples are labeled"):
        _within(random_sampling, 3, ~COLD)
    with pytest.raises(SelectionError, match="'random_sampling' needs cost"):
        select_within(random_sampling, {}, COLD, 3, rng=_rng())
