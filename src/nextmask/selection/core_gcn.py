"""CoreGCN: cover the pool in a space that was learned by telling labeled from unlabeled samples."""

import numpy as np

from nextmask.selection.k_center import k_center
from nextmask.selection.types import GraphEmbeddings, Labeled, Query


def core_gcn(graph_embeddings: GraphEmbeddings, labeled: Labeled, n: int, *, rng: np.random.Generator) -> Query:
    """Take, one by one, the sample farthest from all labeled and already taken ones in the graph's embeddings.

    Source: Caramalau, Bhattarai and Kim, "Sequential graph convolutional network for active learning", CVPR 2021,
    https://arxiv.org/abs/2006.10219.

    Faithful: `graph_embeddings` are the hidden layer, 128 wide, of a graph network of two convolutions that is trained in
    every round to tell labeled from unlabeled samples; k-center greedy on it, with the labeled samples as centres.

    Adapted: the graph is made of the study's encoder (theirs: of the task's network), without negative similarities; pools
    beyond 2,000 samples keep 64 neighbours of each. Of equals the lowest row.

    Use: from the second round on, as `k_center` is used, where what is labeled already should shape the distances; a pool
    without labels has no graph embeddings. It costs more than `k_center` on the embeddings themselves: compare the two.

    Cost: that of `k_center` in 128 dimensions. The embeddings before it: 200 epochs, each O(N^2) up to 2,000 samples and
    O(64 N) beyond, where neighbours cost O(N^2 d) once; seconds to minutes.
    """
    return k_center(graph_embeddings, labeled, n, rng=rng)
