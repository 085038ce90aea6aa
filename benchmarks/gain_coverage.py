"""How often 95 % intervals of what the next samples buy hold it: on made curves, and on the curves of real_runs.csv.

    python benchmarks/gain_coverage.py [DATA_SETS]

Writes gain_coverage.md beside itself; some minutes of one core for 200.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from nextmask.statistics import gain_of_next

HERE = Path(__file__).parent
CURVES = {"fast": (0.9, 2.0, 0.8), "slow": (0.85, 1.0, 0.3), "flat": (0.8, 0.0, 1.0), "ended": (0.85, 30.0, 2.0)}
"""Ceiling, drop and rate of the power law."""
NOISES, ROUNDS, STEP = (0.005, 0.02, 0.05), (3, 5, 10), 10


def height(curve: str, labeled: float) -> float:
    ceiling, drop, rate = CURVES[curve]
    return float(ceiling - drop * labeled**-rate)


def made(curve: str, noise: float, rounds: int, data_sets: int) -> tuple[float, float, float]:
    """Return how often both intervals hold, and the mean width of that of the curve."""
    rng = np.random.default_rng([list(CURVES).index(curve), int(1000 * noise), rounds])
    labeled = [STEP * n for n in range(1, rounds + 2)]
    true = [height(curve, n) for n in labeled]
    told = []
    for _ in range(data_sets):
        seen = np.clip(true + rng.normal(0, noise, rounds + 1), 0, 1).tolist()
        found = gain_of_next(labeled[:-1], seen[:-1], STEP)
        assert found is not None
        # A thousandth of Dice is nothing: a curve that is quite flat gains exactly 0, which is the very edge of what can be.
        holds = found.curve.lower - 0.001 <= true[-1] - true[-2] <= found.curve.upper + 0.001
        came = found.measured.lower <= seen[-1] - seen[-2] <= found.measured.upper
        told.append((holds, came, found.curve.upper - found.curve.lower))
    return tuple(np.mean(told, axis=0).tolist())


def real() -> list[tuple[str, int, int, float]]:
    """Return for each entry of real_runs.csv: predictions, how many held, and the mean error of the predicted score."""
    curves: dict[tuple[str, ...], list[tuple[int, float]]] = defaultdict(list)
    with (HERE / "real_runs.csv").open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            curves[row["entry"], row["strategy"], row["seed"]].append((int(row["labeled"]), float(row["mean_dice"])))
    told: dict[str, list[tuple[bool, float]]] = defaultdict(list)
    for (entry, *_), points in curves.items():
        for last in range(3, len(points)):
            labeled, dice = zip(*points[:last], strict=True)
            found = gain_of_next(labeled, dice, points[last][0] - labeled[-1])
            assert found is not None
            came = points[last][1] - dice[-1]
            told[entry].append((found.measured.lower <= came <= found.measured.upper, found.measured.estimate - came))
    return [
        (entry, len(of), sum(held for held, _ in of), float(np.mean([e for _, e in of]))) for entry, of in told.items()
    ]


def main(data_sets: int = 200) -> None:
    error = 100 * np.sqrt(0.95 * 0.05 / data_sets)
    lines = [
        "# How often 95 % intervals of what the next samples buy hold it",
        "",
        f"Made by `python benchmarks/gain_coverage.py {data_sets}`: {data_sets} data sets a row, per cent, standard error",
        f"{error:.1f}.",
        "Curve: the interval of the curve's own gain, to a thousandth of Dice; measured: that of the next score over the last one.",
        f"{STEP} samples a round. Noise is the SD of a round's score about the curve.",
        "",
        "| curve | noise | rounds | next would buy | curve | measured | mean width of the curve's |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for curve in CURVES:
        for noise in NOISES:
            for rounds in ROUNDS:
                holds, came, width = made(curve, noise, rounds, data_sets)
                true = height(curve, STEP * rounds + STEP) - height(curve, STEP * rounds)
                lines.append(
                    f"| {curve} | {noise} | {rounds} | {true:.4f} | {100 * holds:.1f} | {100 * came:.1f} | {width:.3f} |"
                )
    lines += [
        "",
        "Real curves, of [real_runs.csv](real_runs.csv), which have four rounds at most, so one prediction each:",
        "",
        "| entry | predictions | held | mean error of the predicted score |",
        "| --- | --- | --- | --- |",
        *[f"| {entry} | {of} | {held} | {mean:+.3f} |" for entry, of, held, mean in real()],
    ]
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
