"""The best of many random batches."""

import numpy as np
from jaxtyping import Float

from nextmask.selection.types import Labeled, Query, because


def stochastic_batches(
    scores: Float[np.ndarray, " samples"], labeled: Labeled, n: int, rng: np.random.Generator
) -> Query:
    """Cut the unlabeled samples at random into batches of n, and take the batch with the highest mean score.

    Source: M. Gaillochet, C. Desrosiers and H. Lombaert, "Active learning for medical image segmentation with stochastic
    batches", Medical Image Analysis 2023, https://arxiv.org/abs/2301.07670.

    Faithful: one shuffle, every sample in at most one batch, those left over in none.

    Adapted: the batch's samples are in the order of their scores; of equal batches the first drawn.
    """
    unlabeled = np.flatnonzero(~labeled)
    count = len(unlabeled) // n
    batches = rng.permutation(unlabeled)[: count * n].reshape(count, n)
    means = scores[batches].mean(axis=1, dtype=np.float64)
    best = int(np.argmax(means))
    rows = batches[best][np.lexsort((batches[best], -scores[batches[best]]))]
    sentence = "in the best of {batches} random batches (mean {batch_mean:.3g}), itself {score:.3g}"
    return because(rows, sentence, batches=count, batch_mean=means[best], score=scores[rows])
