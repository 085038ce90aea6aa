"""How fast pretraining and embedding are, and what bounds them; writes pretraining.md.

    python benchmarks/pretraining.py [--sides 96,128] [--steps 20] [--device cpu] [--threads 2]
    python benchmarks/pretraining.py --whole        # also runs group_contrastive for 20 passes over 1,500 slices to the end

The pool is drawn: 50 patients x 2 volumes x 15 slices. "The usual way" is the same network, loss and batches with each image
augmented by itself through MONAI's transforms. Both alternate in one run, step by step; seconds are medians.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from nextmask.features.contrastive import view
from nextmask.features.corrupt import corrupted
from nextmask.features.pretrain import LearnedEncoder, PretrainConfig, _step, pretrain
from nextmask.features.reconstruction import hidden
from nextmask.features.tasks import TASKS, derive_pretrain_config
from nextmask.features.unlabeled import Batch, Unlabeled, read_batch
from nextmask.networks.optimise import adamw
from nextmask.networks.running import place

HERE = Path(__file__).parent
PATIENTS, VOLUMES, SLICES = 50, 2, 15
PASSES = 20


def main() -> None:
    """Time every task at every size, and write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sides", default="96,128")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--whole", action="store_true")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    lines = []
    for side in map(int, wanted.sides.split(",")):
        pool = drawn(side)
        for task in TASKS:
            lines.append(timed(pool, side, task, wanted.steps, wanted.device))
            print(lines[-1], flush=True)
        if wanted.whole:
            lines.append(whole(pool, side, wanted.device))
            print(lines[-1], flush=True)
    write(lines, wanted)


