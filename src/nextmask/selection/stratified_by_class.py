"""A query of which every class has its share."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice, repeat

import numpy as np
from jaxtyping import Float, Int

from nextmask.errors import SelectionError
from nextmask.selection.noise import noisy, ranks
from nextmask.selection.types import Labeled, PerClass, Query, Rows, because, join

Scores = Float[np.ndarray, " samples"]

NO_SIGNAL = 1e-6
"""Class scores up to this are none: what is left of a class that the softmax all but rules out everywhere."""


def stratified_by_class(
    class_scores: PerClass,
    scores: Scores,
    labeled: Labeled,
    n: int,
    rng: np.random.Generator,
    *,
    share: float | int = 0.66,
    beta: float | int = math.inf,
) -> Query:
    """Take a share of the query evenly from the lists of all classes, and the rest from the list of all samples.

    Source: the class-stratified half of ClaSP PE, C. T. Lüth, J. Traub et al., TMLR 2026,
    https://arxiv.org/abs/2601.13677; see `clasp_pe`.

    Faithful: floor(share x n) samples are split evenly over the classes, the remainder goes to classes drawn at random,
    the rest comes from ``scores``. Each list is in the order of its scores with power noise (``beta``).

    Adapted: a class without any signal (no class score above 1e-6 in the whole pool, labeled samples included) is asked
    for all the same: its samples are drawn uniformly at random (theirs: whichever the noise ranks first, or none). A class
    with fewer candidates than its quota takes what it has, and the list of all samples fills up (theirs: an assertion
    fails). The classes take turns, in an order drawn at random, so that the beginning of a query is as even as the whole.

    ``class_scores`` has one column for each class of foreground; column 0 is class 1.
    """
    if not 0 <= share <= 1:
        raise SelectionError(f"share is {share}. Expected 0 to 1. Leave it out for the paper's 0.66.")
    of_classes = [_of_class(column + 1, scored, labeled, beta, rng) for column, scored in enumerate(class_scores.T)]
    lists = [*of_classes, _of_all(scores, labeled, beta, rng)]
    turns = _turns(math.floor(share * n + 1e-9), len(of_classes), rng)
    return _explained(lists, list(islice(_picks(lists, turns), n)))


@dataclass(frozen=True, eq=False)
class _List:
    """Rows in the order of one list's preference, and what to say of those that are taken from it."""

    rows: Rows
    sentence: str
    of_class: int
    score: Float[np.ndarray, " picks"]
    rank: Int[np.ndarray, " picks"] | None = None

    def explained(self, places: list[int]) -> Query:
        """Answer with the rows at these places."""
        rank = {} if self.rank is None else {"rank": self.rank[places]}
        numbers = {"of_class": self.of_class, "candidates": len(self.rows), "score": self.score[places], **rank}
        return because(self.rows[places], self.sentence, **numbers)


def _of_class(number: int, scores: Scores, labeled: Labeled, beta: float | int, rng: np.random.Generator) -> _List:
    unlabeled = np.flatnonzero(~labeled)
    if scores.max() <= NO_SIGNAL:
        sentence = (
            "for class {of_class}, which the segmenter predicts nowhere: drawn at random from {candidates} samples"
        )
        rows = rng.permutation(unlabeled)
        return _List(rows, sentence, number, scores[rows].astype(np.float64))
    sentence = "for class {of_class}: rank {rank} of {candidates} by the uncertainty of that class ({score:.3g})"
    return _ordered(unlabeled[scores[unlabeled] > NO_SIGNAL], scores, sentence, number, beta, rng)


def _of_all(scores: Scores, labeled: Labeled, beta: float | int, rng: np.random.Generator) -> _List:
    sentence = "for all classes: rank {rank} of {candidates} by uncertainty ({score:.3g})"
    return _ordered(np.flatnonzero(~labeled), scores, sentence, 0, beta, rng)


def _ordered(
    rows: Rows, scores: Scores, sentence: str, number: int, beta: float | int, rng: np.random.Generator
) -> _List:
    scored = scores[rows].astype(np.float64)
    order = np.argsort(-noisy(scored, beta, rng), kind="stable")
    by_chance = f"{sentence}, drawn with noise (beta {beta:.3g})" if beta < math.inf else sentence
    return _List(rows[order], by_chance, number, scored[order], ranks(scored)[order])


def _turns(total: int, classes: int, rng: np.random.Generator) -> Iterator[int]:
    """Let the classes take turns in random order, ``total`` turns in all."""
    order = rng.permutation(classes).tolist()
    return islice(cycle(order), total)


def _picks(lists: Sequence[_List], turns: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Yield (list, place in it) of one row for each turn, as far as its list goes, and then of the last list."""
    taken: set[int] = set()
    untaken = [((place, row) for place, row in enumerate(each.rows) if row not in taken) for each in lists]
    for turn in chain(turns, repeat(len(lists) - 1, len(lists[-1].rows))):
        for place, row in islice(untaken[turn], 1):
            taken.add(row)
            yield turn, place


def _explained(lists: Sequence[_List], picks: Sequence[tuple[int, int]]) -> Query:
    """Give each pick the reason of its list, in the order of the picks."""
    when = [[turn for turn, (source, _) in enumerate(picks) if source == of] for of in range(len(lists))]
    parts = [lists[of].explained([picks[turn][1] for turn in turns]) for of, turns in enumerate(when)]
    return join(parts).take(np.argsort(np.array(list(chain.from_iterable(when)), dtype=np.int64)))
