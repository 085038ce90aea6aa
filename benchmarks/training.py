"""Training steps per second beside the usual MONAI way, same network and batch, taking turns in one run; what a step spends where.

    python benchmarks/training.py [--threads 2] [--steps 30] [--turns 3]

Slices and volumes, each with the network that nextmask derives. The usual way: dictionary transforms in a DataLoader over a
CacheDataset, MONAI's own U-Net in float32 and PyTorch's usual order in memory (Project MONAI's tutorials), here with transforms of
the same kinds and chances as nextmask's, DiceCELoss and AdamW. The network is the same function with weights of the same names and
shapes. Images are drawn, so that nothing has to be at hand. Writes training.md beside itself.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.data import CacheDataset, DataLoader
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import (
    Compose,
    EnsureTyped,
    RandAdjustContrastd,
    RandAffined,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RandSimulateLowResolutiond,
)

from nextmask.networks.augment import augment_batch
from nextmask.networks.optimise import adamw
from nextmask.networks.running import place
from nextmask.networks.unet import build_unet, strides_of
from nextmask.training.config import TrainConfig, derive_config
from nextmask.training.labeled import draw_labeled, look_at_samples
from nextmask.training.predict import Segmenter
from nextmask.training.train import fit

HERE = Path(__file__).parent
MEMBERS = 5
Pairs = list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Work:
    """What is trained on: so many images of that shape."""

    name: str
    images: int
    shape: tuple[int, ...]

    def pairs(self) -> Pairs:
        """Draw images of patients, (1, *shape) float16, and their masks, (*shape) uint8."""
        rng, found = np.random.default_rng(0), []
        grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, side) for side in self.shape], indexing="ij"))
        for _ in range(self.images):
            centre = rng.uniform(-0.3, 0.3, (len(self.shape), *[1] * len(self.shape)))
            distance = np.sqrt(((grid - centre) ** 2).sum(axis=0))
            mask = np.select([distance < 0.2, distance < 0.3, np.abs(distance - 0.4) < 0.05], [3, 2, 1], 0).astype(
                np.uint8
            )
            image = np.array([0.0, 1.0, -1.0, 2.0])[mask] + 0.3 * rng.standard_normal(self.shape)
            found.append((image[None].astype(np.float16), mask))
        return found

    def config(self, wanted: argparse.Namespace) -> TrainConfig:
        """Derive how these are trained."""
        dimensions, steps = len(self.shape), wanted.steps
        return derive_config([self.shape], 1, 4, dimensions=dimensions, device=wanted.device, iterations=steps)


SLICES = Work("Slices", 96, (128, 128))
VOLUMES = Work("Volumes", 24, (40, 56, 40))


def main() -> None:
    """Time both, and write what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    report([line for work in (SLICES, VOLUMES) for line in timed(work, wanted)], wanted)


def timed(work: Work, wanted: argparse.Namespace) -> list[str]:
    """Time training and prediction of one kind of images, and say what came out."""
    pairs, config, device = work.pairs(), work.config(wanted), wanted.device
    ways: dict[str, Callable[[], float]] = {
        "nextmask": partial(ours, pairs, config, device),
        "nextmask, plus fixmatch": partial(ours, pairs, with_unlabeled(config), device),
        "MONAI, DataLoader in the process": partial(monai_way, pairs, config, device, workers=0),
        "MONAI, 2 worker processes": partial(monai_way, pairs, config, device, workers=2),
    }
    rates = taking_turns(ways, wanted.turns, wanted.threads)
    parts, predicted = shares(pairs, config, device), predicting(pairs, config, device)
    data = parts["reading"] + parts["augmenting"]
    widths, size = "-".join(map(str, config.features)), " x ".join(map(str, work.shape))
    return [
        "",
        f"## {work.name}",
        "",
        f"The U-Net that nextmask derives ({widths} channels), {config.batch_size} of {size} voxels a step, {config.precision}.",
        "",
        *table(rates),
        "",
        f"Of a step of {parts['step']:.0f} ms, reading patches takes {parts['reading']:.1f} ms and augmenting them "
        f"{parts['augmenting']:.1f} ms: {100 * data / parts['step']:.0f} %.",
        "",
        f"Prediction by {MEMBERS} members, one after another, takes {predicted['image']:.1f} ms for one"
        f"{', eight slices at once' if config.dimensions == 2 else ''}; for "
        f"{100 * predicted['networks'] / predicted['image']:.0f} % of that networks run.",
    ]


