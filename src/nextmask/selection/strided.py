"""Every k-th sample: the baseline that a clinician would choose by hand."""

import numpy as np

from nextmask.selection.types import Labeled, Query, because


def strided(labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Space the query evenly over the unlabeled samples, in the order of the pool.

    Where the stride starts is drawn: with a fixed start, volumes of equal depth would yield the same slice every time.
    """
    unlabeled = np.flatnonzero(~labeled)
    # Whole numbers: in floating point a phase just below one could round onto the next sample.
    phase = rng.integers(len(unlabeled))
    rows = unlabeled[(np.arange(n) * len(unlabeled) + phase) // n]
    return because(rows, "every {stride:.3g}th of the unlabeled samples in the order of the pool", stride=len(unlabeled) / n)
