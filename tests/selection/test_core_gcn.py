"""CoreGCN covers the pool in the graph's embeddings, from the labeled samples on."""

from __future__ import annotations

import numpy as np

from nextmask.features.graph import graph_embeddings
from nextmask.selection import core_gcn


def test_takes_what_lies_farthest_from_the_labeled_in_the_graphs_embeddings():
    places = np.array([[0.0], [1.0], [10.0], [9.0], [-4.0]])
    query = core_gcn(places, np.array([True, False, False, False, False]), 2, rng=np.random.default_rng(0))
    assert query.rows.tolist() == [2, 4]
    assert all("from the nearest" in reason for reason in query.reasons)


def test_kinds_without_any_label_are_asked_for_first():
    """Three kinds of samples in turn, two of them labeled: the first pick is of the third, whatever the seed."""
    rng = np.random.default_rng(0)
    kind = np.arange(60) % 3
    embeddings = (np.eye(3)[kind] * 4 + rng.normal(scale=0.3, size=(60, 3))).astype(np.float32)
    labeled = (kind < 2) & (np.arange(60) < 30)
    for seed in range(3):
        found = graph_embeddings(embeddings, labeled, seed=[seed])
        assert kind[core_gcn(found, labeled, 1, rng=rng).rows[0]] == 2
