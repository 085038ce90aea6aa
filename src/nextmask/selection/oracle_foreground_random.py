"""Random sampling that aims at foreground: where the truth has it. A control for simulations that looks at the answers."""

import numpy as np

from nextmask.selection.predicted_foreground_random import aimed
from nextmask.selection.types import Labeled, PerClass, Query, Volume


def oracle_foreground_random(
    true_class_share: PerClass,
    volume: Volume,
    labeled: Labeled,
    n: int,
    *,
    rng: np.random.Generator,
    share: float = 2 / 3,
) -> Query:
    """Draw samples at random, most of them by a voxel that is foreground in the hidden masks: it reads the truth.

    Each pick is aimed with a chance of ``share``, and uniform otherwise; see `predicted_foreground_random`, whose rule it
    is. Outside of simulations it is refused: there the masks that it reads have not been drawn.

    Source: "Random 66 % FG" of nnActive, 2025, https://arxiv.org/abs/2511.19183, whose patches are placed by the ground truth.

    Adapted: as in `predicted_foreground_random`.

    Use: in simulations only, as a bound for what knowing where structures are is worth: a reader who looks through every
    image first, at no cost. Never as a starting set of other strategies, nor as "random".

    Cost: reads every mask of the pool once a simulation; then O(N log N + n m) time for m samples a case, O(N) memory.
    """
    return aimed(true_class_share, volume, labeled, n, rng, share, "known")
