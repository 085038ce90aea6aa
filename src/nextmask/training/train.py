"""Training: one flat loop over a list of objectives, from annotated and unlabeled samples to a segmenter.

There is no validation set and no choice among checkpoints: masks are what a study is short of, and a set of them
kept aside to pick the best checkpoint would have to be counted into the budget. The last weights, or their moving average,
are the result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from nextmask.errors import TrainingError
from nextmask.networks.augment import augment_batch, warp
from nextmask.networks.device import choose_device
from nextmask.networks.dropout import dropping
from nextmask.networks.freed import keeping_freed
from nextmask.networks.optimise import CHECKED_EVERY, adamw, descend, set_rate, torch_seed
from nextmask.networks.resident import resident
from nextmask.networks.running import autocast, place
from nextmask.networks.share import ALONE, Share
from nextmask.networks.unet import build_unet
from nextmask.networks.warm_start import WarmStart, load_into
from nextmask.networks.weights import read_stored, save_tensors
from nextmask.training.config import TrainConfig
from nextmask.training.labeled import Labeled, LoadSample, draw_labeled, fingerprint, look_at_samples, on_device
from nextmask.training.objectives import OBJECTIVES, ramp
from nextmask.training.predict import Segmenter
from nextmask.training.step import Networks, Step
from nextmask.training.unlabeled import LoadImage, draw_unlabeled

_WEIGHTS, _AUGMENTATION, _PSEUDO = 0, 4, 7  # streams of randomness, each of its own seed


@keeping_freed()
def fit(
    samples: Sequence[LoadSample],
    config: TrainConfig,
    *,
    seed: Sequence[int],
    device: str,
    unlabeled: Sequence[LoadImage] = (),
    pseudo: Sequence[LoadSample] = (),
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 20.0,
    start: WarmStart | None = None,
    progress: Callable[[int, int], None] | None = None,
    share: Share = ALONE,
) -> Segmenter:
    """Train a segmenter on labeled samples, and on what else the configuration's objectives make use of.

    Of masks only voxels that are not 255 are learned from. ``unlabeled`` are images that nobody annotated (annotated ones may
    be among them); ``pseudo`` are images with masks that an earlier segmenter predicted. It begins with random weights, or
    with those of ``start`` where that has some.

    What iteration i draws depends on ``seed`` and i alone. With ``checkpoint`` the state is written there every
    ``checkpoint_seconds`` and at the end, and a training of the same configuration, seed and masks that was interrupted
    goes on from it to the very weights of an uninterrupted one (on a CPU with the same number of threads). The caller
    deletes it. Processes that ``share`` the batches call this alike, and the first one writes (`nextmask.training.several`).

    Raises TrainingError without samples, for a sample without annotation, with a class that the configuration does not
    know, or with values that are not finite; for objectives that do not exist or lack what they need; if the loss stops
    being finite, and then the last checkpoint stays; and for weights to start with that do not fit.
    """
    where = torch.device(choose_device(device))
    check_objectives(config, len(unlabeled))
    drawing = _Drawing(
        on_device(look_at_samples(samples, config, seed), where),
        resident(unlabeled, where),
        on_device(look_at_samples(pseudo, config, [*seed, _PSEUDO]), where) if pseudo else [],
        config,
        seed,
        where,
        share,
    )
    networks = _build(config, seed, start, where)
    optimiser = adamw(networks.trained, config.learning_rate, config.weight_decay)
    begun = None if start is None else [start.part, start.sha256]
    key = {"config": asdict(config), "seed": list(seed), "samples": drawing.fingerprint(), "start": begun}
    snapshots: list[nn.Module] = []
    first = _resume(checkpoint, key, networks, optimiser, snapshots) if checkpoint else 0
    written = time.monotonic()
    for i in range(first, config.iterations):
        place, length = _cycle(i, config)
        set_rate(optimiser, config.learning_rate, place, length)
        loss = descend(networks.trained, optimiser, _losses(networks, drawing, i), config.accumulate, share)
        networks.follow(config.average, i)
        last = i == config.iterations - 1
        due = last or time.monotonic() - written >= checkpoint_seconds
        if due or i % CHECKED_EVERY == 0:
            _refuse_not_finite(loss, i, config)
        if place == length - 1 and not last:
            snapshots.append(deepcopy(networks.kept).eval())
        if checkpoint is not None and due and share.rank == 0:
            state = _state(networks, optimiser, snapshots)
            save_tensors({"key": key, **state, "iteration": i + 1}, checkpoint)
            written = time.monotonic()
        if progress:
            progress(i + 1, config.iterations)
    return Segmenter(config, networks.kept.eval(), tuple(snapshots))


def check_objectives(config: TrainConfig, unlabeled: int) -> None:
    """Raise TrainingError for objectives that do not exist, and for those that need images that are not there."""
    names = [name for name, _ in config.objectives]
    unknown = sorted(set(names) - set(OBJECTIVES))
    if unknown or not names:
        raise TrainingError(
            f"A training has the objectives {names}. Expected one or more of {', '.join(OBJECTIVES)}. "
            "Mend the objectives of the configuration."
        )
    if config.snapshots > config.iterations:
        raise TrainingError(
            f"A training of {config.iterations} iterations is to leave {config.snapshots} snapshots. Expected at least one "
            "iteration for each. Raise iterations, or lower snapshots."
        )
    starved = [name for name in names if OBJECTIVES[name].needs == "unlabeled"]
    if starved and (not unlabeled or not config.unlabeled_batch_size):
        raise TrainingError(
            f"The objectives {', '.join(starved)} learn from unlabeled images, and there are {unlabeled} of them at "
            f"{config.unlabeled_batch_size} a step. Expected at least one. Give some, or leave these objectives out."
        )


def _build(config: TrainConfig, seed: Sequence[int], start: WarmStart | None, where: torch.device) -> Networks:
    student = build_unet(config, config.classes, torch_seed(seed, _WEIGHTS))
    if start is not None:
        load_into(student, start)
    student = place(student, config, where).train()
    average = deepcopy(student).eval().requires_grad_(False) if config.average else None
    others = nn.ModuleDict()
    for number, (name, _) in enumerate(config.objectives, start=1):
        if builds := OBJECTIVES[name].builds:
            others[builds[0]] = place(builds[1](config, torch_seed(seed, _WEIGHTS, number)), config, where).train()
    return Networks(student, average, others)


@dataclass(frozen=True, eq=False)
class _Drawing:
    """What batches are drawn from, and how."""

    labeled: Sequence[Labeled]
    unlabeled: Sequence[LoadImage]
    pseudo: Sequence[Labeled]
    config: TrainConfig
    seed: Sequence[int]
    where: torch.device
    share: Share

    @property
    def needs(self) -> set[str | None]:
        """What the objectives learn from besides annotated samples."""
        return {OBJECTIVES[name].needs for name, _ in self.config.objectives}

    def batch(self, networks: Networks, i: int, part: int) -> Step:
        """Draw part ``part`` of iteration i."""
        number = i * self.config.accumulate + part
        generator = Generator(self.where).manual_seed(torch_seed(self.seed, _AUGMENTATION, number))
        images, masks = self._augmented(self.labeled, self.seed, number, generator)
        return Step(
            networks,
            self.config,
            images,
            masks,
            self._moved(number, generator) if "unlabeled" in self.needs else None,
            self._augmented(self.pseudo, [*self.seed, _PSEUDO], number, generator) if self.pseudo else None,
            generator,
            i,
            self.share,
        )

    def _augmented(
        self, labeled: Sequence[Labeled], seed: Sequence[int], number: int, generator: Generator
    ) -> tuple[Tensor, Tensor]:
        images, masks = draw_labeled(labeled, self.config, seed, number)
        mirror, degrees = self.config.mirror, self.config.rotate_degrees
        return augment_batch(
            images.to(self.where), masks.to(self.where), generator, mirror=mirror, rotate_degrees=degrees
        )

    def _moved(self, number: int, generator: Generator) -> Tensor:
        """Draw unlabeled images and move them about; how their intensities change is up to each objective."""
        images = draw_unlabeled(self.unlabeled, self.config, self.seed, number).to(self.where)
        nothing = torch.zeros((len(images), *images.shape[2:]), dtype=torch.uint8, device=self.where)
        mirror, degrees = self.config.mirror, self.config.rotate_degrees
        return warp(images, nothing, generator, mirror=mirror, rotate_degrees=degrees)[0]

    def fingerprint(self) -> list[Any]:
        """Tell what is trained on from anything else."""
        return [fingerprint(self.labeled), len(self.unlabeled), fingerprint(self.pseudo)]


def _cycle(i: int, config: TrainConfig) -> tuple[int, int]:
    """Say where in its cycle of the learning rate an iteration is, and how long that cycle is."""
    number = i * config.snapshots // config.iterations
    begin, end = (math.ceil(k * config.iterations / config.snapshots) for k in (number, number + 1))
    return i - begin, end - begin


def _losses(networks: Networks, drawing: _Drawing, i: int) -> Iterator[Tensor]:
    """Yield the loss of each part of an iteration."""
    config = drawing.config
    for part in range(config.accumulate):
        step = drawing.batch(networks, i, part)
        with dropping(networks.trained, step.generator, drawing.share), autocast(config, drawing.where):
            loss = _weighted_sum(step)
        yield loss


def _weighted_sum(step: Step) -> Tensor:
    total = torch.zeros((), device=step.images.device)
    for name, weight in step.config.objectives:
        objective = OBJECTIVES[name]
        risen = ramp(step.i, step.config.iterations) if objective.ramped else 1.0
        total = total + weight * risen * objective.loss(step)
    return total


def _state(networks: Networks, optimiser: torch.optim.Optimizer, snapshots: Sequence[nn.Module]) -> dict[str, Any]:
    return {
        "network": networks.student.state_dict(),
        "average": networks.average.state_dict() if networks.average else None,
        "others": networks.others.state_dict(),
        "snapshots": [snapshot.state_dict() for snapshot in snapshots],
        "optimiser": optimiser.state_dict(),
    }


def _resume(
    path: Path,
    key: dict[str, Any],
    networks: Networks,
    optimiser: torch.optim.Optimizer,
    snapshots: list[nn.Module],
) -> int:
    """Take up the state that is stored for this very training, and return its iteration; else start at 0."""
    stored = read_stored(path)
    if stored is None or stored.get("key") != key:
        return 0
    networks.student.load_state_dict(stored["network"])
    networks.others.load_state_dict(stored["others"])
    if networks.average is not None:
        networks.average.load_state_dict(stored["average"])
    for weights in stored["snapshots"]:
        snapshots.append(deepcopy(networks.kept).eval())
        snapshots[-1].load_state_dict(weights)
    optimiser.load_state_dict(stored["optimiser"])
    return int(stored["iteration"])


def _refuse_not_finite(loss: Tensor, i: int, config: TrainConfig) -> None:
    if not math.isfinite(float(loss)):
        raise TrainingError(
            f"The loss is {float(loss)} after iteration {i + 1}. Expected a finite number. Lower the learning rate "
            f"(now {config.learning_rate:g}), or train with precision = 'float32' (now {config.precision!r})."
        )
