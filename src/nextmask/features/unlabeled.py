"""The pool as pretraining sees it: images and where each comes from, never a mask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import numpy as np
import torch
from torch import Tensor

from nextmask.errors import DataError, SelectionError
from nextmask.networks.patches import read_patch, rows_at
from nextmask.networks.resident import resident


@dataclass(frozen=True, eq=False)
class Unlabeled:
    """Every sample of a pool, labeled or not; row i of every array is sample i.

    ``load(row)`` opens its image, (channels, *spatial), best as a memory map of which only a patch is then read.
    ``patient`` and ``volume`` number what a sample belongs to; ``place`` is its slice's number in the volume.
    All (samples,) int.
    """

    load: Callable[[int], np.ndarray]
    patient: np.ndarray
    volume: np.ndarray
    place: np.ndarray

    def __len__(self) -> int:
        return len(self.volume)

    def on_device(self, device: torch.device) -> Unlabeled:
        """Keep the images on an accelerator, if they fit."""
        loaders = resident([partial(self.load, row) for row in range(len(self))], device)
        return replace(self, load=lambda row: loaders[row]())


@dataclass(frozen=True, eq=False)
class Batch:
    """Patches, (rows, channels, *patch) float32, and where each comes from, (rows,) int."""

    images: Tensor
    patient: Tensor
    volume: Tensor
    place: Tensor


def read_batch(
    pool: Unlabeled, rows: np.ndarray, patch: Sequence[int], rng: np.random.Generator, device: torch.device
) -> Batch:
    """Read a random patch of each row; an image smaller than the patch lies in its middle, its border repeated.

    Raises DataError for an image that is not finite, or of other axes or channels than the first.
    """
    images = [read_patch(pool.load(int(row)), int(row), patch, rng) for row in rows]
    channels = {len(image) for image in images}
    if len(channels) > 1:
        raise DataError(
            f"The images of one batch have {sorted(channels)} channels. Expected the same number in all of a study. "
            "Leave out the cases that differ, or make a study of their own of them."
        )
    of = (torch.from_numpy(array[rows]).to(device) for array in (pool.patient, pool.volume, pool.place))
    return Batch(torch.stack(images).to(device), *of)


def shuffled_passes(samples: int, batch_size: int, seed: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield the rows of one batch after another without end; every sample is seen once before any is seen again."""
    for number in count():
        yield np.array(rows_at(number * batch_size, batch_size, samples, seed), dtype=np.int64)


def refuse_one_kind(labeled: np.ndarray) -> None:
    """Raise SelectionError unless there is a labeled and an unlabeled sample."""
    count = int(np.count_nonzero(labeled))
    if not 0 < count < len(labeled):
        raise SelectionError(
            f"{count} of {len(labeled)} samples are labeled. Expected at least one labeled and one unlabeled sample to tell "
            "apart. For the first query choose a strategy that needs no labels, for example typiclust."
        )
