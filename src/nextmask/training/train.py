"""Training: one flat loop from labeled samples to a segmenter.

There is no validation set and no choice among checkpoints: masks are what a study is short of, and a set of them
kept aside to pick the best checkpoint would have to be counted into the budget. The last weights are the result.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nextmask.data.pool import IGNORE
from nextmask.errors import TrainingError
from nextmask.networks.augment import augment_batch
from nextmask.networks.device import choose_device
from nextmask.networks.dropout import dropping
from nextmask.networks.optimise import CHECKED_EVERY, adamw, descend, set_rate, torch_seed
from nextmask.networks.running import autocast, memory_format, place
from nextmask.networks.unet import build_unet
from nextmask.networks.warm_start import WarmStart, load_into
from nextmask.networks.weights import read_stored, save_tensors
from nextmask.training.config import TrainConfig
from nextmask.training.losses import dice_cross_entropy
from nextmask.training.predict import Segmenter

LoadSample = Callable[[], tuple[np.ndarray, np.ndarray]]
"""Gives the image (channels, *spatial) and the mask (*spatial) uint8, 255 = ignore, of one sample.

Called anew for every patch: hand in memory maps, of which only the patch is then read.
"""

PLACES = 256
"""Voxels remembered per class and sample as centres of patches."""
_WEIGHTS, _PLACES, _ORDER, _PATCHES, _AUGMENTATION = range(5)  # streams of randomness, each of its own seed


def fit(
    samples: Sequence[LoadSample],
    config: TrainConfig,
    *,
    seed: Sequence[int],
    device: str,
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 20.0,
    start: WarmStart | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Segmenter:
    """Train a segmenter on labeled samples; only voxels whose mask is not 255 are learned from.

    It begins with random weights, or with those of ``start`` where that has some.

    What iteration i draws depends on ``seed`` and i alone. With ``checkpoint`` the state is written there every
    ``checkpoint_seconds``, and a training of the same configuration, seed and masks that was interrupted goes on from
    it to the very weights of an uninterrupted one (on a CPU with the same number of threads). The caller deletes it.

    Raises TrainingError without samples, for a sample without annotation, with a class that the configuration does not
    know, or with values that are not finite; if the loss stops being finite; and for weights to start with that do not fit.
    """
    where = torch.device(choose_device(device))
    labeled = _index(samples, config, seed)
    network = build_unet(config, config.classes, torch_seed(seed, _WEIGHTS))
    if start is not None:
        load_into(network, start)
    network = place(network, config, where).train()
    optimiser = adamw(network, config.learning_rate, config.weight_decay)
    begun = None if start is None else [start.part, start.sha256]
    key = {"config": asdict(config), "seed": list(seed), "samples": _fingerprint(labeled), "start": begun}
    first = _resume(checkpoint, key, network, optimiser) if checkpoint else 0
    written = time.monotonic()
    for i in range(first, config.iterations):
        images, masks = _draw_batch(labeled, config, seed, i)
        generator = torch.Generator(where).manual_seed(torch_seed(seed, _AUGMENTATION, i))
        images, masks = augment_batch(
            images.to(where), masks.to(where), generator, mirror=config.mirror, rotate_degrees=config.rotate_degrees
        )
        with dropping(network, generator):
            loss = _step(network, optimiser, images, masks, config, i)
        due = checkpoint is not None and time.monotonic() - written >= checkpoint_seconds
        if due or i % CHECKED_EVERY == 0 or i == config.iterations - 1:
            _refuse_not_finite(loss, i, config)
        if checkpoint is not None and due:
            state = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "iteration": i + 1}
            save_tensors({"key": key, **state}, checkpoint)
            written = time.monotonic()
        if progress:
            progress(i + 1, config.iterations)
    return Segmenter(config, network.eval())


def _step(
    network: nn.Module, optimiser: torch.optim.Optimizer, images: Tensor, masks: Tensor, config: TrainConfig, i: int
) -> Tensor:
    set_rate(optimiser, config.learning_rate, i, config.iterations)
    with autocast(config, images.device):
        logits = network(images.contiguous(memory_format=memory_format(config)))
    loss = dice_cross_entropy(logits, masks)
    return descend(network, optimiser, loss)


@dataclass(frozen=True)
class _Labeled:
    """A sample as training sees it: how to read it, and where it is annotated.

    ``places[c]`` are random voxels of class c, (up to PLACES, axes); ``complete``: no voxel is 255.
    """

    load: LoadSample
    shape: tuple[int, ...]
    counts: np.ndarray
    places: dict[int, np.ndarray]
    complete: bool


def _index(samples: Sequence[LoadSample], config: TrainConfig, seed: Sequence[int]) -> list[_Labeled]:
    """Read every mask once; the images stay where they are."""
    if not samples:
        raise TrainingError(
            "There are 0 labeled samples to train on. Expected at least one. Annotate the query of this round first."
        )
    return [_look_at(load, row, config, _rng(seed, _PLACES, row)) for row, load in enumerate(samples)]


def _look_at(load: LoadSample, row: int, config: TrainConfig, rng: np.random.Generator) -> _Labeled:
    image, mask = load()
    if mask.ndim != config.dimensions or image.shape != (config.channels, *mask.shape):
        raise TrainingError(
            f"Training sample {row} has an image of shape {image.shape} and a mask of shape {mask.shape}. Expected "
            f"{config.channels} channels and {config.dimensions} spatial axes, the same in both. "
            "Load both on the same working grid."
        )
    # Plane by plane: a volume's mask is a memory map that may be larger than what is free.
    planes = mask if mask.ndim == 3 else mask[None]
    counts = np.stack([np.bincount(np.asarray(plane).ravel(), minlength=IGNORE + 1) for plane in planes])
    _check_labels(counts.sum(axis=0), row, config.classes)
    present = [c for c in range(config.classes) if counts[:, c].any()]
    places = {c: _places(planes, c, counts[:, c], rng)[:, 3 - mask.ndim :] for c in present}
    return _Labeled(load, mask.shape, counts.sum(axis=0), places, not counts[:, IGNORE].any())


def _check_labels(counts: np.ndarray, row: int, classes: int) -> None:
    if not counts[:IGNORE].any():
        raise TrainingError(
            f"Training sample {row} is not annotated: all its {counts.sum()} voxels are 255. Expected at least one "
            "annotated voxel. Annotate it, or drop it from the round."
        )
    unknown = np.flatnonzero(counts[classes:IGNORE]) + classes
    if unknown.size:
        raise TrainingError(
            f"The mask of training sample {row} has the values {unknown.tolist()[:10]}. Expected 0 to {classes - 1}, "
            "the classes of the study, or 255 for what is not annotated. Correct the mask or the list of classes."
        )


def _places(planes: np.ndarray, label: int, counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw up to PLACES distinct voxels of a class, (n, 3), evenly over the whole mask."""
    total, ends = int(counts.sum()), np.cumsum(counts)
    ranks = np.sort(rng.choice(total, PLACES, replace=False) if total > PLACES else np.arange(total))
    chosen_planes = np.searchsorted(ends, ranks, side="right")
    found = []
    for z in np.unique(chosen_planes):
        within = ranks[chosen_planes == z] - (ends[z] - counts[z])
        flat = np.flatnonzero(np.asarray(planes[z]) == label)[within]
        y, x = np.unravel_index(flat, planes.shape[1:])
        found.append(np.stack([np.full_like(y, z), y, x], axis=1))
    return np.concatenate(found).astype(np.int32)


