"""Samples kept on an accelerator, where they fit: patches read from disk one by one are what a step would wait for there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

OF_FREE = 0.25
"""Share of the device's free memory that one set of samples may fill; networks and their activations need the rest."""


def resident(loaders: Sequence[Callable[[], Any]], device: torch.device) -> list[Callable[[], Any]]:
    """Return loaders of the same arrays as tensors on the device, if they all fit there; else the loaders themselves.

    A loader gives an array, or a tuple of some. Main memory counts as full: memory maps of which only a patch is read do well
    there. So does a set in which a number is not finite: whoever reads that patch says which it is.
    """
    room = OF_FREE * free_bytes(device)
    if not room or sum(array.nbytes for load in loaders for array in _arrays(load())) > room:
        return list(loaders)
    kept: list[Callable[[], Any]] = []
    for load in loaders:
        arrays = load()
        if not all(np.isfinite(array).all() for array in _arrays(arrays)):
            return list(loaders)
        kept.append(partial(_same, _moved(arrays, device)))
    return kept


def free_bytes(device: torch.device) -> int:
    """Return how much memory an accelerator has left; 0 where that is not known, and for main memory."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 0


def _arrays(loaded: Any) -> tuple[np.ndarray, ...]:
    return loaded if isinstance(loaded, tuple) else (loaded,)


def _moved(loaded: Any, device: torch.device) -> Any:
    moved = tuple(torch.from_numpy(np.array(array)).to(device) for array in _arrays(loaded))
    return moved if isinstance(loaded, tuple) else moved[0]


def _same(value: Any) -> Any:
    return value
