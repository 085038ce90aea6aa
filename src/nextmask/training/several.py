"""Training on several devices of one machine: a process each, started by lightning-fabric, which no other file knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import torch
from torch import multiprocessing

from nextmask.errors import TrainingError
from nextmask.networks.device import choose_device
from nextmask.networks.share import Share
from nextmask.training.config import TrainConfig
from nextmask.training.labeled import LoadSample
from nextmask.training.predict import Segmenter
from nextmask.training.train import fit

Progress = Callable[[int, int], None]


def fit_on(
    devices: int,
    samples: Sequence[LoadSample],
    config: TrainConfig,
    *,
    device: str,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Segmenter:
    """Train as `fit` does, on so many devices at once: the same batches, losses and steps, up to rounding.

    Each process draws the whole batch, runs the network on its part of it, and adds its gradients to those of the others; the
    first one writes the checkpoint, with which a training may go on on another number of devices. On several devices whatever
    is handed in must be picklable. ``options`` are those of `fit`.

    Raises TrainingError as `fit` does; without lightning-fabric; for devices that are not there; for batches that do not divide
    by ``devices``, and for batch normalisation, which would follow a part of the batch; and if one process fails, which ends all.
    """
    run = partial(fit, samples, config, **options)
    if devices == 1:
        return run(device=device, checkpoint=checkpoint, progress=progress)
    kind = _refuse(devices, device, config)
    with TemporaryDirectory() as folder:
        path = checkpoint or Path(folder) / "training.checkpoint"
        with _told(progress) as queue:
            _launch(devices, kind, partial(_train, run, path, queue))
        return run(device=device, checkpoint=path)  # finds the training finished


def _launch(devices: int, kind: str, work: Callable[[Any], None]) -> None:
    """Run ``work(fabric)`` in a process for each device, until all have ended or one has failed."""
    from lightning_fabric import Fabric

    try:
        Fabric(accelerator=kind, devices=devices, strategy="ddp_spawn").launch(work)
    except (multiprocessing.ProcessRaisedException, multiprocessing.ProcessExitedException) as error:
        raise TrainingError(
            f"One of {devices} processes that trained together ended: {str(error).strip().splitlines()[-1]} Expected all to "
            "reach the end; the others were stopped, and the last checkpoint stays. Mend the cause, or train with devices = 1."
        ) from error


def _train(run: Callable[..., Segmenter], checkpoint: Path, queue: Any, fabric: Any) -> None:
    """Train in one of the processes."""
    share = Share(fabric.global_rank, fabric.world_size)
    told = partial(_put, queue) if share.rank == 0 else None
    run(device=str(fabric.device), checkpoint=checkpoint, progress=told, share=share)


def _put(queue: Any, done: int, total: int) -> None:
    queue.put((done, total))


@contextmanager
def _told(progress: Progress | None) -> Iterator[Any]:
    """Yield a queue, and tell of what another process puts into it."""
    queue = multiprocessing.get_context("spawn").SimpleQueue()
    teller = Thread(target=_tell, args=(queue, progress), daemon=True)
    teller.start()
    try:
        yield queue
    finally:
        queue.put(None)
        teller.join()


def _tell(queue: Any, progress: Progress | None) -> None:
    while (counted := queue.get()) is not None:
        if progress:
            progress(*counted)


def _refuse(devices: int, device: str, config: TrainConfig) -> str:
    """Return the kind of device, or raise TrainingError where several of them cannot train."""
    if not find_spec("lightning_fabric"):
        raise TrainingError(
            f"devices = {devices}, and lightning-fabric, which starts their processes, is not installed. Expected it for more than "
            'one device. Install it: pip install "nextmask[multigpu]", or set devices = 1.'
        )
    kind = choose_device(device)
    there = {"cuda": torch.cuda.device_count(), "cpu": devices}.get(kind, 1)
    if there < devices:
        raise TrainingError(
            f"devices = {devices} with device = {kind!r}, of which there is {there}. Expected as many; processes on the CPU "
            f'may be any number. Set devices = {there}, or device = "cuda" for the first so many GPUs.'
        )
    uneven = [name for name in ("batch_size", "unlabeled_batch_size") if getattr(config, name) % devices]
    if uneven or config.norm == "batch":
        wrong = [f"{name} = {getattr(config, name)}" for name in uneven or ["norm"]]
        raise TrainingError(
            f"devices = {devices} with {', '.join(wrong)}. Expected batches that divide by the number of devices, and "
            'norm = "instance", so that the same is computed as on one device. Set these in the setting training, or devices = 1.'
        )
    return kind
