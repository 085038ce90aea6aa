"""Uncertainty of the voxels that matter, by two rankings in turn."""

import numpy as np
from jaxtyping import Float

from nextmask.selection.types import Labeled, Query

WHERE = ("in what may be foreground", "near the boundaries between classes")
"""The voxels that each of the two scores is of."""


def selective_uncertainty(
    selective: Float[np.ndarray, "samples 2"], labeled: Labeled, n: int, *, rng: np.random.Generator
) -> Query:
    """Take in turn the sample least sure in what may be foreground, and the one least sure near the boundaries.

    A sample's two scores are the mean uncertainty of its voxels with a foreground probability of 0.1 or more, and of
    those where two classes are about equally likely; `measures.selective_scores` has the thresholds.

    Source: Ma, Wu, Lawlor and Dong, "Breaking the barrier: selective uncertainty-based active learning for medical image
    segmentation", 2024, https://arxiv.org/abs/2401.16298.

    Faithful: each score ranks the pool; the rankings take turns, the foreground first; a sample that was taken before
    uses up its turn.

    Adapted: goes on until n are taken (theirs stops after as many turns as there are samples, with fewer where the
    rankings agree). More than two classes: see `measures.selective_scores`. Of equals the lowest row.

    Use: from the second round on, where structures are small and the mean over an image would be mostly background.
    Not before a segmenter finds the structures at all. Nothing keeps the query diverse.

    Cost: sorts two scores: N log N time, a few numbers a sample.
    """
    unlabeled = np.flatnonzero(~labeled)
    order = np.argsort(-selective[unlabeled], axis=0, kind="stable")
    # Read across: first of one ranking, first of the other, second of the one, ...
    _, first_turns = np.unique(order, return_index=True)
    turns = np.sort(first_turns)[:n]
    rank, ranking = turns // 2 + 1, turns % 2
    rows = unlabeled[order.ravel()[turns]]
    score = selective[rows, ranking]
    reasons = (
        f"rank {place} of {len(unlabeled)} by uncertainty {WHERE[which]} ({value:.3g})"
        for place, which, value in zip(rank, ranking, score, strict=True)
    )
    return Query(rows, tuple(reasons), {"rank": rank, "ranking": ranking, "score": score})
