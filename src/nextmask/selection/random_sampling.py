"""Uniform random sampling: the baseline that every strategy has to beat."""

import numpy as np

from nextmask.selection.types import Labeled, Query


def random_sampling(labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Draw unlabeled samples uniformly, without replacement."""
    return rng.choice(np.flatnonzero(~labeled), n, replace=False)
