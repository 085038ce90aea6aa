"""Time a training iteration in float32 and in bfloat16, by turns, and write the ratios to mixed_precision.md beside it.

Run as ``python benchmarks/mixed_precision.py [--device cpu] [--threads 2]``. Rounds alternate between the two, so that
whatever else the machine does meets both alike; the ratio is the median over rounds of pairs, not of two medians.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from nextmask.networks.architecture import Precision, best_precision
from nextmask.training.config import TrainConfig, derive_config
from nextmask.training.train import fit

ROUNDS = 5
WARM, TIMED = 3, 6
SHAPES = {
    "2D, 8 x 128 x 128": ((128, 128), 8),
    "2D, 8 x 256 x 256": ((256, 256), 8),
    "3D, 2 x 48 x 48 x 48": ((48,) * 3, 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    load = os.getloadavg()[0]
    rows = [measure(name, shape, batch, arguments.device) for name, (shape, batch) in SHAPES.items()]
    text = report(rows, arguments.device, arguments.threads, load)
    print(text)
    Path(__file__).with_suffix(".md").write_text(text, encoding="utf-8")


def measure(name: str, shape: tuple[int, ...], batch: int, device: str) -> str:
    """Return one line of the table: iterations of whole trainings, augmentation and optimiser included."""
    config = derive_config([shape], 1, 4, dimensions=len(shape), device=device)
    config = dataclasses.replace(config, patch_size=shape, batch_size=batch)
    rng = np.random.default_rng(0)
    image = rng.standard_normal((1, *shape)).astype(np.float16)
    mask = rng.integers(0, 4, shape).astype(np.uint8)
    seconds: dict[Precision, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(ROUNDS):
        for precision in seconds:
            seconds[precision].append(seconds_per_iteration(config, precision, lambda: (image, mask), device))
    ratios = [single / half for single, half in zip(seconds["float32"], seconds["bfloat16"], strict=True)]
    times = " | ".join(f"{1000 * median(values):.0f} ms" for values in seconds.values())
    return f"| {name} | {times} | {median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"


def seconds_per_iteration(
    config: TrainConfig, precision: Precision, load: Callable[[], tuple[np.ndarray, np.ndarray]], device: str
) -> float:
    """Time iterations after the first few, during which kernels are generated and memory is claimed."""
    moments: list[float] = []

    def note(_done: int, _total: int) -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        moments.append(time.perf_counter())

    fit(
        [load],
        dataclasses.replace(config, precision=precision, iterations=WARM + TIMED),
        seed=[0],
        device=device,
        progress=note,
    )
    return (moments[-1] - moments[WARM - 1]) / TIMED


def report(rows: list[str], device: str, threads: int, load: float) -> str:
    where = torch.cuda.get_device_name() if device.startswith("cuda") else cpu()
    head = "| batch | float32 | bfloat16, channels last | times faster | over rounds |\n| --- | --- | --- | --- | --- |"
    return (
        "# bfloat16 against float32, one training iteration\n\n"
        f"Written by `benchmarks/mixed_precision.py`. {where}, {threads} threads, torch {torch.__version__}, "
        f"medians of {ROUNDS} alternating rounds; load average at the start {load:.1f} on "
        f"{os.cpu_count()} cores.\n\n{head}\n" + "\n".join(rows) + "\n\n"
        f"`derive_config` chooses {best_precision(device)} on this device.\n"
    )


def cpu() -> str:
    names = {"_is_avx512_bf16_supported": "AVX512-BF16", "_is_amx_tile_supported": "AMX"}
    has = [label for name, label in names.items() if getattr(torch.cpu, name, bool)()]
    extras = f" with {' and '.join(has)}" if has else " without bfloat16 arithmetic"
    return f"{platform.machine()} CPU, {torch.backends.cpu.get_cpu_capability()}{extras}"


if __name__ == "__main__":
    main()
