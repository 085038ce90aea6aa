"""The public implementations that selection.py times, each as a function of what is given to a strategy.

Those of scikit-activeml, scikit-learn, faiss, submodlib and apricot are called as their documentation says. The authors'
TypiClust and ProbCover and nnActive's dense measures cannot be installed: their published algorithms are told again here in
our own lines, on the CPU, and are called "re-expressed". Where a published form cannot answer at all (ProbCover's graph leaves
out the tail of the pool) the smallest mend was made and is named.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Given:
    """What a contestant sees: a pool, what is labeled of it, how many samples to choose, and fixed choices of the rule."""

    embeddings: np.ndarray
    labeled: np.ndarray
    n: int
    seed: int = 0
    radius: float = 0.0
    gamma: float = 1.0
    probabilities: np.ndarray | None = None

    @property
    def y(self) -> np.ndarray:
        """Labels as scikit-activeml wants them: NaN where there is none."""
        return np.where(self.labeled, 0.0, np.nan)


Peer = Callable[[Given], np.ndarray]


def skactiveml_coreset(given: Given) -> np.ndarray:
    """scikit-activeml CoreSet."""
    from skactiveml.pool import CoreSet

    return CoreSet(random_state=given.seed).query(given.embeddings, given.y, batch_size=given.n)


def skactiveml_typiclust(given: Given) -> np.ndarray:
    """scikit-activeml TypiClust."""
    from skactiveml.pool import TypiClust

    return TypiClust(random_state=given.seed).query(given.embeddings, given.y, batch_size=given.n)


def skactiveml_prob_cover(given: Given) -> np.ndarray:
    """scikit-activeml ProbCover."""
    from skactiveml.pool import ProbCover

    strategy = ProbCover(deltas=[given.radius], random_state=given.seed)
    return strategy.query(given.embeddings, given.y, batch_size=given.n)


def skactiveml_max_herding(given: Given) -> np.ndarray:
    """scikit-activeml MaxHerding."""
    from skactiveml.pool import MaxHerding

    strategy = MaxHerding(metric_dict={"gamma": given.gamma}, random_state=given.seed)
    return strategy.query(given.embeddings, given.y, batch_size=given.n)


def skactiveml_badge(given: Given) -> np.ndarray:
    """scikit-activeml Badge."""
    from skactiveml.base import SkactivemlClassifier
    from skactiveml.pool import Badge

    class Known(SkactivemlClassifier):
        """A classifier whose probabilities are known already."""

        def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> Known:
            return self

        def predict_proba(self, X: np.ndarray) -> np.ndarray:
            return given.probabilities[~given.labeled]

    classifier = Known(classes=list(range(given.probabilities.shape[1])))
    strategy = Badge(random_state=given.seed)
    return np.array(strategy.query(given.embeddings, given.y, classifier, fit_clf=False, batch_size=given.n))


def authors_typiclust(given: Given) -> np.ndarray:
    """The authors' TypiClust, re-expressed: mini-batch k-means, and a flat faiss index of one cluster at every pick."""
    cluster = _mini_batch_clusters(given)
    size, waiting = np.bincount(cluster), np.where(given.labeled, -1, cluster)
    asked = np.bincount(cluster[given.labeled], minlength=len(size))
    order = [label for label in np.lexsort((-size, asked)) if size[label] > 5]
    rows = []
    for pick in range(given.n):
        member = np.flatnonzero(waiting == order[pick % len(order)])
        rows.append(member[_most_typical(given.embeddings[member])])
        waiting[rows[-1]] = -1
    return np.array(rows)


def _mini_batch_clusters(given: Given) -> np.ndarray:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    k = min(int(given.labeled.sum()) + given.n, 500)
    means = (
        KMeans(k, random_state=given.seed) if k <= 50 else MiniBatchKMeans(k, batch_size=5000, random_state=given.seed)
    )
    return means.fit_predict(given.embeddings)


