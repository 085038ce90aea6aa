"""Which first samples train the best segmenter, and from which weights? Simulated first rounds; resumable.

    python benchmarks/cold_start.py DATA RUNS                                     # the whole grid: a GPU's work of a day
    python benchmarks/cold_start.py DATA RUNS --grid small --iterations 500       # the part that decides, on two cores
    python benchmarks/cold_start.py DATA RUNS --grid starts --iterations 500      # scratch against warm starts
    python benchmarks/cold_start.py DATA RUNS --table                             # run nothing, write the tables

Every unit is one simulated round of a study of `real_runs.py` (ACDC: trained on scribbles or masks, tested on patients that no
setting was chosen on; budgets are the published 1, 2, 3 and 5 % of 1,454 slices). Units run in the order of seeds, so that a
run that is cut short has compared everything with fewer seeds. Writes cold_start.csv and the tables of cold_start.md.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.study.rounds import mean_dice
from nextmask.study.simulate import simulate
from nextmask.study.study import Study

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from real_runs import ACDC, HIPPOCAMPUS, acdc_table, make_study, tell  # noqa: E402

MARKS = ("<!-- tables: written by cold_start.py -->", "<!-- end of tables -->")
RANDOMS = ("random", "stratified_random")
ON_EMBEDDINGS = ("k_center", "typiclust", "kmeans_medoids", "cluster_quota")
LEARNED = ("restoration", "reconstruction", "contrastive", "group_contrastive")
BUDGETS = {"acdc": (14, 29, 43, 72), "hippocampus": (3, 5, 10)}
SETTINGS: dict[str, dict[str, Any]] = {"acdc": ACDC, "hippocampus": HIPPOCAMPUS}


@dataclass(frozen=True)
class Unit:
    """One simulated round."""

    data: str
    budget: int
    strategy: str
    encoder: str
    start: str
    supervision: str
    seed: int
    iterations: int
    pretraining: int


def main() -> None:
    """Play what is missing, then write the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--grid", choices=GRIDS, default="whole")
    parser.add_argument("--only", choices=SETTINGS, action="append")
    parser.add_argument("--supervision", choices=["mask", "scribble"], default="mask")
    parser.add_argument("--iterations", type=int, default=3000, help="of each training (%(default)s)")
    parser.add_argument("--pretraining", type=int, default=1500, help="iterations of each pretraining (%(default)s)")
    parser.add_argument("--table", action="store_true")
    wanted = parser.parse_args()
    for unit in [] if wanted.table else units(wanted):
        record(unit, play(unit, wanted.data, wanted.runs))
    write_tables()


def units(wanted: argparse.Namespace) -> Iterator[Unit]:
    """Yield the units of a grid, seed by seed."""
    for seed in range(10):
        for data in wanted.only or list(SETTINGS):
            for budget, strategy, encoder, start in GRIDS[wanted.grid](data, seed):
                yield Unit(
                    data,
                    budget,
                    strategy,
                    encoder,
                    start,
                    wanted.supervision,
                    seed,
                    wanted.iterations,
                    wanted.pretraining,
                )


def whole(data: str, seed: int) -> Iterator[tuple[int, str, str, str]]:
    """Every budget, strategy and encoder: ten seeds of the randoms, three of the others."""
    for budget in BUDGETS[data]:
        yield from ((budget, strategy, "intensity", "scratch") for strategy in RANDOMS)
        if seed < 3:
            for encoder in ("intensity", *LEARNED):
                yield from ((budget, strategy, encoder, "scratch") for strategy in ON_EMBEDDINGS)


def small(data: str, seed: int) -> Iterator[tuple[int, str, str, str]]:
    """Two budgets; the randoms, and two strategies on the baseline and on the metric: five seeds, and three."""
    for budget in BUDGETS[data][1::2] if data == "acdc" else BUDGETS[data][1:2]:
        if seed < 5:
            yield from ((budget, strategy, "intensity", "scratch") for strategy in RANDOMS)
        if seed < 3:
            for encoder in ("intensity", "group_contrastive" if data == "acdc" else "contrastive"):
                yield from ((budget, strategy, encoder, "scratch") for strategy in ("k_center", "typiclust"))


def starts(data: str, seed: int) -> Iterator[tuple[int, str, str, str]]:
    """The same random samples, trained from scratch and from each pretraining: three seeds."""
    if seed < 3:
        for budget in BUDGETS[data][1::2] if data == "acdc" else BUDGETS[data][1:2]:
            for start in ("scratch", "restoration", "restoration+decoder", "contrastive", "group_contrastive"):
                yield budget, "random", "intensity", start


