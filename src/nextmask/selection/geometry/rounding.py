"""Numbers rounded to float32 for fast products, and how wrong these can be: what float32 may decide, and what it may not."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from nextmask.selection.geometry.side_by_side import slices

BLOCK = 1024

Points = Float[np.ndarray, "rows dims"]


@dataclass(frozen=True, eq=False)
class Frame:
    """An origin amid the points and a power of two for a unit: seen from there, float32 holds the most digits."""

    origin: Float[np.ndarray, " dims"]
    unit: float

    def rounded(self, points: Points) -> Float[np.ndarray, "rows dims"]:
        """Round to float32 after subtracting the origin in float64, so that a common offset costs no digits."""
        rounded = np.empty(points.shape, dtype=np.float32)
        for block in slices(len(points), BLOCK):
            np.multiply(np.subtract(points[block], self.origin, dtype=np.float64), 1 / self.unit, out=rounded[block])
        return rounded


def frame(points: Points) -> Frame:
    """Take the mean as the origin, and a unit in which no number is large."""
    blocks = slices(len(points), BLOCK)
    origin = np.sum([points[block].sum(axis=0, dtype=np.float64) for block in blocks], axis=0) / len(points)
    largest = max(
        float(np.abs(np.subtract(points[block], origin, dtype=np.float64)).max(initial=0)) for block in blocks
    )
    return Frame(origin, 2.0 ** np.ceil(np.log2(largest)) if largest else 1.0)


def rounding_error(points: Points) -> float:
    """Bound the error of a dot product of two rows, in units of the product of their lengths.

    Whatever the order of the sum: n terms are off by at most n u / (1 - n u), u half the spacing of numbers at 1 (Higham,
    "Accuracy and stability of numerical algorithms", 2002, section 3.1). Some terms more allow for the rounding of both rows
    to this precision, and for the handful of operations that turn a product into a squared distance.
    """
    terms = points.shape[1] + 16
    half_spacing = float(np.finfo(points.dtype).eps) / 2
    return terms * half_spacing / (1 - terms * half_spacing)
