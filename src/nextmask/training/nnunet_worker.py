"""What runs in nnU-Net's own process: plan, preprocess, train. ``python -m nextmask.training.nnunet_worker FOLDER DEVICE``.

`nextmask.training.nnunet` starts it with nnU-Net's folders in its environment and reads its progress from its output; nothing
else imports this file. What is done already is not done again, so that the same command goes on where it was.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.preprocessing.resampling.no_resampling import no_resampling_hack
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nextmask.training.nnunet_export import DATASET, Workplace

PROGRESS = "nextmask:"
WORKERS = 12
"""Processes that augment where a GPU computes, as nnU-Net has them; on a CPU the one process does both."""


class PoolPlanner(ExperimentPlanner):
    """nnU-Net's planner for images that are on the working grid, and are resampled no more."""

    def determine_resampling(self, *args: Any, **kwargs: Any) -> tuple[Callable, dict, Callable, dict]:
        return no_resampling_hack, {}, no_resampling_hack, {}

    def determine_segmentation_softmax_export_fn(self, *args: Any, **kwargs: Any) -> tuple[Callable, dict]:
        return no_resampling_hack, {}


class StudyTrainer(nnUNetTrainer):
    """nnU-Net's trainer, told how long to train, seeded by epoch, and never leaving half a checkpoint.

    It has no ``__init__``: the base class looks up the parameters of that one by name. What it is told is set afterwards.
    """

    seed: Sequence[int] = (0,)
    before, total = 0, 0

    def told(self, job: dict[str, Any], member: int) -> StudyTrainer:
        """Take the length, the seed and the place in the whole job."""
        self.num_epochs, self.num_iterations_per_epoch = job["epochs"], job["iterations_per_epoch"]
        self.num_val_iterations_per_epoch = 1  # it must have some; nothing is chosen by them
        self.save_every = 1
        self.seed = [*job["seed"], member]
        self.before = member * self.num_epochs * self.num_iterations_per_epoch
        self.total = job["members"] * self.num_epochs * self.num_iterations_per_epoch
        self.logger.plot_progress_png = lambda folder: None  # a picture of seconds after every epoch
        return self

    def on_train_epoch_start(self) -> None:
        seed_all([*self.seed, self.current_epoch + 1])
        self.done = self.before + self.current_epoch * self.num_iterations_per_epoch
        super().on_train_epoch_start()

    def train_step(self, batch: dict) -> dict:
        outcome: dict = super().train_step(batch)
        self.done += 1
        # Where nobody listens any more, this ends the process: two must never train in one folder.
        print(PROGRESS, self.done, self.total, flush=True)
        if not np.isfinite(outcome["loss"]):
            raise FloatingPointError(f"the loss is {outcome['loss']} at iteration {self.done} of {self.total}")
        return outcome

    def save_checkpoint(self, filename: str) -> None:
        if not filename.endswith("checkpoint_best.pth"):  # best on what it was trained on: of no use
            super().save_checkpoint(filename + ".part")
            Path(filename + ".part").replace(filename)


def main(place: Workplace, device: str) -> None:
    """Do what is not done yet."""
    job = json.loads((place.folder / "job.json").read_text())
    plans_file = place.preprocessed / "nnUNetPlans.json"
    if not (place.folder / "preprocessed.done").exists():
        plans_file.unlink(missing_ok=True)  # half of one, if planning was cut off; the planner reads what is there
        plan(job)
        preprocess(place, job, PlansManager(str(plans_file)))
        (place.folder / "preprocessed.done").touch()
    os.environ["nnUNet_n_proc_DA"] = "0" if device == "cpu" else str(WORKERS)  # noqa: SIM112
    for member in range(job["members"]):
        if not place.member(member).exists():
            train(place, job, member, json.loads(plans_file.read_text()), device)


def plan(job: dict[str, Any]) -> None:
    """Let nnU-Net derive patch, batch and network from the pool."""
    planner = PoolPlanner(DATASET, gpu_memory_target_in_gb=job["memory_gb"], suppress_transpose=True)
    planner.lowres_creation_threshold = 0.0  # no cascade
    # The batch grows with the number of images, and must not grow with the labels.
    planner.dataset_json = {**planner.dataset_json, "numTraining": job["pool"]}
    planner.plan_experiment()


def preprocess(place: Workplace, job: dict[str, Any], plans: PlansManager) -> None:
    """Bring every sample into the form that nnU-Net reads while it trains."""
    dataset = json.loads((place.raw / "dataset.json").read_text())
    configuration = plans.get_configuration(job["configuration"])
    preprocessor = configuration.preprocessor_class(verbose=False)
    folder = place.preprocessed / configuration.data_identifier
    folder.mkdir(parents=True, exist_ok=True)
    for name, files in get_filenames_of_train_images_and_targets(str(place.raw), dataset).items():
        preprocessor.run_case_save(str(folder / name), files["images"], files["label"], plans, configuration, dataset)


def train(place: Workplace, job: dict[str, Any], member: int, plans: dict[str, Any], device: str) -> None:
    """Train one network, from its last checkpoint if there is one, and keep what prediction needs of it."""
    seed_all([*job["seed"], member, 0])
    dataset = json.loads((place.preprocessed / "dataset.json").read_text())
    trainer = StudyTrainer(
        plans={**plans, "continue_training": True},
        configuration=job["configuration"],
        fold=member,
        dataset_json=dataset,
        device=torch.device(device),
    ).told(job, member)
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    trainer.run_training()
    path = place.member(member)
    network = trainer.network._orig_mod if hasattr(trainer.network, "_orig_mod") else trainer.network  # if compiled
    kept = {"weights": network.state_dict(), "mirror": list(trainer.inference_allowed_mirroring_axes or ())}
    torch.save(kept, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def seed_all(seed: Sequence[int]) -> None:
    """Seed all generators that nnU-Net draws from."""
    first, second, third = (int(n) for n in np.random.SeedSequence(seed).generate_state(3))
    random.seed(first)
    np.random.seed(second)  # noqa: NPY002
    torch.manual_seed(third)


if __name__ == "__main__":
    main(Workplace(Path(sys.argv[1])), sys.argv[2])
