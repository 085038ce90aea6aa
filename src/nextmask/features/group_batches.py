"""Batches in which every slice meets mates of its groups, and no patient fills two places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np

from nextmask.features.unlabeled import Unlabeled


def group_batches(
    pool: Unlabeled, groupings: Sequence[str], batch_size: int, seed: Sequence[int]
) -> Iterator[np.ndarray]:
    """Yield rows of one batch after another without end: tuples of a slice and a mate for each grouping.

    ``groupings`` are of "adjacent" (a neighbouring slice), "volume" and "patient" (any other slice of it). Each slice is
    the first of its tuple once a pass. A batch holds tuples of different patients; a slice that has no mate of a kind goes
    without. What is left at the end of a pass, of too few patients for a batch, is dropped, unless the pool has no
    more patients than that.
    """
    mates = _Mates(pool)
    groupings = [name for name in groupings if any(mates.candidates(row, name) for row in range(len(pool)))]
    wanted = max(2, batch_size // (1 + len(groupings)))
    patients = len(np.unique(pool.patient))
    for number in _numbers():
        rng = np.random.default_rng([*seed, number])
        waiting: dict[int, list[int]] = defaultdict(list)
        for row in rng.permutation(len(pool)):
            waiting[int(pool.patient[row])].append(int(row))
        batches = _of_one_pass(waiting, min(wanted, patients), rng)
        for anchors in (batches[i] for i in rng.permutation(len(batches))):
            yield np.array([row for anchor in anchors for row in mates.of(anchor, groupings, rng)])


def _numbers() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


def _of_one_pass(waiting: dict[int, list[int]], wanted: int, rng: np.random.Generator) -> list[list[int]]:
    """Take a slice each of ``wanted`` different patients, as long as so many have one left."""
    batches = []
    while len(waiting) >= wanted:
        patients = list(waiting)
        # Those with most slices left first, of equals at random: else a few long scans would be left over.
        left = np.array([len(waiting[patient]) for patient in patients]) + rng.random(len(patients))
        anchors = [patients[i] for i in np.argsort(-left)[:wanted]]
        batches.append([waiting[patient].pop() for patient in anchors])
        waiting = {patient: rows for patient, rows in waiting.items() if rows}
    return batches


class _Mates:
    """Which slices belong together."""

    def __init__(self, pool: Unlabeled) -> None:
        self._pool = pool
        self._of_patient: dict[int, list[int]] = defaultdict(list)
        self._of_volume: dict[int, list[int]] = defaultdict(list)
        self._at: dict[tuple[int, int], int] = {}
        for row, (patient, volume, place) in enumerate(zip(pool.patient, pool.volume, pool.place, strict=True)):
            self._of_patient[int(patient)].append(row)
            self._of_volume[int(volume)].append(row)
            self._at[int(volume), int(place)] = row

    def of(self, row: int, groupings: Sequence[str], rng: np.random.Generator) -> list[int]:
        """Draw a tuple: the row and, for each grouping, a mate that is not in the tuple yet."""
        chosen = [row]
        for grouping in groupings:
            others = [other for other in self.candidates(row, grouping) if other not in chosen]
            chosen += [int(rng.choice(others))] if others else []
        return chosen

    def candidates(self, row: int, grouping: str) -> list[int]:
        """List all mates of a kind."""
        volume, place = int(self._pool.volume[row]), int(self._pool.place[row])
        if grouping == "adjacent":
            return [self._at[key] for key in ((volume, place - 1), (volume, place + 1)) if key in self._at]
        all_of_it = self._of_volume[volume] if grouping == "volume" else self._of_patient[int(self._pool.patient[row])]
        return [other for other in all_of_it if other != row]
