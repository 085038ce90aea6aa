"""What each part of the 2^3 ablation is worth: the mean of its four pairs, with intervals over seeds and patients.

python benchmarks/ablation_effects.py runs/ablation/results.csv
"""

from __future__ import annotations

import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from nextmask.statistics import holm, interval_of_difference

PARTS = ("unlabeled images", "warm start", "selection")


def read(path: str) -> dict[tuple[bool, ...], np.ndarray]:
    """Return the Dice of every combination of parts, (seeds, patients), mean over the classes and volumes of a patient."""
    found: dict[tuple[bool, ...], dict] = defaultdict(lambda: defaultdict(list))
    with Path(path).open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["dice"]:
                settings = json.loads(row["settings"])
                parts = (
                    "fixmatch" in settings["objectives"],
                    settings["start"] != "scratch",
                    row["strategy"] != "random",
                )
                found[parts][int(row["seed"]), row["patient"]].append(float(row["dice"]))
    seeds, patients = ({key[axis] for one in found.values() for key in one} for axis in (0, 1))
    return {
        parts: np.array([[np.mean(one[seed, patient]) for patient in sorted(patients)] for seed in sorted(seeds)])
        for parts, one in found.items()
    }


def main(path: str) -> None:
    scores = read(path)
    effects = []
    for part in range(len(PARTS)):
        on = np.mean([values for parts, values in scores.items() if parts[part]], axis=0)
        off = np.mean([values for parts, values in scores.items() if not parts[part]], axis=0)
        effects.append(interval_of_difference(on, off, rng=np.random.default_rng(0)))
    for name, effect, p in zip(PARTS, effects, holm([effect.p for effect in effects]), strict=True):
        found = effect.interval
        print(f"{name}: {found.estimate:+.3f} ({found.lower:+.3f} to {found.upper:+.3f}), p by Holm for three {p:.3f}")


if __name__ == "__main__":
    main(sys.argv[1])