def drawn(side: int) -> Unlabeled:
    """Draw slices of smooth anatomy, (1, side, side) float16 as the cache keeps them."""
    rows = np.arange(PATIENTS * VOLUMES * SLICES)
    rng = np.random.default_rng(0)
    images = [gaussian_filter(rng.standard_normal((1, side, side)), (0, 4, 4)).astype(np.float16) * 20 for _ in rows]
    return Unlabeled(images.__getitem__, rows // (VOLUMES * SLICES), rows // SLICES, rows % SLICES)


def timed(pool: Unlabeled, side: int, name: str, steps: int, device: str) -> str:
    """Time steps of a task, its reading and changing by themselves, the usual way, and embedding."""
    config = derive_pretrain_config(name, [(side, side)], 1, dimensions=2, device=device)
    task, where = TASKS[name], torch.device(device)
    network = place(task.build(config, 0), config, where).train()
    optimiser = adamw(network, config.learning_rate, config.weight_decay)
    rng, generator = np.random.default_rng(0), torch.Generator(where).manual_seed(0)
    batches = list(islice(task.batches(pool, config, [0]), steps + 2))
    contrast = "contrastive" in name
    usual = usual_views(config) if contrast else None
    found: dict[str, list[float]] = {"read": [], "change": [], "step": [], "usual": []}
    for i, rows in enumerate(batches):
        read = clock(lambda rows=rows: read_batch(pool, rows, config.patch_size, rng, where), where)
        batch = read[1]
        change = clock(lambda batch=batch: changed(name, batch, generator), where)
        step = clock(lambda b=batch, i=i: _step(network, optimiser, task, b, config, generator, i), where)
        found["read"].append(read[0])
        found["change"].append(change[0])
        found["step"].append(read[0] + step[0])
        if usual:
            found["usual"].append(clock(lambda batch=batch: usual(batch), where)[0] + step[0] - change[0] + read[0])
    median = {what: float(np.median(values[2:])) if values else float("nan") for what, values in found.items()}
    rows_a_step = len(batches[-1])
    passes = "–"
    if name == "group_contrastive":
        anchors = rows_a_step // 3
        passes = f"{PASSES * len(pool) / anchors * median['step'] / 60:.1f} min"
    encoder = LearnedEncoder(config, task, network.eval())
    embed = clock(lambda: [encoder.encode(pool.load(row)) for row in range(100)], where)[0] / 100 * len(pool)
    share = (median["read"] + median["change"]) / median["step"]
    ratio = f"{median['usual'] / median['step']:.2f}x" if usual else "–"
    return (
        f"| {name} | {side} | {config.batch_size} | {rows_a_step / median['step']:.1f} | {share:.0%} | {ratio} | {passes} "
        f"| {embed:.1f} s |"
    )


def changed(name: str, batch: Batch, generator: torch.Generator) -> None:
    """Change a batch as the task does."""
    if "contrastive" in name:
        view(batch.images, generator), view(batch.images, generator)
    elif name == "restoration":
        corrupted(batch.images, generator)
    else:
        hidden(batch.images, generator)


def usual_views(config: PretrainConfig) -> Callable[[Batch], torch.Tensor]:
    """Make two views image by image, through MONAI's transforms of one image."""
    from monai import transforms

    one = transforms.Compose(
        [
            transforms.RandAffine(
                prob=0.8,
                rotate_range=0.26,
                scale_range=0.25,
                translate_range=[n * 0.1 for n in config.patch_size],
                padding_mode="border",
            ),
            transforms.RandFlip(prob=0.5, spatial_axis=-1),
            transforms.RandGaussianSmooth(prob=0.2),
            transforms.RandAdjustContrast(prob=0.4),
            transforms.RandScaleIntensity(prob=0.4, factors=0.4),
            transforms.RandShiftIntensity(prob=0.4, offsets=0.3),
            transforms.RandGaussianNoise(prob=0.3, std=0.1),
            transforms.RandCoarseDropout(prob=0.2, holes=1, spatial_size=config.patch_size[0] // 3),
        ]
    )
    return lambda batch: torch.stack([one(image) for image in torch.cat([batch.images, batch.images]).cpu()])


def clock(work: Callable[[], object], device: torch.device) -> tuple[float, object]:
    """Time a piece of work to its end."""
    started = time.perf_counter()
    made = work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, made


def whole(pool: Unlabeled, side: int, device: str) -> str:
    """Run group_contrastive until every slice was an anchor PASSES times."""
    config = derive_pretrain_config("group_contrastive", [(side, side)], 1, dimensions=2, device=device)
    config = replace(config, iterations=PASSES * len(pool) * 3 // config.batch_size)
    started = time.perf_counter()
    encoder = pretrain(pool, config, TASKS["group_contrastive"], seed=[0], device=device)
    minutes = (time.perf_counter() - started) / 60
    first, last = encoder.curve[0][1], encoder.curve[-1][1]
    return f"\n{PASSES} passes of group_contrastive at {side} px, to the end: {minutes:.1f} min; loss {first:.3f} to {last:.3f}.\n"


def write(lines: list[str], wanted: argparse.Namespace) -> None:
    """Write pretraining.md."""
    head = [
        "# Pretraining: speed",
        "",
        f"Written by `python benchmarks/pretraining.py`. {processor(wanted)}. Medians of {wanted.steps} steps.",
        "",
        "**rows/s**: images read, changed and learned from a second (contrastive tasks see each twice). **data**: share of a step",
        "that reading and changing images takes. **usual**: time of a step whose views MONAI makes image by image, over ours,",
        f"in one run. **{PASSES} passes**: 1,500 slices, each an anchor {PASSES} times, from steps timed. **embed**: all.",
        "",
        f"| task | px | batch | rows/s | data | usual | {PASSES} passes | embed |",
        "| --- " * 8 + "|",
    ]
    (HERE / "pretraining.md").write_text("\n".join([*head, *flattened(lines)]) + "\n", encoding="utf-8")


def flattened(lines: list[str]) -> Iterator[str]:
    """Put the rows of the table first, and what is said beside it after."""
    yield from (line for line in lines if line.startswith("|"))
    yield from (line.rstrip("\n") for line in lines if not line.startswith("|"))


def processor(wanted: argparse.Namespace) -> str:
    name = torch.cuda.get_device_name() if wanted.device.startswith("cuda") else f"{platform.machine()} CPU"
    return f"{name}, {wanted.threads} threads, PyTorch {torch.__version__}"


if __name__ == "__main__":
    main()
