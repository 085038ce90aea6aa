"""Two rankings in turn."""

from __future__ import annotations

import numpy as np

from nextmask.selection.selective_uncertainty import selective_uncertainty

RNG = np.random.default_rng(0)


def _naive(selective: np.ndarray, labeled: np.ndarray, n: int) -> list[int]:
    """Sort twice, take turns, skip what was taken."""
    unlabeled = [row for row in range(len(labeled)) if not labeled[row]]
    rankings = [sorted(unlabeled, key=lambda row, of=of: (-selective[row, of], row)) for of in (0, 1)]
    rows: list[int] = []
    for turn in range(2 * len(unlabeled)):
        row = rankings[turn % 2][turn // 2]
        if row not in rows:
            rows.append(row)
    return rows[:n]


def test_takes_turns_and_skips_what_was_taken() -> None:
    selective = np.array([[0.9, 0.1], [0.8, 0.9], [0.1, 0.8], [0.2, 0.0]])
    query = selective_uncertainty(selective, np.zeros(4, bool), 4, rng=RNG)
    # Foreground: 0, 1, 3, 2. Boundary: 1, 2, 0, 3. The second turn of the foreground is used up by row 1.
    assert query.rows.tolist() == [0, 1, 2, 3]
    assert query.numbers["ranking"].tolist() == [0, 1, 1, 0]
    assert query.reasons[0] == "rank 1 of 4 by uncertainty in what may be foreground (0.9)"
    assert query.reasons[2] == "rank 2 of 4 by uncertainty near the boundaries between classes (0.8)"


def test_all_are_had_even_where_the_rankings_agree() -> None:
    """As many turns as there are samples, as the public code has it, would give half of them."""
    agreed = np.repeat(np.arange(10.0)[:, None], 2, axis=1)
    assert selective_uncertainty(agreed, np.zeros(10, bool), 10, rng=RNG).rows.tolist() == list(range(9, -1, -1))


def test_the_same_picks_as_the_naive_way() -> None:
    for samples in (1, 2, 7, 60):
        for scores in (RNG.random((samples, 2)), RNG.random((samples, 2)).round(1), np.zeros((samples, 2))):
            labeled = np.arange(samples) % 5 == 4
            unlabeled = int((~labeled).sum())
            for n in {1, (unlabeled + 1) // 2, unlabeled}:
                query = selective_uncertainty(scores, labeled, n, rng=RNG)
                assert query.rows.tolist() == _naive(scores, labeled, n)
