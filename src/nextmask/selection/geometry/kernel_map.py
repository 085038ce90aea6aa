"""Kernels weighed by uncertainty, as points: k-means on these points is kernel k-means."""

import numpy as np
from jaxtyping import Float
from threadpoolctl import threadpool_limits

from nextmask.selection.geometry.directions import Block, Directions
from nextmask.selection.types import Uncertainty

WIDTHS = (0.1, 1.0, 10.0)
"""The kernels' gammas, per median squared distance of the pool."""

SMALL_POOL = 1000
"""Samples up to which every sample is a landmark, and the map exact."""

LANDMARKS = 300
"""Random landmarks of a larger pool."""

DIGITS = 9
"""Decimals of the map: equal samples stay equal, whatever the decomposition rounded."""


def kernel_map(
    seen: Directions, uncertainty: Uncertainty, least: float, rng: np.random.Generator
) -> Float[np.ndarray, "samples some"]:
    """Place samples so that their products are the kernel: the sum over WIDTHS of exp(-gamma d^2 / 2), over u_i + u_j.

    The uncertainty u runs from ``least`` to 1, the squared distance d^2 is in medians of the pool. Exact up to SMALL_POOL
    samples; beyond it Nystrom's approximation from LANDMARKS random samples.
    """
    weight = least + (1 - least) * _from_0_to_1(uncertainty)
    rows = np.arange(len(weight)) if len(weight) <= SMALL_POOL else np.sort(rng.permutation(len(weight))[:LANDMARKS])
    landmarks, own = seen.rows(rows), weight[rows]
    # One thread: with more, the last digit would depend on the machine.
    with threadpool_limits(1):
        median = _median(_squared(landmarks, landmarks))
        onto = _inverse_root(_kernel(_squared(landmarks, landmarks) / median, own, own))
    points = np.empty((len(weight), onto.shape[1]), dtype=np.float64 if len(weight) <= SMALL_POOL else np.float32)

    def work(block: slice, unit: Block) -> None:
        points[block] = (_kernel(_squared(unit, landmarks) / median, weight[block], own) @ onto).round(DIGITS)

    seen.each(work)
    return points


def _from_0_to_1(uncertainty: Uncertainty) -> Float[np.ndarray, " samples"]:
    values = uncertainty.astype(np.float64)
    lowest, highest = values.min(), values.max()
    return (values - lowest) / (highest - lowest) if highest > lowest else np.zeros_like(values)


def _squared(one: Float[np.ndarray, "one dims"], two: Float[np.ndarray, "two dims"]) -> Float[np.ndarray, "one two"]:
    norms = np.einsum("ij,ij->i", one, one)[:, None] + np.einsum("ij,ij->i", two, two)
    return np.maximum(norms - 2 * (one @ two.T), 0)


def _median(squared: Float[np.ndarray, "one two"]) -> float:
    """Take the middle of the distances between different samples; 1 where there are none."""
    apart = squared[squared > 1e-12]
    return float(np.median(apart)) if len(apart) else 1.0


def _kernel(
    squared: Float[np.ndarray, "one two"], one: Float[np.ndarray, " one"], two: Float[np.ndarray, " two"]
) -> Float[np.ndarray, "one two"]:
    return sum(np.exp(-width / 2 * squared) for width in WIDTHS) / (one[:, None] + two)


def _inverse_root(kernel: Float[np.ndarray, "some some"]) -> Float[np.ndarray, "some kept"]:
    """Invert the root of a kernel, in the directions in which it is more than rounding."""
    values, vectors = np.linalg.eigh(kernel)
    kept = values > 1e-10 * values[-1]
    return vectors[:, kept] / np.sqrt(values[kept])