def taking_turns(ways: dict[str, Callable[[], float]], turns: int, threads: int) -> dict[str, list[float]]:
    """Return the steps per second of each way and turn, each in a process of its own: nextmask tells the C library what to keep."""
    rates: dict[str, list[float]] = {name: [] for name in ways}
    with ExitStack() as stack:
        context = get_context("spawn")
        started = partial(ProcessPoolExecutor, 1, context, torch.set_num_threads, (threads,))
        processes = {name: stack.enter_context(started()) for name in ways}
        for turn in range(turns + 1):
            for name, way in ways.items():
                rate = processes[name].submit(way).result()
                if turn:  # the first is for what is compiled, cached or started
                    rates[name].append(rate)
    return rates


def with_unlabeled(config: TrainConfig) -> TrainConfig:
    """Train on unlabeled images too."""
    return replace(config, objectives=(("supervised", 1.0), ("fixmatch", 1.0)))


def ours(pairs: Pairs, config: TrainConfig, device: str) -> float:
    """Return the steps per second of `fit`."""
    samples = [lambda pair=pair: pair for pair in pairs]
    images = [lambda pair=pair: pair[0] for pair in pairs]
    begun: list[float] = []
    fit(
        samples,
        config,
        seed=[0],
        device=device,
        unlabeled=images,
        progress=lambda *_: begun.append(time.perf_counter()),
    )
    return (len(begun) - 1) / (begun[-1] - begun[0])


