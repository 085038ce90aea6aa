"""Stochastic batches on the segmenter's entropy."""

import numpy as np

from nextmask.selection.stochastic_batches import stochastic_batches
from nextmask.selection.types import Labeled, Query, Uncertainty


def stochastic_batches_entropy(
    uncertainty: Uncertainty, labeled: Labeled, n: int, *, rng: np.random.Generator
) -> Query:
    """Cut the unlabeled samples at random into batches of n, and take the batch that is least sure on average.

    Source: M. Gaillochet, C. Desrosiers and H. Lombaert, "Active learning for medical image segmentation with stochastic
    batches", Medical Image Analysis 2023, https://arxiv.org/abs/2301.07670.

    Faithful: one shuffle of the pool, batches of n, the one with the highest mean uncertainty; samples left over are in
    no batch.

    Adapted: the uncertainty is the mean entropy over the predicted foreground (theirs: over the whole slice). The batch
    is sorted by uncertainty; of equal batches the first drawn, of equal samples the lowest row.

    Use: in place of `most_uncertain` where neighbouring slices look alike: random batches are diverse, and choosing
    among them costs nothing. With fewer than 2n unlabeled samples there is one batch, and the query is random.

    Cost: O(N + n log n) time, a few numbers per sample of memory.
    """
    return stochastic_batches(uncertainty, labeled, n, rng)
