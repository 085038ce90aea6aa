"""Uniform random sampling: the baseline that every strategy has to beat."""

import numpy as np

from nextmask.selection.types import Labeled, Query, because


def random_sampling(labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Draw unlabeled samples uniformly, without replacement.

    Source: none; the control of every study of active learning.

    Faithful: every set of n unlabeled samples is as likely as any other.

    Use: beside any other strategy, with several seeds: in 3D segmentation few strategies beat it by more than its own spread.
    As the only strategy where a test set has to stand for the pool.

    Cost: O(N) time and memory.
    """
    rows = rng.choice(np.flatnonzero(~labeled), n, replace=False)
    return because(rows, "drawn at random from {unlabeled} unlabeled samples", unlabeled=np.count_nonzero(~labeled))
