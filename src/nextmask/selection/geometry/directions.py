"""Samples as directions from the pool's mean: unit vectors, whose products are cosines, made block by block."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from nextmask.selection.geometry.side_by_side import side_by_side, slices
from nextmask.selection.types import Embeddings

BLOCK = 1024
"""Rows that are held as float64 at a time."""

SMALL_POOL = 20_000
"""Samples of which a float64 copy is affordable."""

NO_LENGTH = 1e-12
"""A sample nearer to the mean than this share of the mean's own length is the mean itself, but for rounding."""

Block = Float[np.ndarray, "rows dims"]


@dataclass(frozen=True, eq=False)
class Directions:
    """Embeddings seen from their mean; a sample that lies on the mean has direction 0, and cosine 0 with all others."""

    embeddings: Embeddings
    mean: Float[np.ndarray, " dims"]
    length: Float[np.ndarray, " samples"]

    def rows(self, rows: slice | np.ndarray) -> Float[np.ndarray, "some dims"]:
        """Make the unit vectors of some rows, float64."""
        centred = np.subtract(self.embeddings[rows], self.mean, dtype=np.float64)
        length = self.length[rows, None]
        return np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)

    def each(self, work: Callable[[slice, Block], None]) -> None:
        """Do some work on all unit vectors, BLOCK rows at a time, on all cores; what comes out is the same on any number."""
        with side_by_side() as run:
            list(run(lambda block: work(block, self.rows(block)), slices(len(self.length), BLOCK)))

    def whole(self) -> Float[np.ndarray, "samples dims"]:
        """Make all unit vectors at once: float64 of a small pool, float32 of a large one."""
        units = np.empty(self.embeddings.shape, dtype=np.float64 if len(self.length) <= SMALL_POOL else np.float32)
        self.each(units.__setitem__)
        return units


def directions(embeddings: Embeddings) -> Directions:
    """Look at the samples from the middle of the pool."""
    mean = embeddings.mean(axis=0, dtype=np.float64)
    length = np.empty(len(embeddings))
    for block in slices(len(embeddings), BLOCK):
        centred = np.subtract(embeddings[block], mean, dtype=np.float64)
        length[block] = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    length[length <= NO_LENGTH * np.sqrt(mean @ mean)] = 0
    return Directions(embeddings, mean, length)


def mean_cosine(seen: Directions, cluster: Int[np.ndarray, " samples"]) -> Float[np.ndarray, " samples"]:
    """Average each sample's cosines with the members of its cluster, itself included, in time linear in the members.

    The mean of cosines with a set is the product with the mean of the set's unit vectors: no pair is ever looked at.
    """
    means = _means(seen, cluster)
    cosines = np.empty(len(cluster))

    def work(block: slice, unit: Block) -> None:
        cosines[block] = np.einsum("ij,ij->i", unit, means[cluster[block]])

    seen.each(work)
    return cosines


def _means(seen: Directions, cluster: Int[np.ndarray, " samples"]) -> Float[np.ndarray, "clusters dims"]:
    """Average the unit vectors of each cluster."""
    size = np.bincount(cluster)
    sums = np.zeros((len(size), len(seen.mean)))
    for block in slices(len(cluster), BLOCK):
        own = cluster[block]
        member = csr_array((np.ones(len(own)), own, np.arange(len(own) + 1)), shape=(len(own), len(size)))
        sums += member.T @ seen.rows(block)
    return sums / np.maximum(size, 1)[:, None]
