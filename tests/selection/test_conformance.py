"""What holds for every strategy on every pool: n distinct unlabeled rows, and the same ones for the same seed."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from nextmask.selection import EVIDENCE, STRATEGIES, needs, select

Pool = dict[str, np.ndarray]


def _pool(embeddings: np.ndarray, patients: int = 7) -> Pool:
    rng = np.random.default_rng(1)
    samples = len(embeddings)
    return {
        "embeddings": embeddings,
        "graph_embeddings": np.maximum(embeddings - embeddings.mean(axis=0), 0).astype(np.float32),
        "unlabeledness": np.linspace(0, 1, samples).round(1).astype(np.float32),
        "uncertainty": rng.random(samples).round(1).astype(np.float32),
        "patient": np.arange(samples) * patients // samples,
        "volume": np.arange(samples) * 2 * patients // samples,
        "position": rng.random(samples),
        "mutual_information": rng.random(samples) / 2,
        "contour_variance": rng.random(samples) / 4,
        "class_uncertainty": rng.random((samples, 3)).round(1) * [1, 1, 0],
        "class_share": np.maximum(rng.random((samples, 3)) - 0.7, 0) * [1, 1, 0],
        "true_class_share": np.maximum(rng.random((samples, 3)) - 0.7, 0) * [1, 1, 0],
        "foreground_share": np.maximum(rng.random(samples) - 0.3, 0),
        "residual": (rng.dirichlet(np.ones(4), samples) - np.eye(4)[rng.integers(4, size=samples)]) / 3,
        "selective": rng.random((samples, 2)).round(1),
        "difficulty": rng.random(samples),
        "bounds": _slices_of(np.arange(samples) * 2 * patients // samples),
        "cost": 1 + rng.integers(3, size=samples) / 2,
    }


def _slices_of(volume: np.ndarray) -> np.ndarray:
    """First and last-plus-one voxel of slices counted anew in each volume, as (z, y, x, z, y, x)."""
    z = np.arange(len(volume)) - np.searchsorted(volume, volume)
    edge = np.zeros_like(z)
    return np.stack([z, edge, edge, z + 1, edge + 32, edge + 32], axis=1)


def _clustered(samples: int = 120, offset: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = rng.normal(scale=5, size=(6, 8))
    return (centres[rng.integers(6, size=samples)] + rng.normal(size=(samples, 8)) + offset).astype(np.float32)


def _constant_columns() -> np.ndarray:
    embeddings = _clustered()
    embeddings[:, ::2] = 3.0
    return embeddings


POOLS: dict[str, Callable[[], Pool]] = {
    "clustered": lambda: _pool(_clustered()),
    "constant": lambda: {
        **_pool(np.ones((40, 4), np.float32)),
        "unlabeledness": np.zeros(40),
        "uncertainty": np.zeros(40),
        "mutual_information": np.zeros(40),
        "difficulty": np.zeros(40),
        "class_uncertainty": np.zeros((40, 3)),
        "residual": np.zeros((40, 4)),
        "position": np.full(40, 0.5),
    },
    "zero": lambda: _pool(np.zeros((40, 4))),
    "duplicated": lambda: _pool(np.repeat(_clustered(12), 5, axis=0)),
    "one_patient": lambda: _pool(_clustered(60), patients=1),
    "one_sample": lambda: _pool(_clustered(1), patients=1),
    "two_samples": lambda: _pool(_clustered(2), patients=2),
    "more_than_500": lambda: _pool(_clustered(620)),
    "offset": lambda: _pool(_clustered(offset=1e4)),
    "constant_columns": lambda: _pool(_constant_columns()),
    "half_precision": lambda: _pool(_clustered().astype(np.float16)),
}


def _labeled(samples: int, stage: str) -> np.ndarray:
    order = np.random.default_rng(2).permutation(samples)
    count = {"cold": 0, "few": min(5, samples - 1), "almost_all": max(samples - 3, 0)}[stage]
    labeled = np.zeros(samples, dtype=bool)
    labeled[order[:count]] = True
    return labeled


def _ask(strategy: str, pool: Pool, labeled: np.ndarray, n: int, seed: int = 0) -> np.ndarray:
    for array in pool.values():
        array.flags.writeable = False
    evidence = {name: lambda array=array: array for name, array in pool.items()}
    # select() itself refuses an answer that is not n distinct unlabeled rows; asserted again below all the same.
    return select(STRATEGIES[strategy], evidence, labeled, n, rng=np.random.default_rng(seed)).rows


@pytest.mark.parametrize("stage", ["cold", "few", "almost_all"])
@pytest.mark.parametrize("pool_name", POOLS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_answers_with_distinct_unlabeled_rows(strategy: str, pool_name: str, stage: str) -> None:
    pool = POOLS[pool_name]()
    labeled = _labeled(len(pool["patient"]), stage)
    unlabeled = int(np.count_nonzero(~labeled))
    for n in sorted({1, (unlabeled + 1) // 2, unlabeled}):
        rows = _ask(strategy, pool, labeled, n)
        assert rows.shape == (n,)
        assert len(set(rows.tolist())) == n
        assert set(rows.tolist()) <= set(np.flatnonzero(~labeled).tolist())


@pytest.mark.parametrize("stage", ["cold", "few"])
@pytest.mark.parametrize("pool_name", ["clustered", "constant", "one_sample"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_sample_carries_its_reason(strategy: str, pool_name: str, stage: str) -> None:
    pool = POOLS[pool_name]()
    labeled = _labeled(len(pool["patient"]), stage)
    n = min(6, int(np.count_nonzero(~labeled)))
    evidence = {name: lambda array=array: array for name, array in pool.items()}
    query = select(STRATEGIES[strategy], evidence, labeled, n, rng=_rng())
    assert len(query.reasons) == n
    assert all(reason and "{" not in reason and "nan" not in reason for reason in query.reasons)
    assert all(values.shape == (n,) for values in query.numbers.values())


@pytest.mark.parametrize("pool_name", ["clustered", "constant", "duplicated", "offset"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_same_seed_same_query_whatever_the_threads(strategy: str, pool_name: str) -> None:
    pool = POOLS[pool_name]()
    labeled = _labeled(len(pool["patient"]), "few")
    with threadpool_limits(1):
        once = _ask(strategy, pool, labeled, 9)
    with threadpool_limits(4):
        again = _ask(strategy, pool, labeled, 9)
    np.testing.assert_array_equal(once, again)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_leaves_the_callers_arrays_alone(strategy: str) -> None:
    pool = POOLS["clustered"]()
    before = {name: array.copy() for name, array in pool.items()}
    labeled = _labeled(len(pool["patient"]), "few")
    STRATEGIES[strategy](**{name: pool[name] for name in needs(STRATEGIES[strategy])}, labeled=labeled, n=5, rng=_rng())
    for name, array in pool.items():
        np.testing.assert_array_equal(array, before[name])
    np.testing.assert_array_equal(labeled, _labeled(len(labeled), "few"))


@pytest.mark.parametrize("strategy", ["k_center", "typiclust"])
def test_an_offset_of_all_features_changes_nothing(strategy: str) -> None:
    # Quarters are exact in float32 beside 10,000, so that nothing but the strategy itself can lose digits.
    embeddings = np.round(_clustered() * 4) / 4
    labeled = _labeled(len(embeddings), "few")
    near = STRATEGIES[strategy](embeddings, labeled, 12, rng=_rng()).rows
    far = STRATEGIES[strategy](embeddings + np.float32(1e4), labeled, 12, rng=_rng()).rows
    np.testing.assert_array_equal(near, far)


def test_fewer_distinct_samples_than_clusters_is_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _ask("typiclust", POOLS["duplicated"](), np.zeros(60, dtype=bool), 40)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_docstring_opens_with_an_imperative_and_evidence_is_known(strategy: str) -> None:
    assert (STRATEGIES[strategy].__doc__ or "").split("\n")[0].endswith(".")
    assert set(needs(STRATEGIES[strategy])) <= set(EVIDENCE)


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)
