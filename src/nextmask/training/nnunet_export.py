"""What nnU-Net is given: the annotated samples in its raw format, what its plans rest on, and our splits.

Nothing of nnU-Net is needed here. Images are those of the working grid, which nextmask has cropped, resampled and normalised:
nnU-Net is told to do none of that again. Plans rest on the images of the whole pool, never on how much of it is labeled, so
that they are the same in every round.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from nextmask.data.files import digest_json, write_text
from nextmask.data.nifti import image_at
from nextmask.data.pool import IGNORE
from nextmask.errors import TrainingError
from nextmask.training.labeled import fingerprint, look_at_samples
from nextmask.training.learner import TrainingTask

DATASET = "Dataset001_nextmask"
ENDING = ".nii.gz"
EPOCH, EPOCHS = 250, 20
"""Iterations of an epoch, as nnU-Net has them, and how many epochs there should be at least: its learning rate falls by epoch."""
BETWEEN_SLICES = 999.0
"""How much farther apart than their pixels nnU-Net takes the slices of an image to be that has one slice only."""


@dataclass(frozen=True)
class Workplace:
    """The folders of one training, and of what nnU-Net keeps in each."""

    folder: Path

    @property
    def raw(self) -> Path:
        """Images and labels as nnU-Net's converters write them."""
        return self.folder / "raw" / DATASET

    @property
    def preprocessed(self) -> Path:
        """Plans, splits, and what nnU-Net reads while it trains."""
        return self.folder / "preprocessed" / DATASET

    @property
    def log(self) -> Path:
        """All that nnU-Net printed."""
        return self.folder / "log.txt"

    def member(self, number: int) -> Path:
        """The weights of one finished network."""
        return self.folder / f"member-{number}.pt"


def trainer_length(iterations: int) -> tuple[int, int]:
    """Divide a training into epochs: how many, and of how many iterations."""
    each = max(1, min(EPOCH, iterations // EPOCHS))
    return max(1, math.ceil(iterations / each)), each


def configuration_of(task: TrainingTask) -> str:
    """Name nnU-Net's configuration for slices and pictures, or for volumes."""
    return "2d" if task.config.dimensions == 2 else "3d_fullres"


def export(task: TrainingTask, memory_gb: float) -> Workplace:
    """Write all that nnU-Net needs below ``task.folder``; what an interrupted training wrote of the same masks is kept.

    Raises TrainingError without samples, for a sample without annotation, with a class that the study does not know, or for
    an image that is not finite.
    """
    labeled = look_at_samples(task.samples, task.config, task.seed)
    job = _job(task, memory_gb)
    place = Workplace(task.folder.resolve() / f"nnunet-{digest_json([fingerprint(labeled), job])[:16]}")
    for other in task.folder.resolve().glob("nnunet-*"):
        if other != place.folder:  # of other masks, which somebody has corrected since
            shutil.rmtree(other)
    done = place.folder / "job.json"
    if not done.exists():
        _write_samples(task, place.raw)
        place.preprocessed.mkdir(parents=True, exist_ok=True)
        _write_json(place.preprocessed / "dataset_fingerprint.json", _fingerprint_of_pool(task))
        _write_json(place.preprocessed / "splits_final.json", _splits(len(task.samples), task.members))
        _write_json(done, job)
    return place


def _job(task: TrainingTask, memory_gb: float) -> dict[str, Any]:
    epochs, each = trainer_length(task.config.iterations)
    return {
        "configuration": configuration_of(task),
        "epochs": epochs,
        "iterations_per_epoch": each,
        "members": task.members,
        "seed": list(task.seed),
        "pool": len(task.unlabeled or task.samples),
        "memory_gb": memory_gb,
    }


def _write_samples(task: TrainingTask, folder: Path) -> None:
    listed = {}
    for row, load in enumerate(task.samples):
        image, mask = load()
        listed[_name(row)] = _write_sample(folder, row, np.asarray(image, np.float32), np.asarray(mask), task)
    _write_json(folder / "dataset.json", dataset_json(task, listed))


def _write_sample(folder: Path, row: int, image: np.ndarray, mask: np.ndarray, task: TrainingTask) -> dict[str, Any]:
    """Write one sample, a file a channel, and say where; paths are relative to the dataset's folder."""
    if not np.isfinite(image).all():
        raise TrainingError(
            f"The image of training sample {row} has {np.count_nonzero(~np.isfinite(image))} values that are not finite. "
            "Expected numbers, at most 65504 in size after preprocessing. Repair the image or drop the case."
        )
    apart = task.spacing or (1.0,) * mask.ndim
    images = [f"imagesTr/{_name(row)}_{channel:04d}{ENDING}" for channel in range(len(image))]
    label = f"labelsTr/{_name(row)}{ENDING}"
    # nnU-Net wants the label that is ignored to be the one after the last class.
    named = np.where(mask == IGNORE, task.config.classes, mask).astype(np.uint8)
    for path, array in zip([*images, label], [*image, named], strict=True):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        nib.save(image_at(apart, array), folder / path)
    return {"images": images, "label": label}


def dataset_json(task: TrainingTask, listed: dict[str, Any]) -> dict[str, Any]:
    """Describe the dataset as nnU-Net wants it: every channel normalised already, 255 as the label ``ignore``."""
    names = task.classes or tuple(f"class {number}" for number in range(1, task.config.classes))
    labels = {f"{number} {name}": number for number, name in enumerate(names, start=1)}  # two may not have one name
    return {
        "channel_names": {str(channel): "noNorm" for channel in range(task.config.channels)},
        "labels": {"background": 0, **labels, "ignore": task.config.classes},
        "numTraining": len(listed),
        "file_ending": ENDING,
        "dataset": listed,
    }


def _fingerprint_of_pool(task: TrainingTask) -> dict[str, Any]:
    """Say what nnU-Net's planner asks of a dataset, of all images of the pool."""
    images = task.unlabeled or [lambda load=load: load()[0] for load in task.samples]  # type: ignore[misc]
    shapes = [list(load().shape[1:]) for load in images]
    spacing = list(task.spacing or (1.0,) * task.config.dimensions)
    if task.config.dimensions == 2:
        shapes, spacing = [[1, *shape] for shape in shapes], [BETWEEN_SLICES * max(spacing), *spacing]
    return {
        "spacings": [spacing] * len(shapes),
        "shapes_after_crop": shapes,
        "foreground_intensity_properties_per_channel": {str(channel): {} for channel in range(task.config.channels)},
        "median_relative_size_after_cropping": 1.0,
    }


def _splits(count: int, members: int) -> list[dict[str, list[str]]]:
    """Train on everything. nnU-Net must have validation images: the same ones, and nothing is chosen by them."""
    names = [_name(row) for row in range(count)]
    return [{"train": names, "val": names}] * members


def _name(row: int) -> str:
    return f"sample_{row:05d}"


def _write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1))
