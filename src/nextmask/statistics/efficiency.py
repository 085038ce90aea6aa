"""FG-Eff: how fast a score rises with the share of foreground that was annotated."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar

from nextmask.errors import StudyError
from nextmask.statistics.paired import Array, check_finite, check_same_shape

STEEPEST = 1e4
"""Of gamma times the span of the shares: beyond it every point but the first lies on the asymptote."""


def foreground_efficiency(curves: Mapping[str, tuple[ArrayLike, ArrayLike]], full_score: float) -> dict[str, float]:
    """Fit FG-Eff of every strategy: the gamma of score = full - (full - start) exp(-gamma (share - origin)).

    Source: nnActive, TMLR 2025, https://arxiv.org/abs/2511.19183.

    Faithful: one free parameter, least squares over all seeds and budgets of a strategy; ``start`` is the mean score of
    all strategies and seeds at their first budget, ``full_score`` that of a network trained as long on all labels.

    Adapted: ``start`` and ``origin`` are means over the first budgets of all runs. The published code takes both from
    the one starting set with the least foreground.

    Args:
        curves: a strategy's shares of all foreground voxels of the pool annotated so far, and its scores; both
            (seeds, points).
        full_score: the asymptote.

    Returns:
        Gamma of every strategy. inf where a curve is at the asymptote from its second budget on, or above it: then it
        cannot be told how fast. Negative where it falls.

    Raises:
        StudyError: no strategies, shapes that differ, NaN, or a start that is not below ``full_score``.
    """
    arrays = {name: _checked(name, share, scores) for name, (share, scores) in curves.items()}
    if not arrays:
        raise StudyError("no strategy was given. Expected at least one. Give shares and scores by strategy.")
    first = np.concatenate([np.stack([share[:, 0], scores[:, 0]]) for share, scores in arrays.values()], axis=1)
    origin, start = (float(mean) for mean in first.mean(1))
    if not start < full_score:
        raise StudyError(
            f"the strategies start at {start:.3f} and all labels give {full_score:.3f}. Expected a start below. FG-Eff is "
            "not defined here: compare areas under the curve over foreground instead."
        )
    idle = [name for name, (share, _) in arrays.items() if share.max() <= origin]
    if idle:
        raise StudyError(
            f"{', '.join(idle)} annotated no foreground beyond a share of {origin:g}. Expected some after the first budget. "
            "Leave the strategy out, or look why its queries hold none."
        )
    return {name: _gamma(share, scores, origin, start, full_score) for name, (share, scores) in arrays.items()}


def _gamma(share: Array, scores: Array, origin: float, start: float, full: float) -> float:
    # A first budget that lies before the common origin counts as lying on it.
    x, y = np.maximum(share.ravel() - origin, 0.0), scores.ravel()
    span = float(x.max())

    def misfit(steepness: float) -> float:
        fitted = full - (full - start) * np.exp(-steepness * x / span)
        return float(((y - fitted) ** 2).sum())

    grid = np.concatenate([-np.geomspace(20.0, 1e-3, 60), [0.0], np.geomspace(1e-3, STEEPEST, 140)])
    misfits = np.array([misfit(each) for each in grid])
    best = int(misfits.argmin())
    if misfits[-1] <= misfits[best]:
        return math.inf
    around = (grid[max(best - 1, 0)], grid[best + 1])
    return float(minimize_scalar(misfit, bounds=around, method="bounded", options={"xatol": 1e-9}).x) / span


def _checked(name: str, share: ArrayLike, scores: ArrayLike) -> tuple[Array, Array]:
    shares, values = np.asarray(share, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    check_same_shape(shares, values)
    check_finite(shares, f"shares of {name}")
    check_finite(values, f"scores of {name}")
    if shares.ndim != 2 or not len(shares) or shares.shape[1] < 2:
        raise StudyError(
            f"the shares of {name} have shape {shares.shape}. Expected (seeds, points), one seed and two points or more. Give "
            "the whole curves."
        )
    if shares.min() < 0 or shares.max() > 1 or np.any(np.diff(shares) < 0):
        raise StudyError(
            f"the shares of {name} go from {shares.min():g} to {shares.max():g}. Expected them to grow, within 0 to 1. Divide "
            "the foreground voxels annotated so far by those of the whole pool."
        )
    return shares, values
