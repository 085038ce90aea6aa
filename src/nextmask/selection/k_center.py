"""k-center greedy: cover the pool so that no sample is far from a labeled one."""

import numpy as np
from jaxtyping import Float, Shaped

from nextmask.errors import SelectionError
from nextmask.selection.types import Embeddings, Labeled, Query, because

FIRST = ("central", "random")
"""How the first sample of a pool without labels may be chosen."""

BLOCK = 4096
"""Rows per difference: what is held beside the embeddings is BLOCK x dims numbers and one per sample."""

Vector = Shaped[np.ndarray, " dims"]
Distances = Float[np.ndarray, " samples"]


def k_center(
    embeddings: Embeddings, labeled: Labeled, n: int, *, rng: np.random.Generator, first: str = "central"
) -> Query:
    """Take, one by one, the sample farthest from all labeled and already taken ones, of equals the lowest row.

    At most twice the optimal covering radius. Sener and Savarese, "Active learning for convolutional neural networks:
    a core-set approach", ICLR 2018, https://arxiv.org/abs/1708.00489: the greedy form, without their integer program.

    With nothing labeled the first sample is the one nearest to the pool's mean, or a random one (``first``).
    """
    nearest = _distance_to_labeled(embeddings, labeled)
    rows = np.empty(n, dtype=np.int64)
    for pick in range(n):
        started = pick > 0 or labeled.any()
        rows[pick] = np.argmax(nearest) if started else _first(embeddings, first, rng)
        np.minimum(nearest, _squared_distances(embeddings, embeddings[rows[pick]]), out=nearest)
        # Below every distance: on a pool of repeated samples all distances reach 0, and this row must not come again.
        nearest[rows[pick]] = -1.0
    return because(rows, "far from all labeled samples")


def _distance_to_labeled(embeddings: Embeddings, labeled: Labeled) -> Distances:
    nearest = np.full(len(embeddings), np.inf)
    for row in np.flatnonzero(labeled):
        np.minimum(nearest, _squared_distances(embeddings, embeddings[row]), out=nearest)
    nearest[labeled] = -1.0
    return nearest


def _squared_distances(embeddings: Embeddings, centre: Vector) -> Distances:
    # By differences: |x|^2 + |c|^2 - 2xc loses the digits that matter once the features share an offset.
    distances = np.empty(len(embeddings))
    for start in range(0, len(embeddings), BLOCK):
        difference = np.subtract(embeddings[start : start + BLOCK], centre, dtype=np.float64)
        distances[start : start + BLOCK] = np.einsum("ij,ij->i", difference, difference)
    return distances


def _first(embeddings: Embeddings, first: str, rng: np.random.Generator) -> int:
    if first not in FIRST:
        raise SelectionError(
            f"first is {first!r}. Expected one of {', '.join(FIRST)}. Leave it out for the central sample."
        )
    if first == "random":
        return int(rng.integers(len(embeddings)))
    return int(np.argmin(_squared_distances(embeddings, embeddings.mean(axis=0, dtype=np.float64))))
