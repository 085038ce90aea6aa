"""Graph embeddings: row i is sample i, and who is joined to whom."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nextmask.errors import SelectionError
from nextmask.features import graph
from nextmask.features.graph import HIDDEN, graph_embeddings


def _kinds(samples: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of three kinds of samples, in turn, and the kind of each."""
    rng = np.random.default_rng(seed)
    kind = np.arange(samples) % 3
    return (np.eye(3)[kind] * 4 + rng.normal(scale=0.4, size=(samples, 3))).astype(np.float32), kind


def _labeled(kind: np.ndarray, count: int = 5) -> np.ndarray:
    labeled = np.zeros(len(kind), bool)
    labeled[np.flatnonzero(kind == 1)[:count]] = True
    return labeled


@pytest.fixture(params=["dense", "sparse"])
def either_graph(request, monkeypatch):
    if request.param == "sparse":
        monkeypatch.setattr(graph, "LARGEST_DENSE", 10)
        monkeypatch.setattr(graph, "NEIGHBOURS", 12)
    return request.param


@pytest.mark.usefixtures("either_graph")
def test_row_i_is_sample_i():
    """Samples of three kinds lie in turn; a sample whose row was lost among others would lie among another kind."""
    embeddings, kind = _kinds()
    found = graph_embeddings(embeddings, _labeled(kind), seed=[0])
    assert found.shape == (90, HIDDEN)
    assert found.dtype == np.float32
    centres = np.stack([found[kind == each].mean(axis=0) for each in range(3)])
    nearest = np.linalg.norm(found[:, None] - centres, axis=2).argmin(axis=1)
    np.testing.assert_array_equal(nearest, kind)


@pytest.mark.usefixtures("either_graph")
def test_another_order_of_the_pool_gives_the_same_rows_in_that_order():
    embeddings, kind = _kinds()
    labeled, order = _labeled(kind), np.random.default_rng(1).permutation(90)
    # Few epochs: sums taken in another order are rounded otherwise, and 200 steps of Adam make much of that.
    one = graph_embeddings(embeddings, labeled, seed=[0], dropout=0.0, epochs=20)
    other = graph_embeddings(embeddings[order], labeled[order], seed=[0], dropout=0.0, epochs=20)
    np.testing.assert_allclose(other, one[order], atol=1e-5)
    assert np.abs(other - one).max() > 0.01


def test_what_is_labeled_shapes_the_space():
    embeddings, kind = _kinds()
    first = graph_embeddings(embeddings, _labeled(kind), seed=[0])
    second = graph_embeddings(embeddings, _labeled((kind + 1) % 3), seed=[0])
    assert np.abs(first - second).max() > 0.05


def test_labeled_samples_learn_a_higher_score(monkeypatch):
    networks = []
    real = graph.GraphNetwork.__init__

    def remembered(self, *arguments):
        real(self, *arguments)
        networks.append(self)

    monkeypatch.setattr(graph.GraphNetwork, "__init__", remembered)
    embeddings, kind = _kinds()
    labeled = _labeled(kind, 30)
    graph_embeddings(embeddings, labeled, seed=[0])
    features = graph._unit_length(embeddings)
    scores = networks[0](graph._joined(features), features, torch.ones(90, HIDDEN)).detach().numpy()
    assert scores[labeled].min() > scores[~labeled].max()


def test_the_same_seed_gives_the_same_numbers_and_another_does_not():
    embeddings, kind = _kinds()
    before = torch.random.get_rng_state()
    once, again = (graph_embeddings(embeddings, _labeled(kind), seed=[3], epochs=5) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert not np.allclose(once, graph_embeddings(embeddings, _labeled(kind), seed=[4], epochs=5))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_all_pairs_are_joined_by_cosine_columns_sum_to_one_and_each_has_itself():
    embeddings = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    joined = graph._joined(graph._unit_length(embeddings)).numpy()
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    cosine = np.maximum(unit @ unit.T, 0) * (1 - np.eye(20))
    np.testing.assert_allclose(joined, cosine / cosine.sum(axis=0) + np.eye(20), atol=1e-5)


def test_with_all_others_for_neighbours_the_sparse_graph_is_the_dense_one():
    features = graph._unit_length(np.random.default_rng(0).normal(size=(30, 5)))
    dense, sparse = graph._joined_to_all(features), graph._joined_to_nearest(features, 29)
    assert sparse.is_sparse
    np.testing.assert_allclose(sparse.to_dense().numpy(), dense.numpy(), atol=1e-5)


def test_few_neighbours_are_the_nearest_ones_from_either_side(monkeypatch):
    monkeypatch.setattr(graph, "SIMILARITIES", 200)  # several blocks
    features = graph._unit_length(np.random.default_rng(0).normal(size=(40, 5)))
    cosine = (features @ features.T - 2 * torch.eye(40)).numpy()
    near = np.argsort(-cosine, axis=1)[:, :3]
    expected = np.zeros((40, 40), bool)
    expected[np.arange(40)[:, None], near] = True
    expected = (expected | expected.T) & (cosine > 0)
    joined = graph._joined_to_nearest(features, 3).to_dense().numpy() - np.eye(40)
    np.testing.assert_array_equal(joined > 1e-7, expected)
    np.testing.assert_allclose(joined.sum(axis=0), 1, atol=1e-5)


@pytest.mark.usefixtures("either_graph")
@pytest.mark.parametrize("pool", ["zeros", "equal", "opposite"])
def test_pools_without_any_structure_stay_finite(pool):
    embeddings = {
        "zeros": np.zeros((14, 3)),
        "equal": np.ones((14, 3)),
        "opposite": np.array([[1.0, 0, 0], [-1, 0, 0]] * 7),
    }[pool]
    labeled = np.arange(14) == 5
    assert np.isfinite(graph_embeddings(embeddings, labeled, seed=[0], epochs=3)).all()


@pytest.mark.parametrize("count", [0, 90])
def test_a_cold_pool_is_refused(count):
    with pytest.raises(SelectionError, match=f"{count} of 90 samples are labeled. Expected at least one labeled"):
        graph_embeddings(_kinds()[0], np.arange(90) < count, seed=[0])
