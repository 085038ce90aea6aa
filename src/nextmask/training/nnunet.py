"""nnU-Net v2 as a learner: it plans, trains and predicts as it always does, on the samples that a study has labeled.

Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation", Nature Methods 18
(2021) 203-211. It trains in a process of its own, because it is set up by environment variables that are none of this one's
business; prediction is done in this process by its own predictor.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

import nextmask
from nextmask.errors import TrainingError
from nextmask.networks.device import choose_device
from nextmask.networks.weights import check_weights, read_stored, save_tensors
from nextmask.training.learner import TrainingTask
from nextmask.training.nnunet_export import Workplace, configuration_of, export, trainer_length
from nextmask.training.views import mean_of

FORMAT = "nextmask nnunet 1"
LAST_LINES = 15
"""Lines of nnU-Net's output that an error shows."""
PARTS = {"network_class_name": "dynamic_network_architectures.architectures.", "imported": "torch.nn."}
"""Where the parts of a network may come from that a file of plans names: nothing else is imported because a file says so."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class NNUNetLearner:
    """Trains nnU-Net (2d for slices and pictures, 3d_fullres for volumes) for as many iterations as a study sets.

    ``memory_gb`` is what nnU-Net plans its patch and batch for; 8 is its own default.
    """

    memory_gb: float = 8.0
    name: ClassVar[str] = "nnunet"
    settings: ClassVar[tuple[str, ...]] = ("members",)

    def fit(self, task: TrainingTask, progress: Progress | None = None) -> NNUNetSegmenter:
        """Train ``task.members`` networks, each from a seed of its own; go on where an interrupted training was.

        Raises TrainingError where nnU-Net is not installed, stops, or is given samples that cannot be trained on.
        """
        installed_version()
        place = export(task, self.memory_gb)
        _run(place, task.device, progress)
        return segmenter_of(_collected(place, configuration_of(task), task.members), place.folder, task.device)

    def save(self, segmenter: NNUNetSegmenter, path: Path) -> None:
        """Write plans and weights into one file (a zip), whole or not at all."""
        weights = [network.state_dict() for network in segmenter.networks]
        save_tensors({"format": FORMAT, **segmenter.made, "weights": weights}, path)

    def load(self, path: Path, device: str) -> NNUNetSegmenter:
        """Read what `save` wrote; nothing in the file is executed.

        Raises TrainingError if it is damaged or something else, or if nnU-Net is not installed.
        """
        installed_version()
        stored = read_stored(path)
        if stored is None or stored.get("format") != FORMAT:
            raise TrainingError(
                f"{path} is no segmenter of nnU-Net, or is damaged. Expected a file that nnunet's learner saved. Restore it "
                "from a backup, or train again."
            )
        return segmenter_of(stored, path, device)

    def describe(self, task: TrainingTask) -> dict[str, Any]:
        """Say what of nnU-Net trained, and for how long."""
        epochs, each = trainer_length(task.config.iterations)
        config = {"iterations": epochs * each, "epochs": epochs, "configuration": configuration_of(task)}
        return {
            "name": "nnU-Net",
            "config": {**config, "members": task.members, "memory_gb": self.memory_gb},
            "nnunetv2": installed_version(),
        }


@dataclass(frozen=True, eq=False)
class NNUNetSegmenter:
    """Trained networks of nnU-Net; ``made`` holds their plans, dataset, configuration and the axes that it mirrors along."""

    made: Mapping[str, Any]
    networks: tuple[nn.Module, ...]
    device: str

    @property
    def dimensions(self) -> int:
        """Axes of what the networks take: 2 = slices, and volumes slice by slice; 3 = volumes."""
        return len(self.made["plans"]["configurations"][self.made["configuration"]]["patch_size"])

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Return class probabilities (classes, *spatial) float32 of an image (channels, *spatial); the mean over networks.

        Windows and mirrored views are nnU-Net's own. Networks of slices take volumes too, slice by slice.
        """
        return mean_of(self.predict_members(image))

    def predict_members(self, image: np.ndarray) -> Iterator[np.ndarray]:
        """Yield what each network says of one image, each as `predict` gives it; made one at a time."""
        volume = self._as_volume(image)
        for network in self.networks:
            self._predictor.network = network
            logits = self._predictor.predict_sliding_window_return_logits(volume)
            probabilities = torch.softmax(logits.float(), dim=0).cpu().numpy()
            yield np.ascontiguousarray(probabilities.reshape(len(probabilities), *image.shape[1:]))

    def _as_volume(self, image: np.ndarray) -> torch.Tensor:
        channels = len(self.made["dataset"]["channel_names"])
        if image.shape[0] != channels or image.ndim not in {4, self.dimensions + 1}:
            axes = "z, y, x" if self.dimensions == 3 else "[z, ]y, x"
            raise TrainingError(
                f"An image of shape {image.shape} was given to nnU-Net, trained on {channels} channels and {self.dimensions} "
                f"dimensions. Expected ({channels}, {axes}). Give the channels it was trained on."
            )
        tensor = torch.from_numpy(np.array(image, np.float32))
        return tensor if image.ndim == 4 else tensor[:, None]

    @cached_property
    def _predictor(self) -> Any:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        where = torch.device(choose_device(self.device))
        with contextlib.redirect_stdout(io.StringIO()):  # it tells of every device but cuda that it is none
            predictor = nnUNetPredictor(
                perform_everything_on_device=where.type == "cuda", device=where, allow_tqdm=False
            )
        plans = PlansManager(dict(self.made["plans"]))
        configuration, mirror = plans.get_configuration(self.made["configuration"]), tuple(self.made["mirror"]) or None
        predictor.manual_initialization(
            self.networks[0], plans, configuration, None, self.made["dataset"], "nnUNetTrainer", mirror
        )
        return predictor


