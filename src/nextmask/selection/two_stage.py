"""k-center in two stages: for pools that one pass, one memory or one machine cannot hold."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise, starmap

import numpy as np
from jaxtyping import Float, Int

from nextmask.errors import SelectionError
from nextmask.selection.geometry.farthest_first import Centres, Chain, farthest_first
from nextmask.selection.k_center import first_of
from nextmask.selection.types import Embeddings, Labeled, Query, because, join

ROWS_PER_SHARD = 1_000_000
"""Samples that a shard holds at most unless the number of shards is given."""

Others = Float[np.ndarray, "others dims"]
First = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float]]
Each = Callable[[First, Iterable[tuple[np.ndarray, np.ndarray]]], Iterable[tuple[np.ndarray, float]]]
"""Runs the first stage on the embeddings and labels of every shard; gives what comes of each, in their order."""


def two_stage_k_center(
    embeddings: Embeddings, labeled: Labeled, n: int, *, rng: np.random.Generator, shards: int | None = None
) -> Query:
    """Take the samples farthest from all labeled ones, first within each part of a very large pool, then among those.

    ``shards``: parts, each a run of neighbouring rows, that the pool is cut into; by default as many as hold a million
    samples each.

    Source: Malkomes, Kusner, Chen, Weinberger and Moseley, "Fast distributed k-center clustering with outliers on massive
    data", NeurIPS 2015, https://papers.nips.cc/paper/2015/hash/8fecb20817b3847419bb3de39a609afe-Abstract.html.

    Faithful: k-center greedy in every shard for n samples, then k-center greedy for n among the union of these. The largest
    distance of any sample to the nearest centre is at most four times the smallest possible; k_center alone gives two.

    Adapted: labeled samples are centres, all of them in every shard and in the union; were each shard told of its own ones
    only, the factor would be lost. Of equals the lowest row. With one shard the picks are those of k_center.

    Use: for tens of millions of samples, as a memory map or spread over machines: `first_stage` is what each machine runs,
    `merge` what one of them runs on the answers. Below a million samples k_center is nearer to the best, and fast enough.

    Cost: that of k_center on each shard, one after the other, and on shards x n samples. Memory beside the memory map: that
    of k_center on one shard, a copy of the labeled rows, and shards x n rows.
    """
    return in_two_stages(embeddings, labeled, n, rng=rng, shards=shards, each=starmap)


def in_two_stages(
    embeddings: Embeddings, labeled: Labeled, n: int, *, rng: np.random.Generator, shards: int | None, each: Each
) -> Query:
    """Answer as `two_stage_k_center` does, ``each`` running the first stage on every shard, wherever that may be."""
    parts = _parts(len(embeddings), shards)
    centres = np.ascontiguousarray(embeddings[labeled])
    open_parts = [part for part in parts if not labeled[part].all()]
    first = partial(_finalists, n=n, rng=rng, centres=centres)
    found = list(each(first, ((embeddings[part], labeled[part]) for part in open_parts)))
    finalists = np.sort(np.concatenate([part.start + rows for part, (rows, _) in zip(open_parts, found, strict=True)]))
    chain = _stage(embeddings[finalists], np.zeros(len(finalists), dtype=bool), n, rng, centres)
    radius = max(radius for _, radius in found)
    return _explained(chain, finalists[chain.rows], radius, len(parts), len(finalists))


def _finalists(
    embeddings: np.ndarray, labeled: np.ndarray, *, n: int, rng: np.random.Generator, centres: np.ndarray
) -> tuple[np.ndarray, float]:
    """Choose the finalists of one shard; return them with how far its samples are from the nearest centre at most."""
    chain = _stage(embeddings, labeled, min(n, int(np.count_nonzero(~labeled))), rng, centres)
    return chain.rows, float(chain.radius[-1])


def first_stage(
    embeddings: Embeddings, labeled: Labeled, n: int, *, rng: np.random.Generator, centres: Others | None = None
) -> Int[np.ndarray, " picks"]:
    """Choose the finalists of one shard: ``n`` of its rows, or all that are unlabeled where those are fewer.

    ``embeddings`` (samples, dims) and ``labeled`` (samples,) are the shard's own; a memory map is read, not copied.
    ``centres`` (others, dims) holds the embeddings of the labeled samples of the *whole* pool; left out, the shard's own
    labeled rows are the only centres, which keeps the factor of four only if no other shard has any.

    Needs nothing of the other shards, and ``n`` is the size of the whole query, so that all shards can run at once. Send
    ``embeddings[rows]`` of every shard to `merge`.
    """
    return _stage(embeddings, labeled, min(n, int(np.count_nonzero(~labeled))), rng, centres).rows


def merge(
    finalists: Embeddings, n: int, *, rng: np.random.Generator, centres: Others | None = None
) -> Int[np.ndarray, " picks"]:
    """Choose the query among the finalists of all shards: ``n`` places in ``finalists``, in the order of preference.

    ``finalists`` (samples, dims) are the embeddings that the first stage chose, shard after shard; ``centres`` (others,
    dims) those of all labeled samples of the pool.
    """
    return _stage(finalists, np.zeros(len(finalists), dtype=bool), n, rng, centres).rows


def _stage(embeddings: Embeddings, labeled: Labeled, n: int, rng: np.random.Generator, centres: Others | None) -> Chain:
    begin = Centres(embeddings, np.flatnonzero(labeled))
    if centres is not None and len(centres):
        begin = Centres(centres, np.arange(len(centres)))
    start = None if len(begin.rows) else first_of(embeddings, "central", rng)
    return farthest_first(embeddings, labeled, n, begin, start)


def _parts(samples: int, shards: int | None) -> list[slice]:
    if shards is None:
        shards = -(-samples // ROWS_PER_SHARD)
    if shards < 1:
        raise SelectionError(f"shards is {shards}. Expected one or more. Leave it out for a million samples a shard.")
    edges = np.linspace(0, samples, min(shards, samples) + 1).astype(np.int64)
    return [slice(int(start), int(stop)) for start, stop in pairwise(edges)]


def _explained(chain: Chain, rows: np.ndarray, radius: float, shards: int, finalists: int) -> Query:
    """Say why; the triangle inequality adds the radii of the stages up to a bound for the whole pool."""
    counts = {"shards": shards, "finalists": finalists}
    among = "of {finalists} finalists from {shards} parts of the pool "
    begun = int(np.count_nonzero(np.isinf(chain.distance)))
    opening = because(
        rows[:begun],
        among + "the most central; no sample of the pool is farther than {radius_at_most:.3g} from it",
        radius_at_most=chain.radius[:begun] + radius,
        **counts,
    )
    following = because(
        rows[begun:],
        among + "least like all labeled or already chosen samples: {distance:.3g} from the nearest; "
        "with it, no sample of the pool is farther than {radius_at_most:.3g} from one of them",
        distance=chain.distance[begun:],
        radius_at_most=chain.radius[begun:] + radius,
        **counts,
    )
    return join([opening, following])
