"""Noise on scores, so that a query is not filled with the near-copies of one difficult sample."""

import numpy as np
from jaxtyping import Float

from nextmask.errors import SelectionError
from nextmask.selection.types import Labeled, Query, because

Scores = Float[np.ndarray, " samples"]

KINDS = ("power", "softmax", "softrank")
"""What the noise is added to: log score, score, -log rank."""

BELOW_ALL_LOGS = -1000.0
"""Below the logarithm of every positive float64 (-745) by more than the largest noise can make up for (41)."""

ROUNDED = -1e-3
"""Scores between this and 0 are zeros that were rounded, as a difference of two float16 entropies is."""


def noisy(scores: Scores, beta: float | int, rng: np.random.Generator, kind: str = "power") -> Scores:
    """Add Gumbel noise to scores; only the order of the result means anything, highest first.

    Source: A. Kirsch, S. Farquhar, P. Atighehchian, A. Jesson, F. Branchaud-Charron and Y. Gal, "Stochastic batch
    acquisition: a simple baseline for deep active learning", TMLR 2023, https://arxiv.org/abs/2106.12059.

    Faithful: noise of scale 1/``beta`` on log s ("power"), on s ("softmax") or on -log rank ("softrank"). The n highest
    are then a draw without replacement with chances in proportion to s^beta, exp(beta s) or rank^-beta. beta = inf is the
    n highest scores, of equals the lowest row; beta = 0 draws uniformly.

    Adapted: scores of 0 and rounded ones below have chance 0: they come after all positive ones, in random order among
    themselves. Equal scores share their mean rank, and so their chance. "softmax" takes the scores as they are: one that
    is higher by 1/beta is e times as likely, so beta has to fit the scale of the scores.

    ``scores`` are those of the samples that may be drawn, and of no others: labeled samples would take up ranks.
    """
    _check(scores, beta, kind)
    ordered = {"power": _log, "softmax": _as_they_are, "softrank": _minus_log_rank}[kind](scores)
    # Times beta where that is below 1, noise and all: the order is the same, and stays finite down to beta = 0.
    noise = rng.gumbel(size=len(scores)) / max(beta, 1.0)
    keys = ordered * min(beta, 1.0) + noise
    return np.where(scores > 0, keys, BELOW_ALL_LOGS + noise) if kind == "power" and beta > 0 else keys


def draw(
    scores: Scores, labeled: Labeled, n: int, beta: float | int, rng: np.random.Generator, kind: str, name: str
) -> Query:
    """Draw n unlabeled samples by their noisy scores, and say of each its rank by the score called ``name``."""
    unlabeled = np.flatnonzero(~labeled)
    places = np.argsort(-noisy(scores[unlabeled], beta, rng, kind), kind="stable")[:n]
    sentence = "drawn by chance, the likelier the higher the {name} is ({score:.3g}, rank {rank} of {unlabeled})"
    return because(
        unlabeled[places],
        sentence,
        name=name,
        score=scores[unlabeled][places],
        rank=ranks(scores[unlabeled])[places],
        unlabeled=len(unlabeled),
    )


def ranks(scores: Scores) -> np.ndarray:
    """Count from 1 for the highest score; of equals the lowest row comes first."""
    rank = np.empty(len(scores), dtype=np.int64)
    rank[np.argsort(-scores, kind="stable")] = np.arange(1, len(scores) + 1)
    return rank


def _check(scores: Scores, beta: float | int, kind: str) -> None:
    if kind not in KINDS:
        raise SelectionError(f"kind is {kind!r}. Expected one of {', '.join(KINDS)}. Leave it out for 'power'.")
    if not beta >= 0:
        raise SelectionError(f"beta is {beta}. Expected 0 (uniform) to inf (no noise). Leave it out for the paper's 1.")
    if kind == "power" and len(scores) and scores.min() < ROUNDED:
        raise SelectionError(
            f"{np.count_nonzero(scores < ROUNDED)} of {len(scores)} scores are negative, lowest {scores.min():.3g}. "
            "Expected 0 or more, because a power of them is a chance. Take kind='softmax' or kind='softrank'."
        )


def _log(scores: Scores) -> Scores:
    return np.log(scores, out=np.zeros(len(scores)), where=scores > 0, dtype=np.float64)


def _as_they_are(scores: Scores) -> Scores:
    return scores.astype(np.float64)


def _minus_log_rank(scores: Scores) -> Scores:
    _, place, count = np.unique(-scores, return_inverse=True, return_counts=True)
    return -np.log((np.cumsum(count) - (count - 1) / 2)[place])
