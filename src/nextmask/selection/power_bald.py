"""Mutual information with power noise (PowerBALD)."""

import numpy as np

from nextmask.selection.budget import per_minute
from nextmask.selection.noise import draw
from nextmask.selection.schedules import Dial, at
from nextmask.selection.types import Cost, Labeled, Query, Uncertainty


def power_bald(
    mutual_information: Uncertainty,
    labeled: Labeled,
    n: int,
    *,
    rng: np.random.Generator,
    beta: Dial = 1.0,
    kind: str = "power",
    cost: Cost | None = None,
) -> Query:
    """Draw samples at random, the likelier the more the members of an ensemble contradict one another.

    Source: A. Kirsch et al., "Stochastic batch acquisition: a simple baseline for deep active learning", TMLR 2023,
    https://arxiv.org/abs/2106.12059; the score: N. Houlsby et al., "Bayesian active learning for classification and
    preference learning", 2011, https://arxiv.org/abs/1112.5745.

    Faithful: chances in proportion to (mutual information)^beta, without replacement, by Gumbel noise of scale 1/beta on
    the log of each sample's mean; beta is 1.

    Adapted: mutual information of 0, or below by rounding, comes after all other (its log would be no number). ``beta``
    may be a schedule of the labeled share of the pool. With ``cost`` (minutes of each sample) the mutual information per
    minute is drawn by.

    Options: ``beta`` and ``kind`` as in `power_entropy`; kind="softrank" is SoftrankBALD.

    Use: where an ensemble or dropout is at hand, and what no further label can settle (blurred borders, noise) should
    not be asked for: members that are unsure together have no mutual information.

    Cost: O(N log N) time, a few numbers per sample of memory.
    """
    scores = mutual_information if cost is None else per_minute(mutual_information, np.where(labeled, 1.0, cost))
    name = "mutual information" if cost is None else "mutual information per minute"
    return draw(scores, labeled, n, at(beta, labeled.mean()), rng, kind, name)