def _most_typical(points: np.ndarray) -> int:
    import faiss

    index = faiss.IndexFlatL2(points.shape[1])
    index.add(points)
    squared = index.search(points, min(20, len(points) // 2) + 1)[0][:, 1:]
    return int(np.argmax(1 / (squared.mean(axis=1) + 1e-5)))


def authors_prob_cover(given: Given) -> np.ndarray:
    """The authors' ProbCover, re-expressed: a list of edges that is filtered at every pick. Its tail of N mod 500 is kept."""
    start, end = _edges(given.embeddings, given.radius)
    covered = np.unique(end[given.labeled[start]])
    rows = np.empty(given.n, dtype=np.int64)
    for pick in range(given.n):
        stays = ~np.isin(end, covered)
        start, end = start[stays], end[stays]
        rows[pick] = np.bincount(start, minlength=len(given.embeddings)).argmax()
        covered = end[start == rows[pick]]
    return rows


def _edges(points: np.ndarray, radius: float, batch: int = 500) -> tuple[np.ndarray, np.ndarray]:
    import torch

    features = torch.from_numpy(np.array(points))
    starts, ends = [], []
    for first in range(0, len(points), batch):
        near = (torch.cdist(features[first : first + batch], features) < radius).nonzero().T
        starts.append(near[0] + first)
        ends.append(near[1])
    return torch.cat(starts).numpy(), torch.cat(ends).numpy()


def sklearn_kmeans(given: Given) -> np.ndarray:
    """scikit-learn KMeans (one start), and the sample nearest to each centre."""
    from sklearn.metrics import pairwise_distances_argmin

    return pairwise_distances_argmin(sklearn_centres(given), given.embeddings)


def faiss_kmeans(given: Given) -> np.ndarray:
    """faiss Kmeans (25 iterations on all samples), and the sample nearest to each centre."""
    import faiss

    index = faiss.IndexFlatL2(given.embeddings.shape[1])
    index.add(given.embeddings)
    return index.search(faiss_centres(given), 1)[1][:, 0]


def sklearn_centres(given: Given) -> np.ndarray:
    """scikit-learn KMeans, one start."""
    from sklearn.cluster import KMeans

    return KMeans(given.n, n_init=1, random_state=given.seed).fit(given.embeddings).cluster_centers_


def sklearn_mini_batch_centres(given: Given) -> np.ndarray:
    """scikit-learn MiniBatchKMeans, batches of 5,000."""
    from sklearn.cluster import MiniBatchKMeans

    means = MiniBatchKMeans(given.n, n_init=1, batch_size=5000, random_state=given.seed)
    return means.fit(given.embeddings).cluster_centers_


def faiss_centres(given: Given) -> np.ndarray:
    """faiss Kmeans, 25 iterations on all samples."""
    import faiss

    dims, all_of_them = given.embeddings.shape[1], len(given.embeddings)
    means = faiss.Kmeans(dims, given.n, niter=25, seed=given.seed + 1, max_points_per_centroid=all_of_them)
    means.train(given.embeddings)
    return means.centroids


def submodlib_dense(given: Given) -> np.ndarray:
    """submodlib FacilityLocation, dense kernel, lazy greedy; knows no labeled samples."""
    from submodlib import FacilityLocationFunction

    value = FacilityLocationFunction(len(given.embeddings), mode="dense", data=given.embeddings, metric="cosine")
    return _maximum(value, given.n)


def submodlib_sparse(given: Given) -> np.ndarray:
    """submodlib FacilityLocation, 100 neighbours, lazy greedy; knows no labeled samples."""
    from submodlib import FacilityLocationFunction

    value = FacilityLocationFunction(
        len(given.embeddings), mode="sparse", data=given.embeddings, metric="cosine", num_neighbors=100
    )
    return _maximum(value, given.n)


def _maximum(value: object, n: int) -> np.ndarray:
    found = value.maximize(
        budget=n, optimizer="LazyGreedy", stopIfZeroGain=False, stopIfNegativeGain=False, show_progress=False
    )
    return np.array([row for row, _ in found])


def apricot_facility_location(given: Given) -> np.ndarray:
    """apricot FacilityLocationSelection, lazy greedy."""
    from apricot import FacilityLocationSelection

    chosen = FacilityLocationSelection(
        given.n,
        metric="cosine",
        optimizer="lazy",
        initial_subset=np.flatnonzero(given.labeled),
        random_state=given.seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return chosen.fit(given.embeddings).ranking[: given.n]


def nnactive_measures(members: np.ndarray) -> dict[str, np.ndarray]:
    """nnActive's three measures, re-expressed: whole-array tensor operations on (members, classes, z, y, x)."""
    import torch

    p = torch.from_numpy(members)
    mean = p.mean(dim=0)
    predictive = -(mean * torch.log(mean.clamp_min(1e-10))).sum(dim=0)
    expected = -(p * torch.log(p.clamp_min(1e-10))).sum(dim=1).mean(dim=0)
    measures = {"entropy": predictive, "expected_entropy": expected, "mutual_information": predictive - expected}
    return {name: values.numpy() for name, values in measures.items()}


def nnactive_patches(values: np.ndarray, size: int = 32, count: int = 20) -> np.ndarray:
    """nnActive's best patches, re-expressed: a convolution, a sort of all positions, and one by one what overlaps none."""
    from scipy.signal import convolve

    means = convolve(values.astype(np.float64), np.ones((size,) * values.ndim) / size**values.ndim, mode="valid")
    kept: list[np.ndarray] = []
    for place in np.argsort(-means, axis=None, kind="stable"):
        corner = np.array(np.unravel_index(place, means.shape))
        if all((np.abs(corner - other) >= size).any() for other in kept):
            kept.append(corner)
        if len(kept) == count:
            break
    return np.array(kept)


PEERS: dict[str, Peer] = {
    "scikit-activeml CoreSet": skactiveml_coreset,
    "scikit-activeml TypiClust": skactiveml_typiclust,
    "scikit-activeml ProbCover": skactiveml_prob_cover,
    "scikit-activeml MaxHerding": skactiveml_max_herding,
    "scikit-activeml Badge": skactiveml_badge,
    "TypiClust's authors (re-expressed)": authors_typiclust,
    "ProbCover's authors (re-expressed)": authors_prob_cover,
    "scikit-learn KMeans": sklearn_kmeans,
    "faiss Kmeans": faiss_kmeans,
    "submodlib, dense": submodlib_dense,
    "submodlib, 100 neighbours": submodlib_sparse,
    "apricot": apricot_facility_location,
}
"""Those that answer with rows, by the name that the table gives them."""

CENTRES: dict[str, Peer] = {
    "scikit-learn KMeans": sklearn_centres,
    "scikit-learn MiniBatchKMeans": sklearn_mini_batch_centres,
    "faiss Kmeans": faiss_centres,
}
"""Those that answer with the centres of clusters."""
