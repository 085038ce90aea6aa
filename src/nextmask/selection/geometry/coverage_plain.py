"""The loops of coverage_loops.py in plain NumPy: what small pools use, and all pools where numba is not installed."""

import numpy as np
from jaxtyping import Float, Int

from nextmask.selection.geometry import farthest_first
from nextmask.selection.geometry.side_by_side import slices

SHIFT = 8
"""Squared distances, below 2^24, share an entry of the table of similarities by 2^8."""

BLOCK = 512
"""Rows of which differences are held at a time."""

Products = Float[np.ndarray, "rows columns"]
OfRows = Float[np.ndarray, " rows"]
OfColumns = Float[np.ndarray, " columns"]
Table = Float[np.ndarray, " entries"]


def add_bounds(
    products: Products,
    own: OfRows,
    squares: OfColumns,
    limit_of_rows: OfRows,
    best_of_rows: OfRows,
    limit: OfColumns,
    best: OfColumns,
    table: Table,
    out_of_rows: OfRows,
    out: OfColumns,
) -> None:
    """Add to ``out_of_rows`` what each row may at most add to the columns, and to ``out`` what columns may add to rows."""
    squared = own[:, None] + squares - 2 * products
    out_of_rows += _offers(squared, limit[None, :], best[None, :], table).sum(axis=1)
    out += _offers(squared, limit_of_rows[:, None], best_of_rows[:, None], table).sum(axis=0)


def subtract_bounds(
    products: Products,
    own: OfRows,
    squares: OfColumns,
    limit: OfRows,
    limit_now: OfRows,
    best: OfRows,
    best_now: OfRows,
    table: Table,
    out: OfColumns,
) -> None:
    """Take from ``out`` what the rows, targets that came closer, no longer offer the columns."""
    squared = own[:, None] + squares - 2 * products
    out -= _offers(squared, limit[:, None], best[:, None], table).sum(axis=0)
    out += _offers(squared, limit_now[:, None], best_now[:, None], table).sum(axis=0)


def within_reach(
    own: Float[np.ndarray, " axes"],
    own_square: np.floating,
    centres: Float[np.ndarray, "groups axes"],
    centre_squares: Float[np.ndarray, " groups"],
    radius: Float[np.ndarray, " groups"],
    group_reach: Float[np.ndarray, " groups"],
    starts: Int[np.ndarray, " edges"],
    coordinates: Float[np.ndarray, "columns axes"],
    squares: OfColumns,
    limit: OfColumns,
) -> Int[np.ndarray, " found"]:
    """List the targets that the sketch does not rule out; the groups are not needed where all are looked at together."""
    return np.flatnonzero(own_square + squares - 2 * (coordinates @ own) < limit)


def squared_distances(
    embeddings: Float[np.ndarray, "samples dims"],
    inverse_lengths: Float[np.ndarray, " samples"],
    own: Float[np.ndarray, " dims"],
    rows: Int[np.ndarray, " some"],
) -> Float[np.ndarray, " some"]:
    """Measure squared distances of a float64 point ``own`` to rows, by differences in float64."""
    distances = np.empty(len(rows))
    for block in slices(len(rows), BLOCK):
        points = embeddings[rows[block]].astype(np.float64) * inverse_lengths[rows[block], None]
        distances[block] = farthest_first.squared_distances(points, own)
    return distances


def _offers(
    squared: Products, limit: Float[np.ndarray, "..."], best: Float[np.ndarray, "..."], table: Table
) -> Products:
    offers = np.maximum(table[np.maximum(squared, 0).astype(np.int64) >> SHIFT] - best, 0)
    return np.where(squared < limit, offers, 0)
