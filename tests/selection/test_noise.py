"""Noise makes a top-n into a draw with known chances."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import chisquare

from nextmask.errors import SelectionError
from nextmask.selection import noisy

SCORES = np.array([0.2, 0.4, 0.3, 0.8])


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def _first(keys: np.ndarray) -> int:
    return int(np.argsort(-keys, kind="stable")[0])


def _pairs_expected(weights: np.ndarray) -> dict[tuple[int, int], float]:
    """The chance of every ordered pair, drawn without replacement in proportion to the weights."""
    share = weights / weights.sum()
    return {(a, b): share[a] * share[b] / (1 - share[a]) for a, b in permutations(range(len(weights)), 2)}


@pytest.mark.parametrize(
    ("kind", "beta", "weights"),
    [
        ("power", 1, SCORES),
        ("power", 3, SCORES**3),
        ("power", 0.25, SCORES**0.25),
        ("softmax", 2, np.exp(2 * SCORES)),
        ("softmax", 0.5, np.exp(0.5 * SCORES)),
    ],
)
def test_the_highest_two_are_a_draw_without_replacement(kind: str, beta: float, weights: np.ndarray) -> None:
    # The noise is independent, so that one call on many copies of the pool is as good as many calls.
    trials = 20_000
    keys = noisy(np.tile(SCORES, trials), beta, _rng(), kind).reshape(trials, len(SCORES))
    pairs, counts = np.unique(np.argsort(-keys, axis=1)[:, :2], axis=0, return_counts=True)
    expected = _pairs_expected(weights)
    chances = np.array([expected[int(a), int(b)] for a, b in pairs])
    assert len(pairs) == 12
    assert chisquare(counts, chances * trials).pvalue > 0.001


def test_softrank_draws_in_proportion_to_a_power_of_the_rank() -> None:
    rng, trials = _rng(), 1500
    counts = np.bincount([_first(noisy(SCORES, 2, rng, "softrank")) for _ in range(trials)], minlength=4)
    weights = np.array([4.0, 2.0, 3.0, 1.0]) ** -2
    assert chisquare(counts, trials * weights / weights.sum()).pvalue > 0.001


def test_softrank_gives_equals_the_same_chance() -> None:
    rng, trials = _rng(), 900
    counts = np.bincount([_first(noisy(np.array([0.5, 0.5, 0.5]), 4, rng, "softrank")) for _ in range(trials)])
    assert chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize("kind", ["power", "softmax", "softrank"])
def test_without_noise_it_is_the_order_of_the_scores_and_of_equals_the_lowest_row(kind: str) -> None:
    scores = np.array([0.3, 0.0, 0.9, 0.3, 0.0, 0.9])
    assert np.argsort(-noisy(scores, np.inf, _rng(), kind), kind="stable").tolist() == [2, 5, 0, 3, 1, 4]
    shuffled = _rng().permutation(1000) / 1000
    np.testing.assert_array_equal(np.argsort(-noisy(shuffled, 1e9, _rng(), kind)), np.argsort(-shuffled))


@pytest.mark.parametrize("kind", ["power", "softmax", "softrank"])
def test_beta_of_0_draws_uniformly(kind: str) -> None:
    trials, rng = 900, _rng()
    scores = np.array([0.0, 0.9, 0.1, 5.0])
    counts = np.bincount([_first(noisy(scores, 0, rng, kind)) for _ in range(trials)], minlength=4)
    assert chisquare(counts).pvalue > 0.001


@pytest.mark.parametrize("beta", [1e-3, 1, 50, 1e6])
def test_zeros_and_rounded_zeros_come_after_all_others_and_in_random_order(beta: float) -> None:
    scores = np.array([0.0, 5e-324, -1e-8, 1e-30, -0.0, 1.0])
    lasts = []
    for seed in range(300):
        keys = noisy(scores, beta, _rng(seed))
        assert np.isfinite(keys).all()
        order = np.argsort(-keys, kind="stable")
        assert set(order[:3].tolist()) == {1, 3, 5}
        lasts.append(int(order[-1]))
    assert chisquare(np.bincount(lasts, minlength=6)[[0, 2, 4]]).pvalue > 0.001


def test_mutual_information_that_is_negative_by_rounding_is_no_nan() -> None:
    # The published PowerBALD takes the log of these, and picks by NaN.
    rounded = np.array([-3e-8, 2e-8, -1e-7, 0.2], dtype=np.float32)
    assert np.isfinite(noisy(rounded, 1, _rng())).all()
    assert np.isfinite(noisy(rounded.astype(np.float16), 1, _rng())).all()


def test_softmax_depends_on_differences_only() -> None:
    scores = _rng(3).random(50)
    near, far = noisy(scores, 4, _rng(), "softmax"), noisy(scores + 1024, 4, _rng(), "softmax")
    np.testing.assert_array_equal(np.argsort(near), np.argsort(far))


def test_noise_comes_from_the_generator_that_is_handed_in_and_from_no_other() -> None:
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    once = noisy(SCORES, 1, _rng(7))
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(once, noisy(SCORES, 1, _rng(7)))
    np.random.seed(1)  # noqa: NPY002
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert not np.array_equal(once, noisy(SCORES, 1, _rng(8)))


def test_truly_negative_scores_are_refused_instead_of_drawn_uniformly() -> None:
    with pytest.raises(SelectionError, match=r"2 of 3 scores are negative, lowest -2\. Expected 0 or more.*softmax"):
        noisy(np.array([-1.0, -2.0, 3.0]), 1, _rng())
    assert _first(noisy(np.array([-1.0, -2.0, 3.0]), np.inf, _rng(), "softmax")) == 2


@pytest.mark.parametrize("beta", [-1.0, float("nan")])
def test_refuses_a_beta_that_is_none(beta: float) -> None:
    with pytest.raises(SelectionError, match="beta is"):
        noisy(SCORES, beta, _rng())


def test_refuses_another_kind() -> None:
    with pytest.raises(SelectionError, match=r"kind is 'gauss'. Expected one of power, softmax, softrank"):
        noisy(SCORES, 1, _rng(), "gauss")
