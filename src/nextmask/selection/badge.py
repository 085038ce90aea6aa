"""BADGE: samples whose annotation would change the segmenter much, each in a way of its own."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from threadpoolctl import threadpool_limits

from nextmask.selection.geometry.side_by_side import slices
from nextmask.selection.types import Embeddings, Labeled, PerClass, Query, because, join

BLOCK = 256
"""Rows per difference, few enough for the processor's cache."""

ROWS_PER_SUM = 512
"""Rows that share one sum of bounds."""

PATIENCE = 64
"""Draws in a row that may be refused before all bounds are brought up to date."""

Squares = Float[np.ndarray, "_"]
Rows = Int[np.ndarray, "_"]


def badge(embeddings: Embeddings, residual: PerClass, labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Draw samples by k-means++ on the gradients that their annotation would send into the segmenter's last layer.

    The gradient of a sample is residual (x) embedding, classes x dims numbers. It is large where the segmenter is unsure.
    The largest is taken first; then samples are drawn with a chance proportional to the squared distance between their
    gradient and the nearest one taken.

    Source: Ash, Zhang, Krishnamurthy, Langford and Agarwal, "Deep batch active learning by diverse, uncertain gradient lower
    bounds", ICLR 2020, https://arxiv.org/abs/1906.03671.

    Faithful: the gradient for the class that the model itself predicts; the largest first, as in the authors' code; exact
    squared-distance sampling; labeled samples play no part.

    Adapted: a segmenter predicts every voxel, so that residual and embedding are each averaged over the voxels of a sample
    before they are multiplied. Once all gradients that are left repeat one that was taken, the lowest rows follow (theirs:
    stops). Of equally large gradients the lowest row is first.

    Use: from the second round on, with the embeddings of the segmenter just trained: unsure and varied at once, without a
    setting to tune. Not before a segmenter exists, and not where single voxels matter that an average hides.

    Cost: two passes over N (d + classes) numbers, then some evaluations a pick: rows are drawn from old, too large distances
    and accepted with the chance exact / old, which is the exact distribution. Gradients are never formed: distances come from
    the factors. Memory beside the arrays: some 30 bytes a sample and n rows in float64.
    """
    search = _Search(_Gradients.of(embeddings, residual), np.where(labeled, 0.0, np.inf), n)
    uniform = _uniform(rng)
    row: int | None = int(np.argmax(np.where(labeled, -1.0, search.gradients.norm)))
    rows: list[int] = []
    squares: list[float] = []
    # Each product is so small that a second thread costs more than it saves: much more where others keep the cores busy.
    with threadpool_limits(1):
        while row is not None and len(rows) < n:
            rows.append(row)
            squares.append(search.bound[row])
            search.take(row)
            row = search.draw(uniform)
    return _explained(np.array(rows), np.sqrt(squares), search.gradients.norm, labeled, n)


@dataclass(frozen=True, eq=False)
class _Gradients:
    """The factors of the gradients, and the squared norms of both."""

    embeddings: Embeddings
    residual: PerClass
    embedding_square: Float[np.ndarray, " samples"]
    residual_square: Float[np.ndarray, " samples"]

    @classmethod
    def of(cls, embeddings: Embeddings, residual: PerClass) -> "_Gradients":
        square = np.empty(len(embeddings))
        for block in slices(len(embeddings), BLOCK):
            part = embeddings[block].astype(np.float64)
            square[block] = np.einsum("ij,ij->i", part, part)
        residual = residual.astype(np.float64)
        return cls(embeddings, residual, square, _products(residual, residual))

    @property
    def norm(self) -> Float[np.ndarray, " samples"]:
        return np.sqrt(self.embedding_square * self.residual_square)

    def squared_distances(self, rows: Rows, others: Rows) -> Squares:
        """Measure |g_i - g_j|^2 for each pair of a row i and another j; either may be one for all.

        With q_i = a q_j + r, r at right angles to q_j: |q_j|^2 |a x_i - x_j|^2 + |r|^2 |x_i|^2. Neither term can be
        negative, so that nothing cancels, and equal gradients are at distance 0 exactly. That is not so for
        |q_i|^2 |x_i|^2 + |q_j|^2 |x_j|^2 - 2 (q_i.q_j)(x_i.x_j). The longer of the two residuals serves as q_j.
        """
        swap = self.residual_square[rows] > self.residual_square[others]
        base, other = np.where(swap, rows, others), np.where(swap, others, rows)
        length = self.residual_square[base]
        share = _products(self.residual[base], self.residual[other]) / np.where(length > 0, length, 1)
        rest = self.residual[other] - share[:, None] * self.residual[base]
        difference = share[:, None] * self.embeddings[other] - self.embeddings[base]
        along = np.einsum("ij,ij->i", difference, difference)
        return length * along + _products(rest, rest) * self.embedding_square[other]


class _Search:
    """Draws rows by the squared distance of their gradient to the nearest one taken.

    ``bound`` (samples,) is at least that square: it was right when a row had ``seen`` so many of the rows taken. 0 for
    rows that cannot be drawn.
    """

    def __init__(self, gradients: _Gradients, bound: Squares, n: int) -> None:
        self.gradients, self.bound = gradients, bound
        # Those taken, side by side: to gather them anew for each comparison would take longer than to compare.
        self._count = 0
        self._taken = np.empty(n, dtype=np.int64)
        self._embeddings = np.empty((n, gradients.embeddings.shape[1]))
        self._residuals = np.empty((n, gradients.residual.shape[1]))
        self._squares = np.empty(n)
        self._seen = np.zeros(len(bound), dtype=np.int32)
        self._sums = np.empty(-(-len(bound) // ROWS_PER_SUM))

    def take(self, row: int) -> None:
        """Add a row to those from which distances count."""
        self._taken[self._count] = row
        self._embeddings[self._count] = self.gradients.embeddings[row]
        self._residuals[self._count] = self.gradients.residual[row]
        self._squares[self._count] = self.gradients.embedding_square[row] * self.gradients.residual_square[row]
        self._count += 1
        self.bound[row] = 0.0
        if self._count == 1:
            self._bring_all_up_to_date()
        self._add_up(row // ROWS_PER_SUM)

    def draw(self, uniform: Iterator[float]) -> int | None:
        """Draw a row; None once all that are left are at distance 0."""
        refused = 0
        while (edges := np.cumsum(self._sums))[-1] > 0:
            row = self._at(edges, next(uniform) * edges[-1])
            old = self.bound[row]
            self._bring_up_to_date(row)
            self._add_up(row // ROWS_PER_SUM)
            # Rows come up in proportion to their bounds, and stay in proportion to exact / bound: so to exact.
            if next(uniform) * old < self.bound[row]:
                return row
            refused += 1
            if refused % PATIENCE == 0:
                self._bring_all_up_to_date()
        return None

    def _at(self, edges: Squares, place: float) -> int:
        """Find the row in which a place on the line of all bounds lies."""
        block = min(int(np.searchsorted(edges, place, side="right")), int(np.flatnonzero(self._sums)[-1]))
        bound = self.bound[block * ROWS_PER_SUM : (block + 1) * ROWS_PER_SUM]
        within = np.searchsorted(np.cumsum(bound), place - (edges[block - 1] if block else 0.0), side="right")
        return block * ROWS_PER_SUM + min(int(within), int(np.flatnonzero(bound)[-1]))

    def _bring_up_to_date(self, row: int) -> None:
        """Compare a row with those taken since it was last looked at."""
        since = slice(int(self._seen[row]), self._count)
        near = self._taken[since][self._may_be_nearest(row, since)]
        squares = self.gradients.squared_distances(np.array([row]), near)
        self.bound[row] = squares.min(initial=self.bound[row])
        self._seen[row] = self._count

    def _may_be_nearest(self, row: int, since: slice) -> Bool[np.ndarray, "_"]:
        """Mark those of the rows taken that may be nearest to a row.

        By the form in which digits cancel: those that are farther by more than rounding can explain are left out.
        """
        products = self._embeddings[since] @ self.gradients.embeddings[row].astype(np.float64)
        products *= self._residuals[since] @ self.gradients.residual[row]
        lengths = self._squares[since] + self.gradients.embedding_square[row] * self.gradients.residual_square[row]
        squares = lengths - 2 * products
        terms = self._embeddings.shape[1] + self._residuals.shape[1] + 16
        rounding = lengths * (terms * np.finfo(np.float64).eps)
        return np.asarray(squares - rounding <= (squares + rounding).min(initial=np.inf))

    def _bring_all_up_to_date(self) -> None:
        for block in slices(len(self.bound), BLOCK):
            rows = block.start + np.flatnonzero(self.bound[block])
            for place in range(self._seen[rows].min(initial=self._count), self._count):
                behind = rows[self._seen[rows] <= place]
                squares = self.gradients.squared_distances(behind, np.array([self._taken[place]]))
                self.bound[behind] = np.minimum(self.bound[behind], squares)
            self._seen[rows] = self._count
        for number in range(len(self._sums)):
            self._add_up(number)

    def _add_up(self, block: int) -> None:
        # Anew each time: sums that are corrected by differences would drift, and never come back to 0.
        self._sums[block] = self.bound[block * ROWS_PER_SUM : (block + 1) * ROWS_PER_SUM].sum()


def _products(one: Float[np.ndarray, "#rows classes"], other: Float[np.ndarray, "#rows classes"]) -> Squares:
    """Multiply row by row, always in the same order: equal rows must give equal products, whatever rows are around."""
    total = np.zeros(np.broadcast_shapes(one.shape, other.shape)[0])
    for of_class in range(one.shape[1]):
        total += one[:, of_class] * other[:, of_class]
    return total


def _uniform(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.random(1024).tolist()


def _explained(rows: Rows, distance: Squares, norm: Squares, labeled: Labeled, n: int) -> Query:
    left = ~labeled
    left[rows] = False
    repeats = np.flatnonzero(left)[: n - len(rows)]
    largest = because(
        rows[:1],
        "would change the segmenter most of all unlabeled samples: gradient {gradient:.3g}",
        gradient=norm[rows[:1]],
    )
    drawn = because(
        rows[1:],
        "drawn as it would change the segmenter unlike those before: gradient {gradient:.3g}, {distance:.3g} from the nearest",
        gradient=norm[rows[1:]],
        distance=distance[1:],
    )
    fill = because(
        repeats,
        "would change the segmenter as one already chosen does: gradient {gradient:.3g}; taken in the order of the pool",
        gradient=norm[repeats],
        distance=np.zeros(len(repeats)),
    )
    return join([largest, drawn, fill])
