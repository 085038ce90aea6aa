"""Made-up evidence other than embeddings, for strategies that no peer is timed against.

Apart from the pools, so that a change here does not outdate what was measured of the peers.
"""

from __future__ import annotations

import numpy as np
from selection_pools import SLICES


def evidence(name: str, samples: int, seed: int = 0) -> np.ndarray:
    """Make up evidence of a kind other than embeddings, for volumes of SLICES slices and patients of two volumes."""
    rng = np.random.default_rng([seed, 6])
    volume, place = np.divmod(np.arange(samples), SLICES)
    edge = np.zeros_like(place)
    made = {
        "patient": volume // 2,
        "volume": volume,
        "position": place / (SLICES - 1),
        "bounds": np.stack([place, edge, edge, place + 1, edge + 64, edge + 64], axis=1),
        "cost": 1 + rng.integers(3, size=samples) / 2,
        "class_uncertainty": rng.random((samples, 4)),
        "class_share": rng.random((samples, 3)) / 4 * (rng.random((samples, 3)) < 0.5),
        "true_class_share": rng.random((samples, 3)) / 4 * (rng.random((samples, 3)) < 0.5),
        "selective": rng.random((samples, 2)),
    }
    return made[name] if name in made else rng.random(samples)
