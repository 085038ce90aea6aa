"""Short coordinates of samples whose distances are never above the true ones: they prune a search and decide nothing."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from nextmask.selection.geometry.rounding import rounding_error
from nextmask.selection.geometry.side_by_side import side_by_side, slices

ROWS = 512
"""Rows that are read and converted at a time: in float64 they stay in the processor's cache."""

SAMPLE = 2**21
"""Numbers (rows x dims) from which the axes are learnt: any axes give true bounds, the principal ones give tight ones."""

WIDEST = 128
"""Coordinates at most: beyond it, products of sketches cost more than the distances that they save."""

EXPLAINED_BY_FEW = 0.9
"""Share of the variance that so many coordinates must explain; or else bounds from them would rule out next to nothing."""

WIDEST_OF_ALL = 512
"""Coordinates at most where they explain less and not all can be held."""

MOST_NUMBERS = 2**26
"""Numbers (samples x coordinates) that may be held where they explain less, 256 MB: all coordinates of points, if possible."""

EXPLAINED = 0.99
"""Share of the variance beyond which further axes are not worth their cost."""

LONGEST = 2040
"""Length of the longest sketch: then all sums in a product of two are whole numbers below 2^24, exact in float32."""

LOST = 2.0**-21
"""Twice the share of its length by which a point that is scaled and stored in float32 may move, with some room."""

Vectors = Float[np.ndarray, "some dims"]


@dataclass(frozen=True, eq=False)
class Points:
    """Rows of embeddings as points: as they are, or of length 1 (a row of zeros stays zero). Read in blocks, never copied."""

    embeddings: Float[np.ndarray, "samples dims"]
    inverse_lengths: Float[np.ndarray, " samples"]

    def __len__(self) -> int:
        return len(self.embeddings)

    def at(self, rows: Int[np.ndarray, " some"] | slice) -> Vectors:
        """Read these rows in float64."""
        return self.embeddings[rows].astype(np.float64) * self.inverse_lengths[rows, None]


def as_they_are(embeddings: Float[np.ndarray, "samples dims"]) -> Points:
    """Take the rows as points."""
    return Points(np.asarray(embeddings), np.ones(len(embeddings)))


def of_unit_length(embeddings: Float[np.ndarray, "samples dims"]) -> Points:
    """Divide every row by its length."""
    lengths = [np.linalg.norm(embeddings[block].astype(np.float64), axis=1) for block in slices(len(embeddings), ROWS)]
    length = np.concatenate(lengths)
    return Points(np.asarray(embeddings), np.divide(1.0, length, out=np.zeros_like(length), where=length > 0))


@dataclass(frozen=True, eq=False)
class Sketch:
    """Samples in few coordinates, kept as float32 for the sake of fast products. ``squares`` holds |a|^2.

    Most often the coordinates are those along the principal axes and, last, the length of what these leave over, rounded to
    whole numbers: all products are exact. Where points have no main axes, or few coordinates anyhow, all coordinates are kept
    as they are: the slack is next to nothing then, but products are inexact.

    One unit is ``unit`` of the true space. The true distance is at least (|a - b| - slack) x unit, as rounding moved no sample
    by more than half of ``slack``. |a|^2 + |b|^2 - 2 ab as computed, in whatever order, is within ``margin`` of |a - b|^2.
    """

    coordinates: Float[np.ndarray, "samples axes"]
    squares: Float[np.ndarray, " samples"]
    unit: float
    slack: float
    margin: float = 0.0

    def __len__(self) -> int:
        return len(self.squares)

    def at(self, rows: Int[np.ndarray, " some"] | slice) -> "Sketch":
        """Keep these samples, in this order."""
        return Sketch(self.coordinates[rows], self.squares[rows], self.unit, self.slack, self.margin)

    def of(self, coordinates: Float[np.ndarray, "some axes"]) -> "Sketch":
        """Sketch other points of this space, in place, that are no longer than the longest."""
        if not self.margin:
            return rounded(coordinates, self.unit)
        return Sketch(coordinates, _squares(coordinates), self.unit, self.slack, self.margin)

    def squared_distances(self, others: "Sketch") -> Float[np.ndarray, "samples others"]:
        """Bound squared distances to other sketches from below: whole numbers are exact."""
        squared = self.products(others)
        squared *= -2
        squared += self.lowest_squares[:, None]
        squared += others.squares
        return np.maximum(squared, 0, out=squared) if self.margin else squared

    @property
    def lowest_squares(self) -> Float[np.ndarray, " samples"]:
        """Squares that make computed squared distances bounds from below."""
        return self.squares - np.float32(self.margin)

    @property
    def highest_squares(self) -> Float[np.ndarray, " samples"]:
        """Squares that make computed squared distances bounds from above."""
        return self.squares + np.float32(self.margin)

    def products(self, others: "Sketch") -> Float[np.ndarray, "samples others"]:
        """Multiply every sketch with every other."""
        # Some BLAS compute with what lies behind the last column and drop it; what NumPy says of that means nothing.
        with np.errstate(all="ignore"):
            return self.coordinates @ others.coordinates.T


