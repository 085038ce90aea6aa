"""Embeddings of a graph in which similar samples are neighbours, learned by telling labeled from unlabeled ones (CoreGCN)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from nextmask.data.files import Progress
from nextmask.features.unlabeled import refuse_one_kind

HIDDEN = 128
DROPOUT = 0.3
LEARNING_RATE, WEIGHT_DECAY, EPOCHS = 1e-3, 5e-4, 200
UNLABELED_WEIGHT = 1.2
"""How much more the mean loss of unlabeled samples counts than that of labeled ones."""
LARGEST_DENSE = 2000
"""Samples up to which every pair is joined; a larger graph keeps the nearest of each sample, and is sparse."""
NEIGHBOURS = 64
"""Most similar samples that each is joined to in a large graph."""
SIMILARITIES = 2**22
"""Cosines that are held at a time while neighbours are sought: 16 MB."""


class GraphNetwork(nn.Module):
    """Two graph convolutions: (samples, dims) to the hidden layer, and from there to one score a sample.

    Each mixes every sample with its neighbours: ``joined @ features @ weight + bias``. Weights are drawn from ``generator``.
    """

    def __init__(self, dims: int, generator: Generator) -> None:
        super().__init__()
        self.first, self.first_bias = _drawn(dims, HIDDEN, generator)
        self.last, self.last_bias = _drawn(HIDDEN, 1, generator)

    def hidden(self, joined: Tensor, features: Tensor) -> Tensor:
        """Compute the hidden layer, (samples, HIDDEN)."""
        return functional.relu(joined @ (features @ self.first) + self.first_bias)

    def forward(self, joined: Tensor, features: Tensor, kept: Tensor) -> Tensor:
        """Score each sample, (samples,), before the sigmoid; ``kept`` is what dropout leaves of the hidden layer."""
        scores: Tensor = joined @ ((self.hidden(joined, features) * kept) @ self.last) + self.last_bias
        return scores[:, 0]


def _drawn(inputs: int, outputs: int, generator: Generator) -> tuple[nn.Parameter, nn.Parameter]:
    limit = outputs**-0.5
    weight, bias = (
        torch.empty(shape).uniform_(-limit, limit, generator=generator) for shape in ((inputs, outputs), outputs)
    )
    return nn.Parameter(weight), nn.Parameter(bias)


def graph_embeddings(
    embeddings: np.ndarray,
    labeled: np.ndarray,
    *,
    seed: Sequence[int],
    epochs: int = EPOCHS,
    dropout: float = DROPOUT,
    progress: Progress | None = None,
) -> np.ndarray:
    """Learn to tell labeled from unlabeled samples by where they and their neighbours lie; return the hidden layer.

    ``embeddings`` (samples, dims) and ``labeled`` (samples,) are in the pool's order, and so is what returns, (samples, 128)
    float32: nothing is ever reordered. The loss is -mean(log s) over labeled samples minus 1.2 mean(log(1 - s)) over unlabeled
    ones. Up to 2,000 samples all pairs are joined, and larger pools by the 64 nearest of each, so that memory is linear in the
    pool; the time that finding them takes is not (N^2 d).

    Source: Caramalau, Bhattarai and Kim, "Sequential graph convolutional network for active learning", CVPR 2021,
    https://arxiv.org/abs/2006.10219; 128 units, dropout 0.3, 200 epochs of Adam and the weight 1.2 as there. Adapted: negative
    cosines are cut off at 0; neighbours in large pools.

    Raises SelectionError unless there is a labeled and an unlabeled sample.
    """
    refuse_one_kind(labeled)
    generator = torch.Generator().manual_seed(int(np.random.default_rng(seed).integers(2**63 - 1)))
    features = _unit_length(embeddings)
    joined = _joined(features)
    network = GraphNetwork(features.shape[1], generator)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    is_labeled = torch.from_numpy(np.array(labeled))
    for epoch in range(epochs):
        kept = (torch.rand(len(features), HIDDEN, generator=generator) >= dropout) / (1 - dropout)
        scores = network(joined, features, kept)
        loss = -functional.logsigmoid(scores[is_labeled]).mean()
        loss = loss - UNLABELED_WEIGHT * functional.logsigmoid(-scores[~is_labeled]).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if progress:
            progress(epoch + 1, epochs)
    with torch.no_grad():
        return network.hidden(joined, features).numpy()


def _unit_length(embeddings: np.ndarray) -> Tensor:
    """Scale every row to length 1; a row of zeros stays."""
    features = torch.from_numpy(np.array(embeddings, dtype=np.float32))
    return functional.normalize(features, dim=1)


def _joined(features: Tensor) -> Tensor:
    """Say how much of each sample every other takes part in: cosines, columns summing to one, and itself once.

    Dense, (samples, samples), for small pools; sparse for others.
    """
    return _joined_to_all(features) if len(features) <= LARGEST_DENSE else _joined_to_nearest(features, NEIGHBOURS)


def _joined_to_all(features: Tensor) -> Tensor:
    cosine = (features @ features.T).clamp_(min=0).fill_diagonal_(0)
    total = cosine.sum(dim=0)
    return (cosine / torch.where(total > 0, total, 1.0)).add_(torch.eye(len(features)))


def _joined_to_nearest(features: Tensor, neighbours: int) -> Tensor:
    """Join each sample to those that are among its nearest or have it among theirs."""
    count = len(features)
    near, cosine = _nearest(features, min(neighbours, count - 1))
    own = torch.arange(count).repeat_interleave(near.shape[1])
    pairs = torch.cat([torch.stack([own, near.flatten()]), torch.stack([near.flatten(), own])], dim=1)
    # A pair that is found from both sides occurs twice, with the same cosine.
    pairs, which = torch.unique(pairs, dim=1, return_inverse=True)
    weight = torch.zeros(pairs.shape[1]).scatter_(0, which, cosine.flatten().repeat(2))
    total = torch.zeros(count).scatter_add_(0, pairs[1], weight)
    weight = weight / torch.where(total > 0, total, 1.0)[pairs[1]]
    itself = torch.arange(count).expand(2, count)
    indices, values = torch.cat([pairs, itself], dim=1), torch.cat([weight, torch.ones(count)])
    return torch.sparse_coo_tensor(indices, values, (count, count), check_invariants=False).coalesce()


def _nearest(features: Tensor, neighbours: int) -> tuple[Tensor, Tensor]:
    """Find the most similar others of each sample: their rows and cosines, negative ones as 0; both (samples, neighbours)."""
    found = []
    for start in range(0, len(features), max(1, SIMILARITIES // len(features))):
        rows = torch.arange(start, min(start + max(1, SIMILARITIES // len(features)), len(features)))
        cosine = features[rows] @ features.T
        cosine[torch.arange(len(rows)), rows] = -torch.inf
        found.append(torch.topk(cosine, neighbours, dim=1))
    cosines, near = (torch.cat(parts) for parts in zip(*found, strict=True))
    return near, cosines.clamp_(min=0)
