"""Uniform random sampling: the baseline that every strategy has to beat."""

import numpy as np

from nextmask.selection.types import Labeled, Query, because


def random_sampling(labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Draw unlabeled samples uniformly, without replacement."""
    rows = rng.choice(np.flatnonzero(~labeled), n, replace=False)
    return because(rows, "drawn at random from {unlabeled} unlabeled samples", unlabeled=np.count_nonzero(~labeled))