def sketch(points: Points) -> Sketch:
    """Shorten all points to some whole coordinates, or keep all of them."""
    mean = sum(points.at(block).sum(axis=0) for block in slices(len(points), ROWS)) / len(points)
    sample = points.at(even_rows(len(points), max(SAMPLE // len(mean), WIDEST))) - mean
    axes = _principal_axes(sample, MOST_NUMBERS // len(points))
    # In units of some length of the pool first: a length like 1e30 has a square that does not fit into float32.
    unit = max(np.linalg.norm(sample, axis=1).max(), 1e-300)
    coordinates = np.empty((len(points), len(mean) if axes is None else axes.shape[1] + 1), dtype=np.float32)

    def shorten(block: slice) -> None:
        centred = (points.at(block) - mean) / unit
        coordinates[block] = centred if axes is None else _along(centred, axes)

    with side_by_side() as run:
        list(run(shorten, slices(len(points), ROWS)))
    factor = np.float32(LONGEST / (np.sqrt(np.einsum("ij,ij->i", coordinates, coordinates).max()) or 1))
    coordinates *= factor
    if axes is not None:
        return rounded(coordinates, float(unit / float(factor)))
    squares = _squares(coordinates)
    # The squared distance has two products, and what rounding_error allows beyond them covers the squares and their sums.
    margin = 2 * rounding_error(coordinates) * float(squares.max())
    return Sketch(coordinates, squares, float(unit / float(factor)), LOST * LONGEST, margin)


def rounded(coordinates: Float[np.ndarray, "samples axes"], unit: float) -> Sketch:
    """Round coordinates, in place, to whole numbers."""
    squares, moved = np.empty(len(coordinates), dtype=np.float32), 0.0
    for block in slices(len(coordinates), ROWS):
        whole = np.rint(coordinates[block])
        difference = whole - coordinates[block]
        moved = max(moved, float(np.einsum("ij,ij->i", difference, difference).max()))
        squares[block] = np.einsum("ij,ij->i", whole, whole)
        coordinates[block] = whole
    # A hundredth is more than float32 and float64 can have lost before.
    return Sketch(coordinates, squares, unit, 2 * np.sqrt(moved) + 0.01)


def _along(centred: Vectors, axes: Float[np.ndarray, "dims axes"]) -> Float[np.ndarray, "some more"]:
    """Find the coordinates along the axes and, last, the length of what these leave over."""
    along = centred @ axes
    squares_left = np.einsum("ij,ij->i", centred, centred) - np.einsum("ij,ij->i", along, along)
    return np.column_stack([along, np.sqrt(np.maximum(squares_left, 0))])


def _squares(coordinates: Float[np.ndarray, "some axes"]) -> Float[np.ndarray, " some"]:
    """Square the lengths in float64, and round them."""
    squares = np.empty(len(coordinates), dtype=np.float32)
    for block in slices(len(coordinates), ROWS):
        exact = coordinates[block].astype(np.float64)
        squares[block] = np.einsum("ij,ij->i", exact, exact)
    return squares


def even_rows(samples: int, wanted: int) -> Int[np.ndarray, " some"]:
    """Choose rows at even steps, at most as many as wanted."""
    return np.unique(np.linspace(0, samples - 1, min(samples, wanted)).astype(np.int64))


def _principal_axes(centred: Vectors, affordable: int) -> Float[np.ndarray, "dims axes"] | None:
    """Find orthonormal axes that explain most of the variance; None where points have no main ones: all coordinates."""
    rows, dims = centred.shape
    if dims < WIDEST:
        return None
    variance, axes = np.linalg.eigh(centred.T @ centred if dims <= rows else centred @ centred.T)
    axes = axes if dims <= rows else centred.T @ axes
    explained = np.cumsum(variance[::-1]) / max(variance.sum(), np.finfo(np.float64).tiny)
    few = explained[min(WIDEST - 1, len(explained)) - 1] >= EXPLAINED_BY_FEW
    if not few and dims <= affordable:
        return None
    widest = WIDEST if few else max(WIDEST, min(WIDEST_OF_ALL, affordable))
    # With the length of the rest, a multiple of 8 coordinates: products of odd widths are slow.
    count = min((int(np.searchsorted(explained, EXPLAINED)) + 9) // 8 * 8, widest) - 1
    if count + 1 >= dims:
        return None
    return np.linalg.qr(axes[:, ::-1][:, :count])[0]
