"""k-center greedy: cover the pool so that no sample is far from a labeled one."""

import numpy as np

from nextmask.errors import SelectionError
from nextmask.selection.geometry.farthest_first import Centres, Chain, farthest_first, squared_distances
from nextmask.selection.types import Embeddings, Labeled, Query, because, join

FIRST = ("central", "random")
"""How the first sample of a pool without labels may be chosen."""


def k_center(
    embeddings: Embeddings, labeled: Labeled, n: int, *, rng: np.random.Generator, first: str = "central"
) -> Query:
    """Take, one by one, the sample farthest from all labeled and already taken ones.

    ``first``: how to begin where nothing is labeled: "central" takes the sample nearest to the mean of the pool, "random"
    any sample.

    Source: Sener and Savarese, "Active learning for convolutional neural networks: a core-set approach", ICLR 2018,
    https://arxiv.org/abs/1708.00489. The greedy rule is that of Gonzalez, "Clustering to minimize the maximum intercluster
    distance", Theoretical Computer Science 1985, https://doi.org/10.1016/0304-3975(85)90224-5.

    Faithful: Euclidean distance between embeddings as they are; labeled samples are centres from the beginning; the largest
    distance of any sample to the nearest centre ends up at most twice the smallest possible. Of equals the lowest row.

    Adapted: the greedy form alone, without the integer program that trades outliers for a smaller radius. On a pool without
    labels the first sample is the central one, so that the query does not depend on chance (theirs: a random labeled set).

    Use: when every kind of image in the pool should be seen, rare ones first. Not where the pool holds broken images or
    artefacts, which are far from everything and are asked for first.

    Cost: exact, but few distances are computed: a sample is looked at again only if it may be the farthest. At worst
    N (labeled + n) d steps; that is where all distances are alike (noise of full rank) and thousands are labeled. Memory
    beside the embeddings, which may be a memory map: some 24 bytes a sample, a copy of n + 256 rows and a table of 16 MB at
    most; embeddings of half precision are copied to single. Large pools need numba, which compiles for some seconds once;
    without it the same samples are found at the cost of the worst case.
    """
    _refuse_unknown(first)
    start = None if labeled.any() else first_of(embeddings, first, rng)
    chain = farthest_first(embeddings, labeled, n, Centres(embeddings, np.flatnonzero(labeled)), start)
    return explained(chain)


def explained(chain: Chain) -> Query:
    """Say of each sample how far it was from all before, and what radius it leaves."""
    begun = int(np.count_nonzero(np.isinf(chain.distance)))
    opening = because(
        chain.rows[:begun],
        "begins the cover of a pool without labels; the farthest sample lies {radius:.3g} from it",
        radius=chain.radius[:begun],
    )
    sentence = (
        "least like all labeled or already chosen samples: {distance:.3g} from the nearest; "
        "with it, no sample is farther than {radius:.3g} from one of them"
    )
    following = because(chain.rows[begun:], sentence, distance=chain.distance[begun:], radius=chain.radius[begun:])
    return join([opening, following])


def first_of(embeddings: Embeddings, first: str, rng: np.random.Generator) -> int:
    """Choose the row that begins a pool without labels."""
    if first == "random":
        return int(rng.integers(len(embeddings)))
    return int(np.argmin(squared_distances(embeddings, embeddings.mean(axis=0, dtype=np.float64))))


def _refuse_unknown(first: str) -> None:
    if first not in FIRST:
        raise SelectionError(
            f"first is {first!r}. Expected one of {', '.join(FIRST)}. Leave it out for the central sample."
        )
