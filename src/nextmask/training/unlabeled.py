"""Images that nobody annotated, as training reads them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from nextmask.networks.patches import read_patch, rows_at
from nextmask.training.config import TrainConfig

LoadImage = Callable[[], np.ndarray | Tensor]
"""Gives the image (channels, *spatial) of one sample; called anew for every patch."""

_ORDER, _PATCHES = 5, 6  # streams of randomness, apart from those of annotated samples


def draw_unlabeled(images: Sequence[LoadImage], config: TrainConfig, seed: Sequence[int], number: int) -> Tensor:
    """Read the patches of batch ``number``, (batch, channels, *patch) float32; all images are seen equally often.

    Raises DataError for an image that is not finite or has other axes than the training.
    """
    rng = np.random.default_rng([*seed, _PATCHES, number])
    size = config.unlabeled_batch_size
    rows = rows_at(number * size, size, len(images), [*seed, _ORDER])
    return torch.stack([read_patch(images[row](), row, config.patch_size, rng) for row in rows])