def _draw_batch(labeled: Sequence[_Labeled], config: TrainConfig, seed: Sequence[int], i: int) -> tuple[Tensor, Tensor]:
    """Read the patches of iteration i: images (batch, channels, *patch) float32, masks (batch, *patch) uint8."""
    rng = _rng(seed, _PATCHES, i)
    rows = [_row_at(i * config.batch_size + k, len(labeled), seed) for k in range(config.batch_size)]
    patches = [_read_patch(labeled[row], row, config, rng) for row in rows]
    images, masks = zip(*patches, strict=True)
    return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(masks))


def _row_at(position: int, count: int, seed: Sequence[int]) -> int:
    """Return the sample at a position of the endless sequence of shuffled passes: all are seen equally often."""
    epoch, place = divmod(position, count)
    return int(_order(epoch, count, tuple(seed))[place])


@lru_cache(maxsize=2)
def _order(epoch: int, count: int, seed: tuple[int, ...]) -> np.ndarray:
    return _rng(seed, _ORDER, epoch).permutation(count)


def _read_patch(
    sample: _Labeled, row: int, config: TrainConfig, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Read one patch; where the image is smaller, its border is repeated and the mask is 255."""
    start = _patch_start(sample, config, rng)
    inside = tuple(
        slice(max(a, 0), min(a + p, n)) for a, p, n in zip(start, config.patch_size, sample.shape, strict=True)
    )
    beyond = [(max(-a, 0), max(a + p - n, 0)) for a, p, n in zip(start, config.patch_size, sample.shape, strict=True)]
    image, mask = sample.load()
    pixels = np.asarray(image[(slice(None), *inside)], dtype=np.float32)
    if not np.isfinite(pixels).all():
        raise TrainingError(
            f"The image of training sample {row} has {np.count_nonzero(~np.isfinite(pixels))} values that are not "
            "finite. Expected numbers, at most 65504 in size after preprocessing. Repair the image or drop the case."
        )
    return (
        np.pad(pixels, [(0, 0), *beyond], mode="edge"),
        np.pad(np.asarray(mask[inside]), beyond, constant_values=IGNORE),
    )


def _patch_start(sample: _Labeled, config: TrainConfig, rng: np.random.Generator) -> list[int]:
    """Choose the first voxel of a patch; negative where the image is smaller than the patch and lies in its middle."""
    room = [n - p for n, p in zip(sample.shape, config.patch_size, strict=True)]
    foreground = [c for c in sample.places if c > 0]
    if foreground and rng.random() < config.foreground_share:
        centre = _near(sample.places[int(rng.choice(foreground))], config, rng)
    elif sample.complete:
        return [int(rng.integers(r + 1)) if r > 0 else -(-r // 2) for r in room]
    else:  # of a partly annotated mask, a random patch might show nothing that may be learned
        centre = _near(np.concatenate(list(sample.places.values())), config, rng)
    starts = [c - p // 2 for c, p in zip(centre, config.patch_size, strict=True)]
    return [int(np.clip(a, 0, r)) if r > 0 else -(-r // 2) for a, r in zip(starts, room, strict=True)]


def _near(places: np.ndarray, config: TrainConfig, rng: np.random.Generator) -> np.ndarray:
    """Pick a voxel, then step up to a quarter of a patch aside, so that it is not always in the middle."""
    quarter = np.array(config.patch_size) // 4
    return places[rng.integers(len(places))] + rng.integers(-quarter, quarter + 1)


def _rng(seed: Sequence[int], *stream: int) -> np.random.Generator:
    return np.random.default_rng([*seed, *stream])


def _fingerprint(labeled: Sequence[_Labeled]) -> str:
    """Tell these masks from others by how many voxels of each class every sample has."""
    digest = hashlib.sha256(str(len(labeled)).encode())
    for sample in labeled:
        digest.update(str(sample.shape).encode() + sample.counts.astype(np.int64).tobytes())
    return digest.hexdigest()


def _resume(path: Path, key: dict[str, Any], network: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Take up the state that is stored for this very training, and return its iteration; else start at 0."""
    stored = read_stored(path)
    if stored is None or stored.get("key") != key:
        return 0
    network.load_state_dict(stored["network"])
    optimiser.load_state_dict(stored["optimiser"])
    return int(stored["iteration"])


def _refuse_not_finite(loss: Tensor, i: int, config: TrainConfig) -> None:
    if not math.isfinite(float(loss)):
        raise TrainingError(
            f"The loss is {float(loss)} after iteration {i + 1}. Expected a finite number. Lower the learning rate "
            f"(now {config.learning_rate:g}), or train with precision = 'float32' (now {config.precision!r})."
        )
