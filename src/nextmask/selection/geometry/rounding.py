"""How wrong a product of rounded numbers can be: what decides where float32 may, and where float64 must."""

import numpy as np
from jaxtyping import Float


def rounding_error(points: Float[np.ndarray, "rows dims"]) -> float:
    """Bound the error of a dot product of two rows, in units of the product of their lengths.

    Whatever the order of the sum: n terms are off by at most n u / (1 - n u), u half the spacing of numbers at 1 (Higham,
    "Accuracy and stability of numerical algorithms", 2002, section 3.1). Some terms more allow for the rounding of both rows
    to this precision, and for the handful of operations that turn a product into a squared distance.
    """
    terms = points.shape[1] + 16
    unit = float(np.finfo(points.dtype).eps) / 2
    return terms * unit / (1 - terms * unit)
