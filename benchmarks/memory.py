"""Peak memory of a whole study on CT volumes of real size, for growing pools; writes memory.md beside this file.

    python benchmarks/memory.py FOLDER [--volumes 20 50 100] [--unit whole]

Each verb runs in a process of its own, whose peak resident memory the operating system reports when it ends. If memory is
bounded by one case, the peaks do not grow with the pool; what little grows (tables, embeddings) is put on a line and
extended to 1,000 volumes. FOLDER takes about 45 MB a volume and the cache.
"""

from __future__ import annotations

import argparse
import csv
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

SHAPE = (512, 512, 120)
AFFINE = np.diag([0.8, 0.8, 2.5, 1.0])
LIMIT_GIB = 3.0
TARGET = 1000


def main() -> None:
    """Draw the volumes, run every verb on each pool size, write the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--volumes", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--unit", choices=("whole", "slice"), nargs="+", default=["whole", "slice"])
    wanted = parser.parse_args()
    draw_volumes(wanted.folder, max(wanted.volumes))
    text = []
    for unit in wanted.unit:
        peaks = {count: dict(measure(wanted.folder, count, unit)) for count in sorted(wanted.volumes)}
        text.append(report(unit, peaks))
        print(text[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text(HEAD.format(machine=machine()) + "\n".join(text), encoding="utf-8")


def draw_volumes(folder: Path, count: int) -> None:
    """Write CT-like volumes: a body in air, a bright organ, noise; each with a mask. Those that are there are kept."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "masks").mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 20, SHAPE).astype(np.int16)
    x, y, z = np.ogrid[tuple(slice(n) for n in SHAPE)]
    body = ((x - 256) / 220) ** 2 + ((y - 256) / 160) ** 2 < 1
    for number in range(count):
        path = folder / "images" / f"ct{number:04d}.nii.gz"
        if path.exists():
            continue
        centre, size = rng.uniform((180, 200, 40), (330, 310, 80)), rng.uniform((40, 40, 20), (80, 70, 40))
        organ = sum(((axis - c) / s) ** 2 for axis, c, s in zip((x, y, z), centre, size, strict=True)) < 1
        image = (
            np.where(body, np.int16(40), np.int16(-1000)) + np.int16(80) * organ + np.roll(noise, number * 7, axis=0)
        )
        nib.save(nib.Nifti1Image(organ.astype(np.uint8), AFFINE), folder / "masks" / path.name)
        half = folder / f"half-{path.name}"
        nib.save(nib.Nifti1Image(image.astype(np.int16), AFFINE), half)
        half.rename(path)


def measure(folder: Path, count: int, unit: str) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield every verb with its seconds and its peak resident memory in GiB."""
    table = folder / f"first{count}.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "image", "mask"])
        writer.writerows([f"ct{n:04d}", f"images/ct{n:04d}.nii.gz", f"masks/ct{n:04d}.nii.gz"] for n in range(count))
    study = folder / f"study-{unit}-{count}"
    subprocess.run(["rm", "-rf", str(study)], check=True)
    for verb, arguments in {
        "new (reads every file)": f"new {study} --images {table} --classes organ --unit {unit} --iterations 20 --test-fraction 0.1",
        "query k_center (caches, embeds)": f"query {study} -n 5 --strategy k_center",
        "annotate": f"annotate {study} --from {folder / 'masks'}",
        "train": f"train {study}",
        "evaluate": f"evaluate {study}",
        "query most_uncertain (scores the pool)": f"query {study} -n 5 --strategy most_uncertain",
    }.items():
        yield verb, run([sys.executable, "-m", "nextmask.cli", *arguments.split()])


def run(command: list[str]) -> tuple[float, float]:
    """Run a command to its end; return seconds and peak resident GiB."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with {status}")
    return time.monotonic() - started, used.ru_maxrss / 2**20


def report(unit: str, peaks: dict[int, dict[str, tuple[float, float]]]) -> str:
    """Write the table of one unit, with the line through the peaks extended to 1,000 volumes."""
    counts = list(peaks)
    lines = [
        f"## unit = {unit}",
        "",
        "| verb | " + " | ".join(f"{n} volumes" for n in counts) + f" | at {TARGET:,} (line) |",
        "| --- |" + " --- |" * (len(counts) + 1),
    ]
    for verb in peaks[counts[0]]:
        cells = [f"{peaks[n][verb][1]:.2f} GiB, {peaks[n][verb][0]:.0f} s" for n in counts]
        lines.append(
            f"| {verb} | " + " | ".join(cells) + f" | {extended(counts, [peaks[n][verb][1] for n in counts]):.2f} GiB |"
        )
    highest = max(gib for by_verb in peaks.values() for _, gib in by_verb.values())
    lines += ["", f"Highest peak: {highest:.2f} GiB (to stay under {LIMIT_GIB:.0f} GiB).", ""]
    return "\n".join(lines)


def extended(counts: list[int], gib: list[float]) -> float:
    """Fit a line and read it off at the target; a falling line is noise and is read as flat."""
    if len(counts) < 2:
        return gib[0]
    slope, offset = np.polyfit(counts, gib, 1)
    return float(max(slope, 0) * TARGET + offset) if slope > 0 else max(gib)


def machine() -> str:
    """Name what this ran on."""
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


HEAD = """# Memory of a study on CT volumes of 512 x 512 x 120

Peak resident memory of each verb, one process each, on generated volumes (.nii.gz, int16). Written by
`python benchmarks/memory.py FOLDER` on {machine}. Seconds are those of a shared, noisy machine and are given for orientation.

A tenth of the volumes is for testing. Trainings run for 20 iterations only: their memory does not depend on how many there are.
The working grid is what a CPU gets (64 voxels on the longest side of a volume, 128 of a slice). A volume of 120 slices is 120
samples where unit = slice: at 1,000 volumes the line is that of 108,000 samples, and embeddings are what grows.

"""

if __name__ == "__main__":
    main()
