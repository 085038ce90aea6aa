"""Random sampling, spread over patients and over the length of the body."""

import numpy as np

from nextmask.selection.types import Labeled, Patient, Position, Query, because


def stratified_random(
    patient: Patient, position: Position, labeled: Labeled, n: int, *, rng: np.random.Generator, strata: int = 4
) -> Query:
    """Draw at random, one by one, always where the least has been taken: first by patient, then by position.

    Each sample comes from a patient of whom the fewest samples are labeled or already drawn; in that patient from the
    stratum of position (``strata`` equal parts of 0..1) with the fewest, of equals the one with the fewest in all
    patients. What is equal after that is drawn uniformly.

    Source: none; stratified sampling as survey statistics has it, by patient and place along the body.

    Adapted: strata are filled one sample at a time, so that any n is as even as it can be, and labeled samples of earlier
    rounds count as taken.

    Use: as the rival of whatever spreads samples over patients by looking at the images. It costs nothing and is a better
    control than plain random sampling for slices, of which a few patients may otherwise give most.

    Cost: O(N log N + n p) time for p patients, O(N) memory.
    """
    _, who = np.unique(patient, return_inverse=True)
    where = np.clip((position * strata).astype(np.int64), 0, strata - 1)
    taken = _count(who, where, labeled, strata)
    free = _count(who, where, ~labeled, strata)
    waiting = _shuffled_by_cell(who * strata + where, labeled, rng)
    rows, before = np.empty((2, n), dtype=np.int64)
    stratum = np.empty(n, dtype=np.int64)
    for pick in range(n):
        person = _fewest(taken.sum(axis=1), free.sum(axis=1) > 0, rng)
        # "Fewest in this patient, of equals fewest in all" as one number: the second term stays below one of the first.
        crowding = taken[person] * (taken.sum() + 1) + taken.sum(axis=0)
        part = _fewest(crowding, free[person] > 0, rng)
        rows[pick] = waiting[person * strata + part].pop()
        before[pick], stratum[pick] = taken[person].sum(), part
        taken[person, part] += 1
        free[person, part] -= 1
    sentence = "drawn from a patient with {of_patient} samples so far, in part {part} of {strata} of the body"
    return because(rows, sentence, of_patient=before, part=stratum + 1, strata=strata)


def _count(who: np.ndarray, where: np.ndarray, counted: np.ndarray, strata: int) -> np.ndarray:
    """Count samples by patient and stratum, (patients, strata) int."""
    counts = np.zeros((who.max() + 1, strata), dtype=np.int64)
    np.add.at(counts, (who[counted], where[counted]), 1)
    return counts


def _shuffled_by_cell(cell: np.ndarray, labeled: np.ndarray, rng: np.random.Generator) -> dict[int, list[int]]:
    waiting: dict[int, list[int]] = {}
    for row in rng.permutation(np.flatnonzero(~labeled)):
        waiting.setdefault(int(cell[row]), []).append(int(row))
    return waiting


def _fewest(counts: np.ndarray, allowed: np.ndarray, rng: np.random.Generator) -> int:
    """Choose at random among the allowed entries with the lowest count."""
    return int(rng.choice(np.flatnonzero(allowed & (counts == counts[allowed].min()))))
