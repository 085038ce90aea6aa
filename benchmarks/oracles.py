"""What the oracles of a simulation were fitted to: scribbles, readers and minutes on ACDC; writes oracles.md.

    python benchmarks/oracles.py ACDC [--every 1] [--seeds 5]

ACDC is a folder with the columns case_id, patient_id, phase, mask and scribble in its cases.csv; scribbles have 4 where
nobody drew. Readings of one exam: patient074 and patient076. Takes about three minutes on one core.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from scipy import ndimage

from nextmask.data.images import read_mask
from nextmask.data.pool import IGNORE
from nextmask.data.reader_error import ReaderError, reread
from nextmask.data.scribbles import EIGHT, draw_scribble
from nextmask.data.work import Work, work_of
from nextmask.study.config import Drawing

HERE = Path(__file__).parent
CLASSES = ("background", "RV", "myocardium", "LV")
READERS = ("patient074", "patient076")


def main() -> None:
    """Measure, and write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("acdc", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take every so many-th volume for the scribbles")
    parser.add_argument("--seeds", type=int, default=5)
    wanted = parser.parse_args()
    parts = [HEAD, *scribbles(wanted.acdc, wanted.every), *readers(wanted.acdc, wanted.seeds), *work(wanted.acdc)]
    (HERE / "oracles.md").write_text("\n".join(parts) + "\n", encoding="utf-8")


# -- scribbles ---------------------------------------------------------------------------------------------------------


def scribbles(folder: Path, every: int) -> Iterator[str]:
    """Compare the experts' scribbles with those drawn from the same masks."""
    experts, drawn = Strokes(), Strokes()
    rows = cases(folder)[::every]
    for number, row in enumerate(rows):
        mask, _ = read_mask(folder / row["mask"])
        experts.add(mask, read_mask(folder / row["scribble"], {4: IGNORE})[0])
        drawn.add(mask, draw_scribble(mask, np.random.default_rng([0, number])))
    yield f"\n## Scribbles\n\n{len(rows)} volumes, {experts.slices} slices; medians over slices (10th to 90th percentile).\n"
    yield "| | experts | drawn |\n| --- | --- | --- |"
    for (name, one), (_, other) in zip(experts.facts(), drawn.facts(), strict=True):
        yield f"| {name} | {one} | {other} |"
        print(f"{name:50s} {one:30s} {other}", flush=True)


class Strokes:
    """What strokes are like: collected slice by slice, reported once."""

    def __init__(self) -> None:
        self.slices = 0
        self.drawn, self.voxels = np.zeros(256), np.zeros(256)
        self.found: dict[str, list[float]] = {}

    def add(self, mask: np.ndarray, scribble: np.ndarray) -> None:
        """Count the strokes of one volume."""
        self.slices += len(mask)
        self.drawn += np.bincount(scribble.ravel(), minlength=256)
        self.voxels += np.bincount(mask.ravel(), minlength=256)
        for truth, strokes in zip(mask, scribble, strict=True):
            for label, name in enumerate(CLASSES):
                if (strokes == label).any() and (truth == label).any() and (truth > 0).any():
                    self._add(name, truth, strokes == label, label)

    def _add(self, name: str, truth: np.ndarray, stroke: np.ndarray, label: int) -> None:
        region = truth == label if label else truth > 0
        edge = np.count_nonzero(region & ~ndimage.binary_erosion(region))
        block = stroke[1:, 1:] & stroke[1:, :-1] & stroke[:-1, 1:] & stroke[:-1, :-1]
        self._note(f"{name}: stroke's voxels a boundary voxel", stroke.sum() / edge)
        self._note(f"{name}: pieces", ndimage.label(stroke, EIGHT)[1])
        self._note(f"{name}: share of voxels in a 2 x 2 block of stroke", 4 * block.sum() / stroke.sum())
        self._note(f"{name}: share of all directions from the centre", coverage(stroke, region))
        if label:
            depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
            self._note(f"{name}: depth, of the greatest", np.median(depth[stroke]) / depth.max())
        else:
            away = ndimage.distance_transform_edt(~region)[stroke]
            self._note(f"{name}: distance from the heart, voxels", np.median(away))
            self._note(f"{name}: the same as a share of the root of its area", np.median(away) / np.sqrt(region.sum()))

    def _note(self, name: str, value: float) -> None:
        self.found.setdefault(name, []).append(float(value))

    def facts(self) -> Iterator[tuple[str, str]]:
        """Yield what was found by name."""
        yield "all voxels that are annotated", f"{100 * self.drawn[:4].sum() / self.drawn.sum():.2f} %"
        for label, name in enumerate(CLASSES):
            yield f"{name}: annotated, of its voxels", f"{100 * self.drawn[label] / self.voxels[label]:.1f} %"
        for name, values in sorted(self.found.items()):
            low, middle, high = np.percentile(values, [10, 50, 90])
            yield name, f"{middle:.2f} ({low:.2f} to {high:.2f})"


def coverage(stroke: np.ndarray, region: np.ndarray) -> float:
    """Say in which share of 36 directions from a region's centre a stroke is seen."""
    y, x = (np.argwhere(stroke) - np.argwhere(region).mean(axis=0)).T
    return len(np.unique(np.floor(np.arctan2(y, x) / (2 * np.pi) * 36) % 36)) / 36


# -- readers -----------------------------------------------------------------------------------------------------------


def readers(folder: Path, seeds: int) -> Iterator[str]:
    """Find the error whose two simulated readings agree as the two real ones do."""
    pairs = [near(readings) for readings in readings_of(folder)]
    real = np.stack([agreement(one, other) for one, other in pairs])
    yield HEAD_OF_READERS
    yield f"| as they are | | | {listed(real)} | |"
    print("real", listed(real))
    for jitter, smooth, uneven in product((0.2, 0.25, 0.3, 0.4), (3.0, 6.0, 10.0), (0.0, 1.0)):
        error = replace(ReaderError(), jitter=jitter, smooth=smooth, uneven=uneven, missed=1e-9)
        found = np.stack([simulated(pair, error, seeds) for pair in pairs])
        # Readings that agree everywhere have no distance: a hundredth of a voxel stands in.
        far = np.abs(np.log(np.maximum(found, 0.01) / real))[..., 1:].mean()
        off = np.abs(np.log((1 - found[..., 0]) / (1 - real[..., 0]))).mean() + far
        yield f"| {jitter:g} | {smooth:g} | {uneven:g} | {listed(found)} | {off:.2f} |"
        print(jitter, smooth, uneven, listed(found), f"{off:.2f}", flush=True)
    yield missed(pairs)
    yield CHOSEN


def readings_of(folder: Path) -> Iterator[list[np.ndarray]]:
    """Yield the two readings of each phase."""
    rows = [row for row in cases(folder) if row["patient_id"] in READERS]
    for phase in sorted({row["phase"] for row in rows}):
        yield [read_mask(folder / row["mask"])[0] for row in rows if row["phase"] == phase]


def near(readings: list[np.ndarray], margin: int = 16) -> list[np.ndarray]:
    """Cut readings down to the heart: the rest is background in both."""
    places = np.argwhere(np.any([reading > 0 for reading in readings], axis=(0, 1)))
    box = [slice(max(low - margin, 0), high + margin) for low, high in zip(places.min(0), places.max(0), strict=True)]
    return [reading[:, box[0], box[1]] for reading in readings]


def simulated(pair: list[np.ndarray], error: ReaderError, seeds: int) -> np.ndarray:
    """Read twice what was read twice, and average how well the readings agree; (classes, measures)."""
    found = []
    for seed, truth in product(range(seeds), pair):
        rng = np.random.default_rng(seed)
        found.append(agreement(reread(truth, rng, 1.0, error), reread(truth, rng, 1.0, error)))
    return np.mean(found, axis=0)


def agreement(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Measure Dice, and mean and 95th percentile of the distances between the outlines in voxels; (classes, 3)."""
    rows = []
    for label in range(1, len(CLASSES)):
        a, b = one == label, other == label
        gaps = [gap for pair in zip(a, b, strict=True) if pair[0].any() and pair[1].any() for gap in distances(*pair)]
        rows.append((2 * (a & b).sum() / (a.sum() + b.sum()), np.mean(gaps), np.percentile(gaps, 95)))
    return np.array(rows)


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Measure from each outline of a slice to the other."""
    a, b = (each & ~ndimage.binary_erosion(each) for each in (one, other))
    return np.concatenate([ndimage.distance_transform_edt(~b)[a], ndimage.distance_transform_edt(~a)[b]])


def missed(pairs: list[list[np.ndarray]]) -> str:
    """Fit the size that is overlooked once in e times to the structures that one reading has and the other lacks."""
    sizes, lacking = [], []
    for one, other in [*pairs, *(pair[::-1] for pair in pairs)]:
        for a, b in ((a == label, b == label) for label in (1, 2, 3) for a, b in zip(one, other, strict=True)):
            if a.any():
                sizes.append(int(a.sum()))
                lacking.append(not b.any())
    size, gone = np.array(sizes), np.array(lacking)
    tried = np.arange(2.0, 400.0, 0.5)
    chance = np.exp(-size / tried[:, None])
    likelihood = np.where(gone, -size / tried[:, None], np.log1p(-chance)).sum(axis=1)
    best = tried[likelihood.argmax()]
    inside = tried[likelihood > likelihood.max() - 1.92]
    small = ", ".join(f"{n}{' (lacking)' if was else ''}" for n, was in sorted(zip(sizes, lacking, strict=True))[:8])
    print("missed", best, inside.min(), inside.max(), small)
    return (
        f"\n{gone.sum()} of {len(size)} structures of a slice are in one reading and lack in the other. With the chance "
        f"exp(-voxels / missed) the likeliest `missed` is {best:g} (95 % interval {inside.min():g} to {inside.max():g}). "
        f"The smallest structures, in voxels: {small}."
    )


def work(folder: Path) -> Iterator[str]:
    """Measure what there is to draw on a slice; what it takes is set in study.toml."""
    found = sum((work_of(read_mask(folder / row["mask"])[0]) for row in cases(folder)), start=Work(0, 0, 0))
    structures, edges = found.structures / found.slices, found.boundary / found.slices
    parts = Drawing()
    share = parts.slice + parts.structure * structures + parts.boundary * edges / 100
    yield (
        f"\n## Minutes\n\nA slice of ACDC shows {structures:.2f} structures with outlines of {edges:.0f} voxel edges "
        f"({found.slices} slices). With the defaults of `drawing` that takes {share:.2f} of `minutes_per_slice`."
    )


def listed(found: np.ndarray) -> str:
    """Write what was measured of (phases, classes, measures), measure by measure."""
    columns = (found[..., part].ravel() for part in range(3))
    return " | ".join(
        " ".join(f"{value:.{digits}f}" for value in part) for part, digits in zip(columns, (3, 2, 2), strict=True)
    )


def cases(folder: Path) -> list[dict[str, str]]:
    """Read the table of cases."""
    with (folder / "cases.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


HEAD = """# Oracles: what they were fitted to

Written by `python benchmarks/oracles.py ACDC`; ACDC's scribbles are those of Valvano et al., IEEE TMI 2021,
https://arxiv.org/abs/2007.01152."""

HEAD_OF_READERS = """
## Readers

The exam that ACDC has twice, as patient074 and patient076, with two masks. Each row: how well two readings agree, in
order ED RV, myocardium, LV, ES RV, myocardium, LV. Simulated readings are both redrawn from the same mask. "off" is how far
a row is from the real one: mean of the logarithms of 1 - Dice, and of the distances.

| jitter | smooth | uneven | Dice | mean distance, voxels | 95th percentile | off |
| --- | --- | --- | --- | --- | --- | --- |"""

CHOSEN = """
Set: jitter 0.25, smooth 3, uneven 1, the least off of those that keep every Dice between the lowest and the highest of
the real ones (.947 to .986). `missed` is set to 20, near the low end: both structures that lack are in one slice, the lowest
of the exam's end systole, of which one reader drew the last of the RV and the other the last of the LV."""

if __name__ == "__main__":
    main()
