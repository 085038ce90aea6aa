"""The nearest of some centres, exact."""

import numpy as np
from jaxtyping import Bool, Float, Int

from nextmask.selection.geometry.rounding import rounding_error
from nextmask.selection.geometry.side_by_side import slices

PAIRS = 2048
"""Pairs of a row and a centre whose difference is taken at a time."""

Points = Float[np.ndarray, "rows dims"]
Centres = Float[np.ndarray, "clusters dims"]


class NearestCentre:
    """Finds the nearest centre of each row: by a product in the rows' precision, by differences where it cannot tell."""

    def __init__(self, centres: Centres) -> None:
        self.centres = centres
        self.half = np.einsum("ij,ij->i", centres, centres) / 2
        self.reach = float(np.sqrt(2 * self.half.max()))
        self._converted: dict[np.dtype[np.floating], Centres] = {}

    def __call__(self, points: Points) -> tuple[Int[np.ndarray, " rows"], Float[np.ndarray, " rows"]]:
        """Label each row, of equally near centres with the first; and its squared distance, 0 where rounding hides it."""
        norms = np.einsum("ij,ij->i", points, points).astype(np.float64)
        # The nearest centre has the largest x.c - |c|^2 / 2.
        score = points @ self._in_precision_of(points).T
        score -= self.half.astype(points.dtype)
        labels = np.argmax(score, axis=1)
        best = score[np.arange(len(score)), labels].astype(np.float64)
        error = rounding_error(points) * self.reach * (np.sqrt(norms) + self.reach)
        close = score >= (best - 2 * error).astype(score.dtype)[:, None]
        self._decide(points, close, labels)
        distance = norms - 2 * best
        distance[distance <= 4 * error] = 0
        return labels, distance

    def _in_precision_of(self, points: Points) -> Centres:
        # Converted when first needed; two threads that need it at once come to the same numbers.
        if points.dtype not in self._converted:
            self._converted[points.dtype] = self.centres.astype(points.dtype)
        return self._converted[points.dtype]

    def _decide(self, points: Points, close: Bool[np.ndarray, "rows clusters"], labels: np.ndarray) -> None:
        undecided = np.flatnonzero(np.count_nonzero(close, axis=1) > 1)
        place, centre = np.nonzero(close[undecided])
        if not len(place):
            return
        squared = np.empty(len(place))
        for pairs in slices(len(place), PAIRS):
            difference = points[undecided[place[pairs]]] - self.centres[centre[pairs]]
            squared[pairs] = np.einsum("ij,ij->i", difference, difference)
        least = np.minimum.reduceat(squared, np.searchsorted(place, np.arange(len(undecided))))
        nearest = np.flatnonzero(squared == least[place])[::-1]
        # From the last to the first: where several are equally near, the first is what stays.
        labels[undecided[place[nearest]]] = centre[nearest]
