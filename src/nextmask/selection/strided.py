"""Every k-th sample: the baseline that a clinician would choose by hand."""

import numpy as np

from nextmask.selection.types import Labeled, Query, because


def strided(labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Space the query evenly over the unlabeled samples, in the order of the pool.

    Source: Burmeister et al., "Less is more: a comparison of active learning strategies for 3D medical image
    segmentation", 2022, https://arxiv.org/abs/2207.00845, which found it hard to beat.

    Adapted: one stride over the whole pool, so that every volume gets its share (theirs: within each volume). Where the stride
    starts is drawn: with a fixed start, volumes of equal depth would yield the same slice every time.

    Use: as the baseline that a clinician would choose by hand. Slices lie in the pool volume by volume and from one end to the
    other, so that the query is spread over patients and positions without knowing of either.

    Cost: O(N) time and memory.
    """
    unlabeled = np.flatnonzero(~labeled)
    # Whole numbers: in floating point a phase just below one could round onto the next sample.
    phase = rng.integers(len(unlabeled))
    rows = unlabeled[(np.arange(n) * len(unlabeled) + phase) // n]
    return because(
        rows, "every {stride:.3g}th of the unlabeled samples in the order of the pool", stride=len(unlabeled) / n
    )
