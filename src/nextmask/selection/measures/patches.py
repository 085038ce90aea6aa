"""Where in one map the best boxes lie."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from nextmask.errors import SelectionError

Map = Float[np.ndarray, "*spatial"]
Means = Float[np.ndarray, "..."]
Starts = Int[np.ndarray, "boxes axes"]
Taken = Int[np.ndarray, "taken sides"]

EXACT = 52
"""Bits of a whole number that float64 adds and subtracts without rounding."""


def box_means(values: Map, size: Sequence[int], stride: int | Sequence[int] = 1) -> Means:
    """Average a map over every box of ``size`` that lies inside of it, by the box's first voxel: float64, one a start.

    The starts of each axis are 0, stride, 2 x stride, ... Values are rounded to some 30 binary digits of the largest
    one, whose running sums are exact whatever their order: boxes of the same content have the same mean, to the bit.

    Raises SelectionError where a box is larger than the map, empty, or of other axes, or where values are not finite.
    """
    size, stride = _as_axes("size", size, values), _as_axes("stride", stride, values)
    scale = _scale(values, size)
    means = np.empty(tuple(-(-(n - s + 1) // step) for n, s, step in zip(values.shape, size, stride, strict=True)))
    inside = tuple(slice(None, None, step) for step in stride[1:])
    for start, sums in enumerate(_sums_by_plane(values, size, scale)):
        if start % stride[0] == 0:
            means[start // stride[0]] = sums[inside]
    means /= scale * np.prod(size)
    return means


def best_patches(
    values: Map,
    size: Sequence[int],
    n: int,
    taken: Taken | Sequence[Sequence[int]] = (),
    stride: int | Sequence[int] = 1,
) -> tuple[Starts, Float[np.ndarray, " boxes"]]:
    """Find the ``n`` boxes of the highest mean that overlap neither each other nor the boxes ``taken``.

    Greedy: the highest mean first, of equals the lowest start in array order, then the highest of those that are left.
    ``taken`` are boxes of any size, a row each: the first voxel of every axis, then the last plus one of every axis.
    Returns their first voxels (m, axes) and their means (m,), best first; m < n where no more boxes fit.

    Memory: 8 bytes a start. Time: one pass over the map, and a look at a few planes of starts for each box.
    """
    means = box_means(values, size, stride)
    size, stride = _as_axes("size", size, values), _as_axes("stride", stride, values)
    for box in np.reshape(np.asarray(taken, dtype=np.int64), (-1, 2, values.ndim)):
        _forbid(means, box[0], box[1], size, stride)
    picks = list(_greedy(means, n, size, stride))
    starts = np.array([start for start, _ in picks], dtype=np.int64).reshape(-1, values.ndim)
    return starts, np.array([mean for _, mean in picks], dtype=np.float64)


def _greedy(means: Means, n: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Iterator[tuple[np.ndarray, float]]:
    """Yield starts and means, best first. Of each plane an upper bound is kept, and looked at only if it leads."""
    planes = means.reshape(len(means), -1)
    bound = planes.max(axis=1)
    found = 0
    while found < n:
        plane = int(np.argmax(bound))
        place = int(np.argmax(planes[plane]))
        mean = planes[plane, place]
        if mean == -np.inf == bound[plane]:
            return
        if mean == bound[plane]:
            start = np.array(np.unravel_index(plane * planes.shape[1] + place, means.shape)) * stride
            yield start, float(mean)
            found += 1
            _forbid(means, start, start + size, size, stride)
        bound[plane] = mean if mean < bound[plane] else planes[plane].max()


def _forbid(means: Means, first: np.ndarray, stop: np.ndarray, size: tuple[int, ...], stride: tuple[int, ...]) -> None:
    """Rule out every start whose box would share a voxel with the box from ``first`` to before ``stop``."""
    lowest = [max(0, -(-(a - width + 1) // step)) for a, width, step in zip(first, size, stride, strict=True)]
    above = [max(0, -(-b // step)) for b, step in zip(stop, stride, strict=True)]
    means[tuple(slice(a, b) for a, b in zip(lowest, above, strict=True))] = -np.inf


def _sums_by_plane(values: Map, size: tuple[int, ...], scale: float) -> Iterator[Shaped[np.ndarray, "..."]]:
    """Yield the sums of all boxes that start in plane 0, 1, ... of the first axis, as whole numbers."""
    column = np.zeros(values.shape[1:])
    for plane in range(len(values)):
        column += np.rint(np.multiply(values[plane], scale, dtype=np.float64))
        if plane >= size[0]:
            column -= np.rint(np.multiply(values[plane - size[0]], scale, dtype=np.float64))
        if plane >= size[0] - 1:
            yield _slid(column, size[1:])


def _slid(sums: Shaped[np.ndarray, "..."], size: tuple[int, ...]) -> Shaped[np.ndarray, "..."]:
    for axis, width in enumerate(size):
        total = np.moveaxis(np.cumsum(sums, axis=axis), axis, 0)
        window = total[width - 1 :].copy()
        window[1:] -= total[:-width]
        sums = np.moveaxis(window, 0, axis)
    return sums


def _scale(values: Map, size: tuple[int, ...]) -> float:
    """Return the power of two that makes values whole numbers, small enough for exact sums of a box and of a row."""
    peak = float(max(values.max(), -values.min()))
    if not np.isfinite(peak):
        raise SelectionError(
            "The map to look for boxes in is NaN or infinite somewhere. Expected finite numbers. "
            "Look at the probabilities that it was made of."
        )
    longest = np.prod(np.maximum(size, 1)) * max(n / width for n, width in zip(values.shape, size, strict=True))
    return float(np.exp2(EXACT - np.ceil(np.log2(longest * peak)))) if peak else 1.0


def _as_axes(what: str, given: int | Sequence[int], values: Map) -> tuple[int, ...]:
    each = (int(given),) * values.ndim if isinstance(given, int | np.integer) else tuple(int(side) for side in given)
    most = values.shape if what == "size" else (np.inf,) * values.ndim
    if len(each) != values.ndim or any(not 1 <= side <= limit for side, limit in zip(each, most, strict=True)):
        raise SelectionError(
            f"{what} is {given} for a map of shape {values.shape}. Expected one number an axis, at least 1"
            f"{' and no larger than the map' if what == 'size' else ''}. Change {what}, or leave this image out."
        )
    return each
