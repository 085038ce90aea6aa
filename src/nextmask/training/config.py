"""How a segmenter is trained: plain numbers, derived from the images and the device rather than asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, Literal

import torch

from nextmask.errors import TrainingError
from nextmask.networks.architecture import Precision, best_precision, derive_size, is_flat


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a training besides the samples and the seed; ``dataclasses.asdict`` of it is JSON.

    ``classes`` includes background. ``patch_size`` is (z, y, x) or (y, x) voxels of the working grid. ``features`` are
    the widths of the network from top to bottom; with ``full_resolution`` the top level sees every voxel, which takes three times
    as long; else the first layer halves the patch already. ``mirror``: along every axis, so only where left may be right.
    ``foreground_share``: how many patches of images larger than a patch are centred on an annotated structure.
    ``dropout``: share of the activations that each layer drops.
    ``norm``: "instance", or "batch" where a published network has it; a batch of a few images has no stable statistics.
    ``objectives``: names in `nextmask.training.objectives.OBJECTIVES` and their weights; what is minimised is the sum.
    ``unlabeled_batch_size``: unlabeled images per step, beside ``batch_size`` annotated ones.
    ``average``: decay of the moving average of the weights, which predicts in the end; 0 = the last weights do.
    ``accumulate``: batches whose gradients are averaged for one step.
    ``snapshots``: how many times the learning rate falls to 0 and rises again, each time leaving a member of an ensemble
    (Huang et al. 2017, https://arxiv.org/abs/1704.00109).
    """

    dimensions: int
    channels: int
    classes: int
    patch_size: tuple[int, ...]
    batch_size: int
    iterations: int
    learning_rate: float
    weight_decay: float
    features: tuple[int, ...]
    mirror: bool
    rotate_degrees: float
    precision: Precision
    foreground_share: float
    full_resolution: bool = False
    dropout: float = 0.0
    norm: Literal["instance", "batch"] = "instance"
    objectives: tuple[tuple[str, float], ...] = (("supervised", 1.0),)
    unlabeled_batch_size: int = 0
    average: float = 0.0
    accumulate: int = 1
    snapshots: int = 1

    def __post_init__(self) -> None:
        for name in ("patch_size", "features"):  # JSON knows lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "objectives", tuple((str(name), float(w)) for name, w in self.objectives))


def config_from(values: Mapping[str, Any]) -> TrainConfig:
    """Build a configuration from the plain mapping that ``asdict`` gave; raise TrainingError if keys do not fit.

    What was written before a setting was there has its default.
    """
    expected = {field.name for field in fields(TrainConfig)}
    required = {field.name for field in fields(TrainConfig) if field.default is MISSING}
    if not required <= set(values) <= expected:
        raise TrainingError(
            f"A training configuration has the keys {sorted(values)}. Expected {sorted(expected)}. "
            "It was written by another version of nextmask: train again, or use that version."
        )
    return TrainConfig(**values)


ITERATIONS = {("cpu", 2): 1500, ("cpu", 3): 1000, ("gpu", 2): 5000, ("gpu", 3): 5000}
"""Steps of a training, by kind of device and number of axes."""


def derive_config(
    shapes: Sequence[tuple[int, ...]],
    channels: int,
    classes: int,
    *,
    dimensions: int,
    device: str,
    rgb: bool = False,
    iterations: int | None = None,
    objectives: Mapping[str, float] | None = None,
    unlabeled: int = 0,
) -> TrainConfig:
    """Derive a training from the pool's working-grid shapes, (z, y, x) or (y, x), and the device.

    Training length depends on the device alone, never on how much is labeled: a schedule that grows with the labels
    leaves small budgets undertrained and mistakes that for a lack of annotation. The patch is the median image where
    the device affords it. Where there are ``unlabeled`` images and networks see slices or pictures, FixMatch uses them; of
    volumes it has not gained yet (docs/log.md).

    Raises TrainingError for shapes with fewer axes than ``dimensions``, or none at all.
    """
    size = derive_size(shapes, dimensions=dimensions, device=device)
    kind = "cpu" if torch.device(device).type == "cpu" else "gpu"
    derived = {"supervised": 1.0, "fixmatch": 1.0} if unlabeled and dimensions == 2 else {"supervised": 1.0}
    return TrainConfig(
        dimensions=dimensions,
        channels=channels,
        classes=classes,
        patch_size=size.patch_size,
        batch_size=size.batch_size,
        iterations=ITERATIONS[kind, dimensions] if iterations is None else iterations,
        learning_rate=5e-3,
        weight_decay=1e-2,
        features=size.features,
        mirror=rgb,  # photographs of lesions have no left and right; organs do
        rotate_degrees=45.0 if rgb else 15.0 if is_flat(size.patch_size) else 30.0,
        precision=best_precision(device),
        foreground_share=0.5,
        objectives=tuple((objectives or derived).items()),
        unlabeled_batch_size=size.batch_size,
        average=0.99,
    )


def changed(config: TrainConfig, values: Mapping[str, Any]) -> TrainConfig:
    """Set what a user sets in place of what was derived.

    Raises TrainingError for a name that there is none of, and for what follows from the images and classes.
    """
    free = [field.name for field in fields(TrainConfig) if field.name not in FIXED]
    wrong = sorted(set(values) - set(free))
    if wrong:
        raise TrainingError(
            f"The setting training has {', '.join(wrong)}. Expected some of {', '.join(free)}. Mend that line of study.toml."
        )
    return replace(config, **values)


FIXED = ("dimensions", "channels", "classes", "iterations", "objectives", "snapshots")
"""What follows from the images and classes, or has a setting of its own."""
