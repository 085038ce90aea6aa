"""Who beats whom at how many budgets: the pairwise penalty matrix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nextmask.errors import StudyError
from nextmask.statistics.paired import Array, Scores, holm, pair, paired_t_test


@dataclass(frozen=True, eq=False)
class PenaltyMatrix:
    """Row i, column j: the share of budgets at which strategy ``names[i]`` beats ``names[j]``, 0 to 1.

    ``wins`` is (strategies, strategies), 0 on the diagonal and NaN for two strategies without a common budget.
    ``budgets`` counts, in the same places, the budgets that both have with at least two common seeds.
    """

    names: tuple[str, ...]
    wins: Array
    budgets: Array

    @property
    def beats(self) -> Array:
        """Average each row over the other strategies: the higher, the more it beats them."""
        return self._over_others(axis=1)

    @property
    def beaten(self) -> Array:
        """Average each column over the other strategies: the lower, the less it is beaten."""
        return self._over_others(axis=0)

    def _over_others(self, axis: int) -> Array:
        compared = self.budgets > 0
        counts = compared.sum(axis)
        sums = np.where(compared, self.wins, 0.0).sum(axis)
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def penalty_matrix(scores: Mapping[str, Scores], *, alpha: float = 0.05, corrected: bool = False) -> PenaltyMatrix:
    """Count at how many budgets each strategy beats each other one by a paired t-test over their common seeds.

    Source: J. T. Ash et al., "Deep batch active learning by diverse, uncertain gradient lower bounds", ICLR 2020,
    https://arxiv.org/abs/1906.03671, as read by nnActive, https://arxiv.org/abs/2511.19183: two-sided, ``alpha`` 0.05.

    Mended: seeds are paired by name, not by order; a pair's wins are divided by the budgets that this very pair was tested
    at, so that 1 is the maximum whatever a strategy skipped.

    ``scores`` have budgets; patients, where there are any, are averaged. ``corrected`` applies Holm's correction over
    all pairs and budgets. Raises StudyError for fewer than two strategies, or scores without budgets.
    """
    _check(scores)
    names = tuple(scores)
    tests = [test for i, j in combinations(range(len(names)), 2) for test in _tests(scores, names, i, j)]
    p = np.array([test[2] for test in tests])
    significant = (holm(p) if corrected else p) < alpha
    counts = np.zeros((2, len(names), len(names)), dtype=np.int64)
    for (winner, loser, _), won in zip(tests, significant, strict=True):
        counts[0, winner, loser] += won
        counts[1, [winner, loser], [loser, winner]] += 1
    wins = np.where(counts[1] > 0, counts[0] / np.maximum(counts[1], 1), np.nan)
    np.fill_diagonal(wins, 0.0)
    return PenaltyMatrix(names, wins, counts[1])


def _tests(scores: Mapping[str, Scores], names: tuple[str, ...], i: int, j: int) -> list[tuple[int, int, float]]:
    """Test two strategies at every budget that both have: who is ahead, who is behind, p."""
    one, other = pair(scores[names[i]], scores[names[j]])
    if len(one) < 2 or not one.size:
        return []
    at_budgets = zip(_by_budget(one), _by_budget(other), strict=True)
    return [(*((i, j) if a.mean() > b.mean() else (j, i)), paired_t_test(a, b)) for a, b in at_budgets]


def _by_budget(values: Array) -> Array:
    """Turn (seeds, budgets) or (seeds, budgets, patients) into (budgets, seeds)."""
    return values.mean(2).T if values.ndim == 3 else values.T


def _check(scores: Mapping[str, Scores]) -> None:
    bare = [name for name, each in scores.items() if not each.budgets]
    if len(scores) < 2 or bare:
        raise StudyError(
            f"a penalty matrix was asked for of {len(scores)} strategies, {len(bare)} of them without budgets. Expected "
            "at least two, each with scores by seed and budget. Give the whole curves instead of one number a seed."
        )
