"""Uncertainty sampling in its plain form."""

import numpy as np

from nextmask.selection.types import Labeled, Query, Uncertainty, because


def most_uncertain(uncertainty: Uncertainty, labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Take the samples that the segmenter is least sure of, of equals the lowest row.

    Nothing keeps the query diverse: neighbouring slices of one difficult patient may fill it. Lewis and Gale, "A
    sequential algorithm for training text classifiers", SIGIR 1994, https://arxiv.org/abs/cmp-lg/9407020.
    """
    unlabeled = np.flatnonzero(~labeled)
    rows = unlabeled[np.argsort(-uncertainty[unlabeled], kind="stable")[:n]]
    sentence = "rank {rank} of {unlabeled} by uncertainty ({uncertainty:.3g})"
    return because(
        rows, sentence, rank=np.arange(1, n + 1), unlabeled=len(unlabeled), uncertainty=uncertainty[rows]
    )
