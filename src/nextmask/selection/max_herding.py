"""MaxHerding: coverage that fades with distance instead of ending at a radius."""

import numpy as np

from nextmask.errors import SelectionError
from nextmask.selection.geometry.coverage import Coverage, Similarity, greedy, some_targets
from nextmask.selection.geometry.groups import sorted_pool
from nextmask.selection.geometry.sketch import of_unit_length
from nextmask.selection.types import Cost, Embeddings, Labeled, Query, because


def max_herding(
    embeddings: Embeddings,
    labeled: Labeled,
    n: int,
    *,
    rng: np.random.Generator,
    length_scale: float = 1.0,
    references: int | None = None,
    cost: Cost | None = None,
) -> Query:
    """Take, one by one, the sample that most raises the pool's mean similarity to its nearest labeled or taken sample.

    Similarity is exp(-d^2 / ``length_scale``^2) of the distance d between embeddings of unit length. ``references``: how many
    random samples stand for the pool as what is to be represented; without it, all. Any sample may be taken. ``cost``
    (minutes): take what raises it most per minute.

    Source: Bae, Noh and Sutherland, "Generalized coverage for more robust low-budget active learning", ECCV 2024,
    https://arxiv.org/abs/2407.12212.

    Faithful: each embedding is divided by its length, from 0 and not from the pool's mean; the length scale is 1, as in the
    authors' runs; labeled samples count as taken, and as samples to be represented. The greedy maximum reaches at least
    1 - 1/e of what the best n samples could. Of equals the lowest row.

    Adapted: the whole pool is represented and chosen from (theirs: a random part of 35,000), unless ``references`` are asked
    for; their mean is then off by more than epsilon = sqrt(ln(n / 0.01) / 2m), m the references, for the best choices of 1, ...,
    n samples in 1 % of the draws (Hoeffding's inequality and a union bound). An embedding of zeros stays zero. Similarities
    are rounded to 12 digits, so that the order of a sum decides nothing.

    Use: wherever prob_cover is, without a radius to find. Embeddings that share a large offset point all the same way once
    they are divided by their length: take their mean off first, or give a smaller length scale.

    Cost: some N^2 p / 2 steps for sketches of p <= 128 coordinates (all d where a pool has no main axes), less with
    more labeled samples, as only samples nearer to each other than to a labeled one matter; and N p for each time that a sample
    comes closer to a pick. Without labels that is most of the pool for the first picks: on more than 20,000 samples ask for
    some 8,192 ``references`` then, which costs N m p. Memory beside the embeddings: 8 p bytes a sample, never all pairs.
    """
    if not 0 < length_scale < np.inf:
        raise SelectionError(
            f"length_scale is {length_scale}. Expected a distance above 0. Leave it out for the paper's 1."
        )
    similarity = Similarity(lambda squared: np.exp(-squared / length_scale**2))
    targets = some_targets(len(labeled), references, rng)
    coverage = Coverage(sorted_pool(of_unit_length(embeddings)), similarity, targets)
    for row in np.flatnonzero(labeled):
        coverage.add(int(row))
    before = coverage.best.mean()
    picks = greedy(coverage, ~labeled, n, cost)
    gain = np.array([pick.added for pick in picks]) / len(coverage.targets)
    closer = np.array([pick.closer for pick in picks])
    return because(
        [pick.row for pick in picks],
        "represents {closer} of {references} samples ({share:.1%}) better than any labeled or already chosen sample; "
        "mean similarity to the nearest of these rises by {gain:.2g} to {coverage:.3f} of 1",
        closer=closer,
        references=len(coverage.targets),
        share=closer / len(coverage.targets),
        gain=gain,
        coverage=np.minimum(before + np.cumsum(gain), 1),
    )
