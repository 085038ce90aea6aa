"""A pool on a Ray cluster: described, scored and searched shard by shard, with the very numbers of one machine.

Units of a benchmark need none of this: each embeds its own pool where it runs. It is for one pool that is too large for one
machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.benchmark.executors import ray_cluster
from nextmask.selection.two_stage import First, in_two_stages
from nextmask.selection.types import Embeddings, Labeled, Query
from nextmask.study.study import Study

ROWS = 256
"""Samples of a shard: so many does an actor take at a time, and does again if it dies."""
RETRIES = 20

Compute = Callable[[int], np.ndarray]


def embed_on_ray(
    folder: Path | str, encoder: str | None = None, *, actors: int, threads: int = 1, gpus: float = 0, rows: int = ROWS
) -> np.ndarray:
    """Embed the pool of a study on so many actors, (samples, dims) float32, and keep it in its cache as `Study.embed` does.

    Each actor opens the study and loads the encoder once; a pretraining is done here, before. Every node must see the
    study's folder and its images under the same paths. What the cache holds already is not computed again.
    """
    folder = Path(folder).resolve()
    study = Study(folder)
    make = partial(_described, folder, encoder)
    made = cache(lambda: on_actors(make, len(study.pool), actors=actors, threads=threads, gpus=gpus, rows=rows))
    return study.embed(encoder, lambda row: made()[row]).array


def _described(folder: Path, encoder: str | None) -> Compute:
    from nextmask.features.store import describing

    found = Study(folder).describer(encoder)
    return describing(found.encoder, found.image, found.network)


def on_actors(
    make: Callable[[], Compute], count: int, *, actors: int, threads: int = 1, gpus: float = 0, rows: int = ROWS
) -> np.ndarray:
    """Compute a vector for each of ``count`` samples, (count, dims) float32, on actors that keep their model warm.

    ``make`` runs once in each actor: it loads what is needed and returns row -> vector, as an encoder or a
    `nextmask.study.scores.Scorer` is. Shards of so many ``rows`` go to whichever actor is free. An actor whose node dies is
    made anew on another, and does the shard again that it was at.
    """
    ray = ray_cluster()
    from ray.util import ActorPool

    parts = [(start, min(start + rows, count)) for start in range(0, count, rows)]
    warm = ray.remote(num_cpus=threads, num_gpus=gpus, max_restarts=RETRIES, max_task_retries=RETRIES)(_Warm)
    workers = [warm.remote(make) for _ in range(min(actors, len(parts)))]
    try:
        return np.concatenate(list(ActorPool(workers).map(lambda worker, part: worker.rows.remote(*part), parts)))
    finally:
        for worker in workers:
            ray.kill(worker)


class _Warm:
    """An actor: it has loaded its model, and computes the shards that it is given."""

    def __init__(self, make: Callable[[], Compute]) -> None:
        self._compute = make()

    def rows(self, start: int, stop: int) -> np.ndarray:
        return np.stack([np.asarray(self._compute(row), np.float32) for row in range(start, stop)])


def two_stage_on_ray(
    embeddings: Embeddings, labeled: Labeled, n: int, *, rng: np.random.Generator, shards: int, threads: int = 1
) -> Query:
    """Ask as two_stage_k_center does, the first stage of each shard on the cluster; the picks and their reasons are the same.

    A shard's embeddings are sent to the task that works on it; the labeled ones go to every task.
    """
    ray = ray_cluster()

    def each(first: First, parts: Iterable[tuple[np.ndarray, np.ndarray]]) -> Iterable[Any]:
        remote = ray.remote(num_cpus=threads, max_retries=RETRIES)(_call)
        shared = ray.put(first)
        return ray.get([remote.remote(shared, *map(np.ascontiguousarray, part)) for part in parts])

    return in_two_stages(embeddings, labeled, n, rng=rng, shards=shards, each=each)


def _call(first: First, embeddings: np.ndarray, labeled: np.ndarray) -> tuple[np.ndarray, float]:
    return first(embeddings, labeled)
