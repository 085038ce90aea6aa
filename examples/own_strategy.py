"""A strategy of one's own: of the samples that the segmenter is least sure of, take those that lie far apart.

A strategy is a function. The names of its parameters say which evidence it needs; parameters with a default are its
options; ``labeled``, ``n`` and ``rng`` are always handed in. It returns rows of the pool.
"""

import numpy as np

from nextmask.selection import k_center, most_uncertain, select


def uncertain_and_apart(
    embeddings: np.ndarray,
    uncertainty: np.ndarray,
    labeled: np.ndarray,
    n: int,
    *,
    rng: np.random.Generator,
    keep: int = 5,
) -> np.ndarray:
    """Shortlist the ``keep * n`` least certain samples, and of these take the ``n`` that best cover the shortlist."""
    most = min(keep * n, int(np.count_nonzero(~labeled)))
    shortlist = np.sort(most_uncertain(uncertainty, labeled, most, rng=rng).rows)
    rows = np.concatenate([np.flatnonzero(labeled), shortlist])
    return rows[k_center(embeddings[rows], labeled[rows], n, rng=rng).rows]


def main() -> None:
    """Ask for five of a hundred samples, with plain arrays and as a study would."""
    rng = np.random.default_rng(0)
    embeddings, uncertainty = rng.normal(size=(100, 8)), rng.random(100)
    labeled = np.arange(100) < 10
    print("by hand:  ", uncertain_and_apart(embeddings, uncertainty, labeled, 5, rng=rng))
    evidence = {"embeddings": lambda: embeddings, "uncertainty": lambda: uncertainty}
    print("by select:", select(uncertain_and_apart, evidence, labeled, 5, rng=rng).rows)


if __name__ == "__main__":
    main()