GRIDS = {"whole": whole, "small": small, "starts": starts}


def play(unit: Unit, data: Path, runs: Path) -> dict[str, float | None]:
    """Play one round, or find it played: Dice of each class on the test patients."""
    settings = SETTINGS[unit.data]
    images = acdc_table(data, runs) if unit.data == "acdc" else data / settings["images"]
    chosen = {**settings, "images": str(images.resolve()), "pretraining": {"iterations": unit.pretraining}}
    home = make_study(runs / f"{unit.data}-{unit.pretraining}", chosen)
    changes: dict[str, Any] = {
        "encoder": unit.encoder,
        "start": unit.start,
        "iterations": unit.iterations,
        "supervision": unit.supervision,
    }
    played: Study = simulate(
        home, strategy=unit.strategy, query_size=unit.budget, rounds=1, seed=unit.seed, settings=changes, report=tell
    )
    last = played.rounds[-1]
    assert last.scores is not None
    dice = {"dice": mean_dice(last)} | {f"dice_{name}": scores["dice"] for name, scores in last.scores.items()}
    print(unit, dice, flush=True)
    return dice


def record(unit: Unit, dice: dict[str, float | None]) -> None:
    """Put a unit's result into cold_start.csv."""
    row = {**asdict(unit), **{name: "" if value is None else f"{value:.4f}" for name, value in dice.items()}}
    key = [str(value) for value in asdict(unit).values()]
    rows = [old for old in recorded() if [old[name] for name in asdict(unit)] != key] + [row]
    names = list(dict.fromkeys(name for each in rows for name in each))
    with (HERE / "cold_start.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def recorded() -> list[dict[str, Any]]:
    """Read cold_start.csv."""
    path = HERE / "cold_start.csv"
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_tables() -> None:
    """Write one table for each data set, budget, supervision and length, each against random from scratch."""
    groups = defaultdict(list)
    for row in recorded():
        groups[tuple(row[name] for name in ("data", "supervision", "budget", "iterations", "pretraining"))].append(row)
    lines = [line for key, rows in sorted(groups.items()) for line in table(key, rows)]
    path = HERE / "cold_start.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(MARKS[0])
    after = rest.partition(MARKS[1])[2]
    path.write_text(f"{before}{MARKS[0]}\n\n" + "\n".join(lines) + f"\n{MARKS[1]}{after}", encoding="utf-8")


def table(key: tuple[str, ...], rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Write a table: mean and spread of each arm, and its difference to random, paired by seed."""
    data, supervision, budget, iterations, pretraining = key
    arms: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    for row in rows:
        arms[row["strategy"], row["encoder"], row["start"]][row["seed"]] = float(row["dice"])
    yield f"### {data}, {budget} samples with a {supervision} each; {iterations} iterations, pretraining {pretraining}"
    yield from ("", "| strategy | encoder | start | seeds | Dice | to random | could have shown |", "| --- " * 7 + "|")
    base = arms.get(("random", "intensity", "scratch"), {})
    for (strategy, encoder, start), found in sorted(arms.items()):
        dice = np.array(list(found.values()))
        seen = "–" if strategy in RANDOMS else encoder
        yield f"| {strategy} | {seen} | {start} | {len(dice)} | {spread(dice)} | {' | '.join(against(base, found))} |"
    yield ""


def spread(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1):.3f}" if len(values) > 1 else f"{values.mean():.3f}"


def against(base: dict[str, float], found: dict[str, float]) -> tuple[str, str]:
    """Give the mean paired difference, and the one that so many seeds would find four times in five (5 %, two sides)."""
    shared = sorted(set(base) & set(found))
    if base is found or len(shared) < 2:
        return "–", "–"
    differences = np.array([found[seed] - base[seed] for seed in shared])
    error = differences.std(ddof=1) / np.sqrt(len(shared))
    return f"{differences.mean():+.3f} ± {error:.3f}", f"{detectable(len(shared)) * error:.3f}"


def detectable(seeds: int) -> float:
    """How many standard errors a difference must have to be found by a paired t-test with 80 % power at 5 %."""
    from scipy.stats import nct, t

    critical = t.ppf(0.975, seeds - 1)
    effects = np.linspace(0, 60, 6001)
    power = 1 - nct.cdf(critical, seeds - 1, effects) + nct.cdf(-critical, seeds - 1, effects)
    return float(effects[np.argmax(power >= 0.8)])


if __name__ == "__main__":
    main()
