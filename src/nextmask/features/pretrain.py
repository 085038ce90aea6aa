"""Pretraining on images alone: one flat loop for every task, seeded by iteration, resumable."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn

from nextmask.data.files import Progress
from nextmask.errors import TrainingError
from nextmask.features.unlabeled import Batch, Unlabeled, read_batch
from nextmask.networks.architecture import Precision
from nextmask.networks.describe import describe
from nextmask.networks.device import choose_device
from nextmask.networks.freed import keeping_freed
from nextmask.networks.optimise import CHECKED_EVERY, adamw, descend, set_rate, torch_seed
from nextmask.networks.running import autocast, place
from nextmask.networks.weights import check_weights, read_stored, save_tensors

FORMAT = "nextmask encoder 1"
MEASURED = 20
"""Times that the loss on the fixed batches is measured, where there are enough iterations to learn anything between."""
MEASURED_EVERY = 25
FIXED_BATCHES = 4
"""Batches whose corruptions never change, so that losses can be compared."""
_WEIGHTS, _ORDER, _PATCHES, _CHANGES, _FIXED = range(5)  # streams of randomness, each of its own seed


@dataclass(frozen=True)
class PretrainConfig:
    """Everything that decides a pretraining besides the images and the seed; ``dataclasses.asdict`` of it is JSON.

    ``options`` are numbers that the task knows by name.
    """

    task: str
    dimensions: int
    channels: int
    patch_size: tuple[int, ...]
    features: tuple[int, ...]
    precision: Precision
    batch_size: int
    iterations: int
    learning_rate: float
    weight_decay: float
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("patch_size", "features"):  # JSON knows lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))


@dataclass(frozen=True)
class Task:
    """What a network is to learn from images alone.

    ``build`` makes the network; ``loss`` of one batch draws what it needs from its generator; ``batches`` yields rows
    without end, the same ones for the same seed; ``encoder`` is the part of the network that describes images.
    ``options`` are the names and defaults of what may be set.
    """

    build: Callable[[PretrainConfig, int], nn.Module]
    loss: Callable[[nn.Module, Batch, PretrainConfig, Generator], Tensor]
    batches: Callable[[Unlabeled, PretrainConfig, Sequence[int]], Iterator[np.ndarray]]
    encoder: Callable[[nn.Module], nn.Module]
    learning_rate: float = 1e-3
    batch_size: int = 8
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LearnedEncoder:
    """A pretrained network, the configuration and the task it was trained by.

    ``curve`` holds the loss on fixed batches with fixed changes as (iteration, loss).
    """

    config: PretrainConfig
    task: Task
    network: nn.Module
    curve: tuple[tuple[int, float], ...] = ()

    def encode(self, image: np.ndarray, grid: int = 1) -> np.ndarray:
        """Describe one image, (channels, *spatial), as a vector, (widths x grid^axes,) float32."""
        batch = torch.from_numpy(np.array(image, dtype=np.float32)).unsqueeze(0)
        if batch.ndim != self.config.dimensions + 2 or batch.shape[1] != self.config.channels:
            raise TrainingError(
                f"An image of shape {image.shape} was given to an encoder of {self.config.channels} channels and "
                f"{self.config.dimensions} dimensions. Expected its channels first. Pretrain on images of this kind."
            )
        encoder = self.task.encoder(self.network)
        return describe(encoder, batch, self.config, at_a_time=self.config.batch_size, grid=grid)[0].numpy()


@keeping_freed()
def pretrain(
    pool: Unlabeled,
    config: PretrainConfig,
    task: Task,
    *,
    seed: Sequence[int],
    device: str,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 20.0,
    progress: Progress | None = None,
) -> LearnedEncoder:
    """Train a network on the images of a pool; what iteration i draws depends on ``seed`` and i alone.

    With ``checkpoint`` the state is written there every ``checkpoint_seconds``, and the same pretraining, interrupted, goes
    on from it to the very weights of an undisturbed one (on a CPU with the same number of threads).

    Raises TrainingError if the loss stops being finite, and for a pool of fewer than two samples; DataError for an image
    that is not finite or of another kind than the others.
    """
    if len(pool) < 2:
        raise TrainingError(
            f"The pool has {len(pool)} samples. Expected two or more to learn what tells images apart. Use encoder "
            "'intensity', which learns nothing, or add images."
        )
    where = torch.device(choose_device(device))
    network = place(task.build(config, torch_seed(seed, _WEIGHTS)), config, where).train()
    optimiser = adamw(network, config.learning_rate, config.weight_decay)
    pool = pool.on_device(where)
    fixed = _FixedBatches(pool, config, task, seed, where)
    key = {"config": asdict(config), "seed": list(seed), "pool": _fingerprint(pool)}
    start, curve = _resume(checkpoint, key, network, optimiser) if checkpoint else (0, [])
    written = time.monotonic()
    batches = islice(task.batches(pool, config, [*seed, _ORDER]), start, config.iterations)
    for i, rows in enumerate(batches, start=start):
        if i % max(MEASURED_EVERY, config.iterations // MEASURED) == 0:
            curve.append((i, fixed.loss(network)))
        batch = read_batch(pool, rows, config.patch_size, np.random.default_rng([*seed, _PATCHES, i]), where)
        generator = torch.Generator(where).manual_seed(torch_seed(seed, _CHANGES, i))
        loss = _step(network, optimiser, task, batch, config, generator, i)
        due = checkpoint is not None and time.monotonic() - written >= checkpoint_seconds
        if due or i % CHECKED_EVERY == 0 or i == config.iterations - 1:
            _refuse_not_finite(loss, i, config)
        if checkpoint is not None and due:
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "iteration": i + 1}
            save_tensors({"key": key, "curve": curve, **state}, checkpoint)
            written = time.monotonic()
        if progress:
            progress(i + 1, config.iterations)
    curve.append((config.iterations, fixed.loss(network)))
    return LearnedEncoder(config, task, network.eval(), tuple(curve))


def _step(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    task: Task,
    batch: Batch,
    config: PretrainConfig,
    generator: Generator,
    i: int,
) -> Tensor:
    set_rate(optimiser, config.learning_rate, i, config.iterations)
    with autocast(config, batch.images.device):
        loss = task.loss(network, batch, config, generator)
    return descend(network, optimiser, [loss])


class _FixedBatches:
    """A few batches, read and changed the same way whenever they are looked at."""

    def __init__(
        self, pool: Unlabeled, config: PretrainConfig, task: Task, seed: Sequence[int], device: torch.device
    ) -> None:
        rng = np.random.default_rng([*seed, _FIXED])
        rows = islice(task.batches(pool, config, [*seed, _FIXED]), FIXED_BATCHES)
        self._batches = [read_batch(pool, some, config.patch_size, rng, device) for some in rows]
        self._config, self._task, self._seed, self._device = config, task, torch_seed(seed, _FIXED), device

    @torch.no_grad()
    def loss(self, network: nn.Module) -> float:
        """Average the loss over the batches."""
        generator = torch.Generator(self._device).manual_seed(self._seed)
        network.eval()
        with autocast(self._config, self._device):
            losses = [float(self._task.loss(network, batch, self._config, generator)) for batch in self._batches]
        network.train()
        return float(np.mean(losses))


def save_encoder(encoder: LearnedEncoder, path: Path) -> None:
    """Write weights, configuration and curve, so that a crash leaves the old file or the new one, never half of one."""
    curve = [list(point) for point in encoder.curve]
    weights = encoder.network.state_dict()
    save_tensors({"format": FORMAT, "config": asdict(encoder.config), "curve": curve, "weights": weights}, path)


def load_encoder(path: Path, tasks: Mapping[str, Task], device: str) -> LearnedEncoder:
    """Read what ``save_encoder`` wrote; nothing in the file is executed.

    Raises TrainingError if the file is missing, damaged or something else, or if its weights do not fit its network.
    """
    stored = read_stored(path)
    if stored is None or stored.get("format") != FORMAT or stored["config"].get("task") not in tasks:
        raise TrainingError(
            f"{path} is not a pretrained encoder of nextmask, or is damaged. Expected a file that save_encoder wrote. "
            "Delete it: it is made again."
        )
    if set(stored["config"]) != {each.name for each in fields(PretrainConfig)}:
        raise TrainingError(
            f"{path} was written by another version of nextmask. Expected the settings of this one. Delete it: it is made again."
        )
    config = PretrainConfig(**stored["config"])
    task = tasks[config.task]
    network = task.build(config, 0)
    check_weights(stored["weights"], network.state_dict(), path)
    network.load_state_dict(stored["weights"])
    curve = tuple((int(i), float(loss)) for i, loss in stored["curve"])
    return LearnedEncoder(config, task, place(network, config, torch.device(choose_device(device))).eval(), curve)


def its_encoder(network: nn.Module) -> nn.Module:
    """Return the part of a network that is called its encoder."""
    encoder = network.encoder
    assert isinstance(encoder, nn.Module)
    return encoder


def _fingerprint(pool: Unlabeled) -> str:
    """Tell this pool from others by what its samples belong to."""
    digest = hashlib.sha256(str(len(pool)).encode())
    for array in (pool.patient, pool.volume, pool.place):
        digest.update(np.asarray(array, dtype=np.int64).tobytes())
    return digest.hexdigest()


def _resume(
    path: Path, key: dict[str, Any], network: nn.Module, optimiser: torch.optim.Optimizer
) -> tuple[int, list[tuple[int, float]]]:
    """Take up the state that is stored for this very pretraining: its iteration and curve; else start at 0."""
    stored = read_stored(path)
    if stored is None or stored.get("key") != key:
        return 0, []
    network.load_state_dict(stored["network"])
    optimiser.load_state_dict(stored["optimiser"])
    return int(stored["iteration"]), [(int(i), float(loss)) for i, loss in stored["curve"]]


def _refuse_not_finite(loss: Tensor, i: int, config: PretrainConfig) -> None:
    if not math.isfinite(float(loss)):
        raise TrainingError(
            f"The loss of {config.task} is {float(loss)} after iteration {i + 1}. Expected a finite number. Lower the "
            f"learning rate (now {config.learning_rate:g})."
        )
