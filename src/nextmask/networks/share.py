"""One batch, computed by several processes: each runs the network on its part, and all know what was said of the whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


@dataclass(frozen=True)
class Share:
    """Which part of every batch this process computes: number ``rank`` of ``count``; 0 of 1 is all of it.

    All processes draw the same whole batch, and compute the same loss of it, from what the network said to each of them about
    its part. So a loss may compare images of a batch, and is what one process alone would have computed. Alone nothing is
    copied or sent. Batches must divide by ``count``.
    """

    rank: int = 0
    count: int = 1

    def own(self, batch: Tensor) -> Tensor:
        """Take this process's part of a batch."""
        return batch if self.count == 1 else batch.chunk(self.count)[self.rank]

    def whole(self, part: Tensor) -> Tensor:
        """Put a batch together from the parts of all processes; a gradient flows into the own part only."""
        if self.count == 1:
            return part
        sent = part.detach().contiguous()
        parts = [torch.empty_like(sent) for _ in range(self.count)]
        distributed.all_gather(parts, sent)
        parts[self.rank] = part
        return torch.cat(parts)

    def add_up(self, gradients: Iterable[Tensor | None]) -> None:
        """Replace gradients by their sum over all processes: each has those of its part alone."""
        found = [each for each in gradients if each is not None]
        if self.count == 1 or not found:
            return
        together = torch.cat([each.flatten() for each in found])
        distributed.all_reduce(together)
        for each, summed in zip(found, together.split([each.numel() for each in found]), strict=True):
            each.copy_(summed.view(each.shape))


ALONE = Share()
