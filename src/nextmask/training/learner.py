"""Learner: what turns a round's masks into a segmenter. nextmask's own is a residual U-Net; another needs four methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nextmask.networks.warm_start import WarmStart
from nextmask.training.config import TrainConfig
from nextmask.training.ensemble import fit_members
from nextmask.training.labeled import LoadSample
from nextmask.training.predict import Segmenter, load_segmenter, save_segmenter
from nextmask.training.unlabeled import LoadImage


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """What a learner is given to learn from, all on the working grid.

    ``samples`` open (image, mask) with 255 = not annotated; ``unlabeled`` open images of the whole pool; ``pseudo`` open images
    with what the last round's segmenter was sure of. ``config`` is what nextmask derived for its own network; another learner
    takes of it what it can use, at least ``dimensions``, ``channels`` and ``classes`` (background included). ``starts`` are
    weights to begin with, one per member in turn. ``fewer`` is the file of what this very training gave with fewer members, if that
    is at hand: they need not be trained again. ``spacing`` are the millimetres from voxel to voxel of the pool's typical
    image, None where they are unknown. ``devices`` are to train one network together. ``folder`` keeps what an interrupted
    training needs to go on; it is deleted when the round has its segmenter.
    """

    samples: Sequence[LoadSample]
    config: TrainConfig
    seed: Sequence[int]
    device: str
    folder: Path
    classes: tuple[str, ...] = ()
    unlabeled: Sequence[LoadImage] = ()
    pseudo: Sequence[LoadSample] = ()
    starts: Sequence[WarmStart | None] = field(default=(None,))
    members: int = 1
    spacing: tuple[float, ...] | None = None
    devices: int = 1
    fewer: Path | None = None


class Predicts(Protocol):
    """A segmenter, as far as a study needs it.

    One that holds several ``networks`` may also offer ``predict_members``, which yields what each says; evidence that compares
    members takes mirrored views where there is one network. One with ``encode`` serves the encoder "network" too, and one
    that takes whole volumes only, where slices are asked for, says so by ``dimensions = 3``.
    """

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Return class probabilities (classes, *spatial) float32 of a working image (channels, *spatial).

        One that was trained on slices is asked about slices (channels, y, x) and about whole volumes (channels, z, y, x).
        """
        ...


class Learner(Protocol):
    """Whatever can be trained on masks.

    Four methods, nothing to inherit: ``fit`` trains anew, ``save`` writes a segmenter into one file, ``load`` reads it back,
    and ``describe`` is what the ledger keeps of it: plain values. Two attributes are optional: ``name``, by which the ledger
    knows who can open a segmenter (its class if not given), and ``settings``: which of start, objectives, members, snapshots
    and devices of study.toml it follows (none if not given; setting one of the others is then an error).
    """

    def fit(self, task: TrainingTask, progress: Callable[[int, int], None] | None = None) -> Any: ...
    def save(self, segmenter: Any, path: Path) -> None: ...
    def load(self, path: Path, device: str) -> Any: ...
    def describe(self, task: TrainingTask) -> dict[str, Any]: ...


class UNetLearner:
    """nextmask's own learner: a residual U-Net, or an ensemble of them."""

    name = "unet"
    settings = ("start", "objectives", "members", "snapshots", "devices")

    def fit(self, task: TrainingTask, progress: Callable[[int, int], None] | None = None) -> Segmenter:
        """Train ``task.members`` networks by the objectives of the configuration."""
        return fit_members(
            task.samples,
            task.config,
            task.members,
            seed=task.seed,
            folder=task.folder,
            starts=task.starts,
            progress=progress,
            device=task.device,
            unlabeled=task.unlabeled,
            pseudo=task.pseudo,
            devices=task.devices,
            trained=load_segmenter(task.fewer, task.device).networks if task.fewer else (),
        )

    def save(self, segmenter: Segmenter, path: Path) -> None:
        """Write weights and configuration whole or not at all."""
        save_segmenter(segmenter, path)

    def load(self, path: Path, device: str) -> Segmenter:
        """Read what `save` wrote; nothing in the file is executed."""
        return load_segmenter(path, device)

    def describe(self, task: TrainingTask) -> dict[str, Any]:
        """Name the configuration that was trained with."""
        return {"name": "unet", "config": asdict(task.config), "members": task.members}
