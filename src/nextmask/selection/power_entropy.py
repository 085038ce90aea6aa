"""Entropy with power noise (PowerPE)."""

import numpy as np

from nextmask.selection.budget import per_minute
from nextmask.selection.noise import draw
from nextmask.selection.schedules import Dial, at
from nextmask.selection.types import Cost, Labeled, Query, Uncertainty


def power_entropy(
    uncertainty: Uncertainty,
    labeled: Labeled,
    n: int,
    *,
    rng: np.random.Generator,
    beta: Dial = 1.0,
    kind: str = "power",
    cost: Cost | None = None,
) -> Query:
    """Draw samples at random, the likelier the less sure the segmenter is.

    Source: A. Kirsch et al., "Stochastic batch acquisition: a simple baseline for deep active learning", TMLR 2023,
    https://arxiv.org/abs/2106.12059; on the entropy of patches: nnActive, TMLR 2025, https://arxiv.org/abs/2511.19183.

    Faithful: chances in proportion to uncertainty^beta, without replacement, by Gumbel noise of scale 1/beta on the log
    of each sample's mean; beta is 1. Noise on the voxels instead would average out.

    Adapted: samples without any uncertainty come after all others. ``beta`` may be a schedule of the labeled share of
    the pool. With ``cost`` (minutes of each sample) the uncertainty per minute is drawn by.

    Options: ``beta`` is 0 for a uniform draw and inf for the n least certain; 5 to 40 were tried in the paper on
    patches. ``kind`` is "power", "softmax" (exp(beta s), where beta has to fit the scale) or "softrank" (rank^-beta).

    Use: a sound default once a segmenter is trained: nearly as greedy as `most_uncertain`, and not filled by the slices
    of one difficult patient.

    Cost: O(N log N) time, a few numbers per sample of memory.
    """
    scores = uncertainty if cost is None else per_minute(uncertainty, np.where(labeled, 1.0, cost))
    name = "uncertainty" if cost is None else "uncertainty per minute"
    return draw(scores, labeled, n, at(beta, labeled.mean()), rng, kind, name)
