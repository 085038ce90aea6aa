"""Training steps per second beside the usual MONAI way, same network and batch, taking turns in one run; what a step spends where.

    python benchmarks/training.py [--threads 2] [--steps 30] [--turns 3]

The usual way: dictionary transforms in a DataLoader over a CacheDataset, MONAI's own U-Net in float32 and PyTorch's usual order in
memory (Project MONAI's tutorials), here with transforms of the same kinds and chances as nextmask's, DiceCELoss and AdamW. The
network is the same function with weights of the same names and shapes. Drawn slices, so that nothing has to be at hand. Writes
training.md beside itself.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
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
SLICES, SIDE, MEMBERS = 96, 128, 5


def main() -> None:
    """Time both, and write what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    wanted = parser.parse_args()
    pairs = slices()
    config = derive_config([(SIDE, SIDE)], 1, 4, dimensions=2, device=wanted.device, iterations=wanted.steps)
    ways: dict[str, Callable[[], float]] = {
        "nextmask": partial(ours, pairs, config, wanted.device),
        "nextmask, plus fixmatch": partial(ours, pairs, with_unlabeled(config), wanted.device),
        "MONAI, DataLoader in the process": partial(monai_way, pairs, config, wanted.device, workers=0),
        "MONAI, 2 worker processes": partial(monai_way, pairs, config, wanted.device, workers=2),
    }
    rates = taking_turns(ways, wanted.turns, wanted.threads)
    torch.set_num_threads(wanted.threads)
    parts = shares(pairs, replace(config, iterations=wanted.steps), wanted.device)
    report(rates, parts, predicting(pairs, config, wanted.device), config, wanted)


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


def slices() -> list[tuple[np.ndarray, np.ndarray]]:
    """Draw slices of patients, (1, SIDE, SIDE) float16 and (SIDE, SIDE) uint8."""
    rng, found = np.random.default_rng(0), []
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, SIDE)] * 2, indexing="ij"))
    for _ in range(SLICES):
        centre = rng.uniform(-0.3, 0.3, (2, 1, 1))
        distance = np.sqrt(((grid - centre) ** 2).sum(axis=0))
        mask = np.select([distance < 0.2, distance < 0.3, np.abs(distance - 0.4) < 0.05], [3, 2, 1], 0).astype(np.uint8)
        image = np.array([0.0, 1.0, -1.0, 2.0])[mask] + 0.3 * rng.standard_normal((SIDE, SIDE))
        found.append((image[None].astype(np.float16), mask))
    return found


def ours(pairs: list[tuple[np.ndarray, np.ndarray]], config: TrainConfig, device: str) -> float:
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


def monai_way(pairs: list[tuple[np.ndarray, np.ndarray]], config: TrainConfig, device: str, workers: int) -> float:
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
    """Change images in the ways nextmask does, with the same chances; coarser images alone are left out, as they need volumes."""
    both, one = ["image", "mask"], ["image"]
    turn, size = np.radians(config.rotate_degrees), list(config.patch_size)
    return Compose(
        [
            EnsureTyped(both),
            RandAffined(
                both,
                prob=0.8,
                rotate_range=turn,
                scale_range=0.3,
                translate_range=0.1 * SIDE,
                spatial_size=size,
                mode=["bilinear", "nearest"],
                padding_mode="border",
            ),
            RandGaussianSmoothd(one, prob=0.2),
            RandAdjustContrastd(one, prob=0.4, gamma=(0.7, 1.5)),
            RandScaleIntensityd(one, prob=0.4, factors=0.4),
            RandShiftIntensityd(one, prob=0.4, offsets=0.3),
            RandGaussianNoised(one, prob=0.3, std=0.2),
        ]
    )


def shares(pairs: list[tuple[np.ndarray, np.ndarray]], config: TrainConfig, device: str) -> dict[str, float]:
    """Return the milliseconds of a step's parts: reading patches, augmenting them, and the step in all."""
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
    step = 1 / ours(pairs, config, device)
    return {
        name: 1000 * part / config.iterations for name, part in (("reading", reading), ("augmenting", augmenting))
    } | {"step": 1000 * step}


def predicting(pairs: list[tuple[np.ndarray, np.ndarray]], config: TrainConfig, device: str) -> dict[str, float]:
    """Return the milliseconds that five networks need for a slice, of eight at once, and of these what networks run for."""
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
    volumes = [np.stack([pairs[8 * row + k][0] for k in range(8)], axis=1) for row in range(len(pairs) // 8)]
    for _ in segmenter.predict_members(volumes[0]):
        pass  # what is compiled, cached or started the first time
    running[0], begun = 0.0, clock()
    for volume in volumes:
        for _ in segmenter.predict_members(volume):
            pass
    slices = 8 * len(volumes)
    return {"slice": 1000 * (clock() - begun) / slices, "networks": 1000 * running[0] / slices}


def report(
    rates: dict[str, list[float]],
    parts: dict[str, float],
    predicted: dict[str, float],
    config: TrainConfig,
    wanted: Any,
) -> None:
    """Write the table."""
    mine = float(np.median(rates["nextmask"]))
    lines = [
        "# Training: steps per second",
        "",
        f"Written by `python benchmarks/training.py`, {time.strftime('%Y-%m-%d')}. {wanted.threads} threads, {platform.machine()}, "
        f"device {wanted.device}; torch {torch.__version__}, MONAI {monai.__version__}. The U-Net that nextmask derives "
        f"({'-'.join(map(str, config.features))} channels), {config.batch_size} slices of {SIDE} x {SIDE} a step, "
        f"{config.precision}; {wanted.turns} turns of {wanted.steps} steps each, the ways taking turns, "
        "each in a process of its own; medians, and from the "
        "slowest turn to the fastest.",
        "",
        "| way | steps per second | nextmask is |",
        "| --- | --- | --- |",
    ]
    for name, found in rates.items():
        middle = float(np.median(found))
        lines.append(f"| {name} | {middle:.2f} ({min(found):.2f} to {max(found):.2f}) | {mine / middle:.2f}x as fast |")
    data = parts["reading"] + parts["augmenting"]
    lines += [
        "",
        f"Of a step of {parts['step']:.0f} ms, reading patches takes {parts['reading']:.1f} ms and augmenting them "
        f"{parts['augmenting']:.1f} ms: {100 * data / parts['step']:.0f} %.",
        "",
        f"Prediction by {MEMBERS} members, one after another, takes {predicted['slice']:.1f} ms for a slice, of eight at once; for "
        f"{100 * predicted['networks'] / predicted['slice']:.0f} % of that networks run.",
        "",
    ]
    (HERE / "training.md").write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
