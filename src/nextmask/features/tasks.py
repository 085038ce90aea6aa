"""Every pretraining task by name, and the settings that follow from the pool and the device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch

from nextmask.errors import SelectionError
from nextmask.features.contrastive import contrastive, group_contrastive
from nextmask.features.pretrain import PretrainConfig, Task
from nextmask.features.reconstruction import reconstruction
from nextmask.features.restoration import restoration
from nextmask.networks.architecture import best_precision, derive_size

TASKS: dict[str, Task] = {
    "restoration": restoration,
    "reconstruction": reconstruction,
    "contrastive": contrastive,
    "group_contrastive": group_contrastive,
}
"""Every task by the name that a study gives it."""

ITERATIONS = {"cpu": 3000, "gpu": 20000}
"""Steps of a pretraining, by kind of device."""


def derive_pretrain_config(
    name: str,
    shapes: Sequence[tuple[int, ...]],
    channels: int,
    *,
    dimensions: int,
    device: str,
    iterations: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> PretrainConfig:
    """Derive a pretraining whose network is that of the segmenter, so that its weights can warm it up.

    Raises SelectionError for an option that the task does not have; TrainingError for shapes of too few axes.
    """
    task, size = TASKS[name], derive_size(shapes, dimensions=dimensions, device=device)
    unknown = sorted(set(options or {}) - set(task.options))
    if unknown:
        close = get_close_matches(unknown[0], task.options, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else "Leave it out."
        raise SelectionError(
            f"Task {name!r} has no option {unknown[0]!r}. Expected {', '.join(task.options) or 'none'}. {hint}"
        )
    return PretrainConfig(
        task=name,
        dimensions=dimensions,
        channels=channels,
        patch_size=size.patch_size,
        features=size.features,
        precision=best_precision(device),
        batch_size=task.batch_size,
        iterations=iterations or ITERATIONS["cpu" if torch.device(device).type == "cpu" else "gpu"],
        learning_rate=task.learning_rate,
        weight_decay=1e-4,
        options={**task.options, **(options or {})},
    )
