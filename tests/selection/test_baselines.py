"""The claims of random, strided, stratified_random and most_uncertain."""

from __future__ import annotations

import numpy as np
from scipy.stats import chisquare

from nextmask.selection import most_uncertain, random_patients, random_sampling, stratified_random, strided


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_random_draws_every_unlabeled_row_equally_often() -> None:
    labeled = np.isin(np.arange(12), [0, 5])
    drawn = np.concatenate([random_sampling(labeled, 3, rng=_rng(seed)).rows for seed in range(2000)])
    counts = np.bincount(drawn, minlength=12)
    assert counts[[0, 5]].sum() == 0
    assert chisquare(counts[~labeled]).pvalue > 0.001


def test_strided_steps_evenly_over_the_unlabeled() -> None:
    labeled = np.arange(100) < 40
    for seed in range(20):
        rows = strided(labeled, 7, rng=_rng(seed)).rows
        assert set(np.diff(rows).tolist()) <= {8, 9}
        assert rows[0] - 40 + 99 - rows[-1] <= 9


def test_strided_starts_anywhere_so_that_every_row_has_its_chance() -> None:
    drawn = np.concatenate([strided(np.zeros(30, dtype=bool), 4, rng=_rng(seed)).rows for seed in range(3000)])
    assert chisquare(np.bincount(drawn, minlength=30)).pvalue > 0.001


def test_stratified_touches_every_patient_before_any_twice() -> None:
    # Patient numbers with gaps, and very unequal patients.
    patient = np.repeat([3, 8, 9, 20], [50, 5, 30, 2])
    position = np.concatenate([np.linspace(0, 1, count) for count in (50, 5, 30, 2)])
    rows = stratified_random(patient, position, np.zeros(87, dtype=bool), 8, rng=_rng()).rows
    assert sorted(patient[rows[:4]].tolist()) == [3, 8, 9, 20]
    assert sorted(patient[rows[4:]].tolist()) == [3, 8, 9, 20]


def test_stratified_counts_what_is_labeled_already() -> None:
    patient = np.repeat([0, 1, 2], 10)
    labeled = np.isin(np.arange(30), [0, 1, 10])
    rows = stratified_random(patient, np.tile(np.linspace(0, 1, 10), 3), labeled, 3, rng=_rng()).rows
    assert sorted(patient[rows].tolist()) == [1, 2, 2]


def test_stratified_spreads_positions_within_a_patient_and_over_patients() -> None:
    position = np.tile((np.arange(20) + 0.5) / 20, 4)
    patient = np.repeat(np.arange(4), 20)
    for seed in range(10):
        one = stratified_random(np.zeros(80, dtype=int), position, np.zeros(80, dtype=bool), 4, rng=_rng(seed)).rows
        assert sorted((position[one] * 4).astype(int).tolist()) == [0, 1, 2, 3]
        all_four = stratified_random(patient, position, np.zeros(80, dtype=bool), 16, rng=_rng(seed)).rows
        assert sorted((position[all_four[:4]] * 4).astype(int).tolist()) == [0, 1, 2, 3]
        for person in range(4):
            of_person = all_four[patient[all_four] == person]
            assert sorted((position[of_person] * 4).astype(int).tolist()) == [0, 1, 2, 3]


def test_stratified_is_random_within_the_stratum() -> None:
    position = np.full(10, 0.1)
    drawn = [
        stratified_random(np.zeros(10, dtype=int), position, np.zeros(10, dtype=bool), 1, rng=_rng(s)).rows
        for s in range(2000)
    ]
    assert chisquare(np.bincount(np.concatenate(drawn), minlength=10)).pvalue > 0.001


def test_most_uncertain_takes_the_top_and_of_equals_the_lowest_row() -> None:
    uncertainty = np.array([0.9, 0.2, 0.7, 0.7, 0.1, 0.7])
    labeled = np.isin(np.arange(6), [0])
    assert most_uncertain(uncertainty, labeled, 4, rng=_rng()).rows.tolist() == [2, 3, 5, 1]


def test_whole_patients_are_taken_and_those_begun_are_finished_first() -> None:
    patient = np.repeat([3, 1, 2, 7], 5)
    nothing = np.zeros(20, dtype=bool)
    rows = random_patients(patient, nothing, 12, rng=_rng()).rows
    counts = [int((patient[rows] == one).sum()) for one in np.unique(patient)]
    assert sorted(counts) == [0, 2, 5, 5]
    last = patient[rows][-1]
    assert rows[-2:].tolist() == np.flatnonzero(patient == last)[:2].tolist()
    begun = nothing.copy()
    begun[6] = True
    for seed in range(8):
        assert sorted(random_patients(patient, begun, 4, rng=_rng(seed)).rows.tolist()) == [5, 7, 8, 9]
    first = {int(patient[random_patients(patient, nothing, 1, rng=_rng(seed)).rows[0]]) for seed in range(60)}
    assert first == {1, 2, 3, 7}