def installed_version() -> str:
    """Return the version of nnU-Net that is installed; raise TrainingError if none is."""
    try:
        return version("nnunetv2")
    except PackageNotFoundError as error:
        raise TrainingError(
            'learner = "nnunet" needs nnU-Net v2, and nnunetv2 is not installed. Expected nnunetv2 2.8 or newer. Install it '
            'with pip install "nextmask[nnunet]", or set learner = "unet" in study.toml.'
        ) from error


def segmenter_of(made: Mapping[str, Any], path: Path, device: str) -> NNUNetSegmenter:
    """Build the networks that plans describe, and put weights into them.

    Raises TrainingError if plans name anything but parts of networks, or weights do not fit.
    """
    networks = tuple(_network(made, weights, path) for weights in made["weights"])
    kept = {name: made[name] for name in ("plans", "dataset", "configuration", "mirror")}
    return NNUNetSegmenter(kept, networks, device)


def _network(made: Mapping[str, Any], weights: Mapping[str, torch.Tensor], path: Path) -> nn.Module:
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    described = made["plans"]["configurations"][made["configuration"]]["architecture"]
    _refuse_foreign_parts(described, path)
    network: nn.Module = get_network_from_plans(
        described["network_class_name"],
        described["arch_kwargs"],
        described["_kw_requires_import"],
        len(made["dataset"]["channel_names"]),
        len(made["dataset"]["labels"]) - 1,  # ignore is no class
        allow_init=False,
        deep_supervision=False,
    )
    check_weights(weights, network.state_dict(), path)
    network.load_state_dict(weights)
    return network.eval()


def _refuse_foreign_parts(described: Mapping[str, Any], path: Path) -> None:
    named = [described["arch_kwargs"][key] for key in described["_kw_requires_import"]]
    wrong = [name for name in named if name is not None and not str(name).startswith(PARTS["imported"])]
    if not described["network_class_name"].startswith(PARTS["network_class_name"]):
        wrong.append(described["network_class_name"])
    if wrong:
        raise TrainingError(
            f"{path} names {', '.join(map(str, wrong))} as parts of a network. Expected parts of "
            f"{' and '.join(PARTS.values())} only, as nnU-Net plans them. Train again; do not open the file with other tools."
        )


def _run(place: Workplace, device: str, progress: Progress | None) -> None:
    """Plan, preprocess and train in a process of its own, whose output goes into the log."""
    kind = choose_device(device).split(":")[0]
    job = json.loads((place.folder / "job.json").read_text())
    command = [sys.executable, "-m", "nextmask.training.nnunet_worker", str(place.folder), kind]
    done, total, ended = 0, job["members"] * job["epochs"] * job["iterations_per_epoch"], False
    with (
        place.log.open("a", encoding="utf-8", buffering=1) as log,
        subprocess.Popen(
            command,
            env=_environment(place, device),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("nextmask:"):
                    done = int(line.split()[1])
                    if progress:
                        progress(done, total)
                else:
                    log.write(line)
            ended = True
        finally:  # somebody interrupts this process
            if not ended:
                process.kill()
    if process.returncode:
        raise _stopped(place, process.returncode, done, total)


def _environment(place: Workplace, device: str) -> dict[str, str]:
    """Return the environment of nnU-Net's process; this one's is left alone."""
    root = str(Path(nextmask.__file__).parents[1])
    added = {
        "nnUNet_raw": place.raw.parent,
        "nnUNet_preprocessed": place.preprocessed.parent,
        "nnUNet_results": place.folder / "results",
        "nnUNet_n_proc_DA": 1,  # 0 is right for training on a CPU, but no number of threads for the planner
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        "PYTHONUNBUFFERED": 1,
    }
    if ":" in device:  # nnU-Net always takes the first GPU that it sees
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
        number = int(device.split(":")[1])
        added["CUDA_VISIBLE_DEVICES"] = seen[number] if number < len(seen) and seen[0] else number
    # Compiling takes minutes, and trainings of a round are short; who sets nnUNet_compile knows better.
    return {"nnUNet_compile": "false", **os.environ, **{name: str(value) for name, value in added.items()}}


def _stopped(place: Workplace, code: int, done: int, total: int) -> TrainingError:
    lines = place.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
    return TrainingError(
        f"nnU-Net stopped with exit code {code} after {done} of {total} iterations. Expected it to train to its end. Its last "
        f"lines say why (all of them: {place.log}); -9 is most often too little memory. Training again goes on at its last "
        "checkpoint.\n" + "\n".join(f"    {line}" for line in lines)
    )


def _collected(place: Workplace, configuration: str, members: int) -> dict[str, Any]:
    """Read what a finished training left: plans of the one configuration, and the weights of every network."""
    plans = json.loads((place.preprocessed / "nnUNetPlans.json").read_text())
    plans["configurations"] = {configuration: plans["configurations"][configuration]}
    dataset = json.loads((place.raw / "dataset.json").read_text())
    kept = {name: dataset[name] for name in ("channel_names", "labels", "file_ending")}
    trained = [torch.load(place.member(k), map_location="cpu", weights_only=True) for k in range(members)]
    return {
        "plans": plans,
        "dataset": kept,
        "configuration": configuration,
        "mirror": trained[0]["mirror"],
        "weights": [each["weights"] for each in trained],
    }
