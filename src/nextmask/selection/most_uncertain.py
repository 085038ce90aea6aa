"""Uncertainty sampling in its plain form."""

import numpy as np

from nextmask.selection.budget import per_minute
from nextmask.selection.types import Cost, Labeled, Query, Uncertainty, because


def most_uncertain(
    uncertainty: Uncertainty, labeled: Labeled, n: int, *, rng: np.random.Generator, cost: Cost | None = None
) -> Query:
    """Take the samples that the segmenter is least sure of.

    Source: D. D. Lewis and W. A. Gale, "A sequential algorithm for training text classifiers", SIGIR 1994,
    https://arxiv.org/abs/cmp-lg/9407020.

    Faithful: the highest uncertainty first.

    Adapted: of equals the lowest row. With ``cost`` (minutes of each sample; a budget in minutes hands it over) the
    highest uncertainty per minute first.

    Use: once a segmenter is good enough that its doubts mean something, and as the baseline of every method that builds
    on uncertainty. In a study whose `proxy` is set it also answers before there is a segmenter: this is ProxyRank (Nath et al.,
    MICCAI 2022, https://arxiv.org/abs/2209.06285), by the entropy or, with measure = "variance", the variance of dropout
    passes; adapted: means over the predicted foreground, all classes, 10 passes.
    Nothing keeps the query diverse: neighbouring slices of one difficult patient may fill it, so set a
    spacing or a cap per patient, or take `power_entropy`.

    Cost: O(N log N) time, a few numbers per sample of memory.
    """
    unlabeled = np.flatnonzero(~labeled)
    gain = uncertainty[unlabeled] if cost is None else per_minute(uncertainty[unlabeled], cost[unlabeled])
    rows = unlabeled[np.argsort(-gain, kind="stable")[:n]]
    sentence = "rank {rank} of {unlabeled} by uncertainty" + (" per minute" if cost is not None else "")
    return because(
        rows,
        sentence + " ({uncertainty:.3g})",
        rank=np.arange(1, n + 1),
        unlabeled=len(unlabeled),
        uncertainty=uncertainty[rows],
    )