def monai_way(pairs: Pairs, config: TrainConfig, device: str, workers: int) -> float:
    """Return the steps per second of the usual loop."""
    data = [{"image": image.astype(np.float32), "mask": mask[None].astype(np.float32)} for image, mask in pairs]
    loader = DataLoader(
        CacheDataset(data, transforms(config), progress=False),
        batch_size=config.batch_size,
        shuffle=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    network = monais_network(config).to(device).train()
    optimiser = adamw(network, config.learning_rate, config.weight_decay)
    loss, begun = DiceCELoss(include_background=False, to_onehot_y=True, softmax=True), []
    for batch in endless(loader, config.iterations):
        optimiser.zero_grad(set_to_none=True)
        loss(network(batch["image"].to(device)), batch["mask"].to(device)).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        begun.append(time.perf_counter())
    return (len(begun) - 1) / (begun[-1] - begun[0])


def monais_network(config: TrainConfig) -> UNet:
    """Build what `build_unet` builds, as MONAI leaves it."""
    network = UNet(
        spatial_dims=config.dimensions,
        in_channels=config.channels,
        out_channels=config.classes,
        channels=config.features,
        strides=strides_of(config.patch_size, len(config.features), config.full_resolution),
        num_res_units=2,
        norm=config.norm,
        dropout=config.dropout,
    )
    network.load_state_dict(build_unet(config, config.classes).state_dict())
    return network


def endless(loader: Any, count: int) -> Iterator[Any]:
    """Yield so many batches, pass after pass."""
    given = 0
    while given < count:
        for batch in loader:
            if given == count:
                return
            given += 1
            yield batch


def transforms(config: TrainConfig) -> Compose:
    """Change images in the ways nextmask does, with the same chances; slices are not made coarser: MONAI's needs volumes."""
    both, one, size = ["image", "mask"], ["image"], list(config.patch_size)
    turn = [np.radians(config.rotate_degrees)] * (1 if config.dimensions == 2 else 3)
    coarser = [RandSimulateLowResolutiond(one, prob=0.15, zoom_range=(0.5, 0.5))] if config.dimensions == 3 else []
    return Compose(
        [
            EnsureTyped(both),
            RandAffined(
                both,
                prob=0.8,
                rotate_range=turn,
                scale_range=0.3,
                translate_range=[0.1 * side for side in size],
                spatial_size=size,
                mode=["bilinear", "nearest"],
                padding_mode="border",
            ),
            RandGaussianSmoothd(one, prob=0.2),
            *coarser,
            RandAdjustContrastd(one, prob=0.4, gamma=(0.7, 1.5)),
            RandScaleIntensityd(one, prob=0.4, factors=0.4),
            RandShiftIntensityd(one, prob=0.4, offsets=0.3),
            RandGaussianNoised(one, prob=0.3, std=0.2),
        ]
    )


def shares(pairs: Pairs, config: TrainConfig, device: str) -> dict[str, float]:
    """Return the milliseconds of a step's parts: reading patches, augmenting them, and the step in all."""
    step = 1 / ours(pairs, config, device)  # first, since it compiles what the others run
    where = torch.device(device)
    labeled = look_at_samples([lambda pair=pair: pair for pair in pairs], config, [0])
    reading = augmenting = 0.0
    for number in range(config.iterations):
        begun = time.perf_counter()
        images, masks = draw_labeled(labeled, config, [0], number)
        read = time.perf_counter()
        generator = torch.Generator(where).manual_seed(number)
        augment_batch(images.to(where), masks.to(where), generator, mirror=False, rotate_degrees=config.rotate_degrees)
        if where.type == "cuda":
            torch.cuda.synchronize()
        reading, augmenting = reading + read - begun, augmenting + time.perf_counter() - read
    milliseconds = 1000 / config.iterations
    return {"reading": milliseconds * reading, "augmenting": milliseconds * augmenting, "step": 1000 * step}


def predicting(pairs: Pairs, config: TrainConfig, device: str) -> dict[str, float]:
    """Return the milliseconds that five networks need for an image, and of these what networks run for."""
    where, running = torch.device(device), [0.0]
    networks = [place(build_unet(config, config.classes, seed), config, where).eval() for seed in range(MEMBERS)]

    def clock() -> float:
        if where.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def started(*_: Any) -> None:
        running[0] -= clock()

    def ended(*_: Any) -> None:
        running[0] += clock()

    for network in networks:
        network.register_forward_pre_hook(started)
        network.register_forward_hook(ended)
    segmenter = Segmenter(config, networks[0], tuple(networks[1:]))
    images = [image for image, _ in pairs]
    if config.dimensions == 2:
        images = [np.stack(images[row : row + 8], axis=1) for row in range(0, len(images), 8)]  # volumes of slices
    for _ in segmenter.predict_members(images[0]):
        pass  # what is compiled, cached or started the first time
    running[0], begun = 0.0, clock()
    for image in images:
        for _ in segmenter.predict_members(image):
            pass
    return {"image": 1000 * (clock() - begun) / len(pairs), "networks": 1000 * running[0] / len(pairs)}


def table(rates: dict[str, list[float]]) -> list[str]:
    """Say how many steps a second each way makes."""
    mine = float(np.median(rates["nextmask"]))
    lines = ["| way | steps per second | nextmask is |", "| --- | --- | --- |"]
    for name, found in rates.items():
        middle = float(np.median(found))
        lines.append(f"| {name} | {middle:.2f} ({min(found):.2f} to {max(found):.2f}) | {mine / middle:.2f}x as fast |")
    return lines


def report(parts: Sequence[str], wanted: argparse.Namespace) -> None:
    """Write what was timed."""
    lines = [
        "# Training: steps per second",
        "",
        f"Written by `python benchmarks/training.py`, {time.strftime('%Y-%m-%d')}. {wanted.threads} threads, {platform.machine()}, "
        f"device {wanted.device}; torch {torch.__version__}, MONAI {monai.__version__}. {wanted.turns} turns of {wanted.steps} "
        "steps each, the ways taking turns, each in a process of its own; medians, and from the slowest turn to the fastest.",
        *parts,
        "",
    ]
    (HERE / "training.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
