"""k-means."""

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from sklearn.cluster import KMeans, MiniBatchKMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

SMALL_POOL = 20_000
RESTARTS = 3


@dataclass(frozen=True, eq=False)
class Clusters:
    """A partition of samples: ``labels`` (samples,) from 0 without gaps, ``centres`` (clusters, dims) float64."""

    labels: Int[np.ndarray, " samples"]
    centres: Float[np.ndarray, "clusters dims"]


def k_means(points: Float[np.ndarray, "samples dims"], k: int, rng: np.random.Generator) -> Clusters:
    """Partition samples into ``k`` clusters, fewer where there are fewer distinct samples."""
    seed = int(rng.integers(2**31))
    k = min(k, len(points))
    shift = points.mean(axis=0, dtype=np.float64)
    if len(points) <= SMALL_POOL:
        means = KMeans(k, n_init=RESTARTS, random_state=seed)
    else:
        means = MiniBatchKMeans(k, n_init=RESTARTS, random_state=seed, batch_size=5000)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        labels = means.fit_predict(np.subtract(points, shift, dtype=np.float64))
    used, labels = np.unique(labels, return_inverse=True)
    return Clusters(labels, means.cluster_centers_[used] + shift)
