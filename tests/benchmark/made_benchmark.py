"""Made-up benchmarks: units with results that nobody trained, for tests of what is told from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.benchmark.grid import BenchmarkConfig, Unit, units
from nextmask.benchmark.units import Benchmark, Job

CLASSES = ("chamber", "wall")
GAIN = {"random": 0.0, "typiclust": 0.06, "k_center": -0.06}
"""What each strategy is ahead of random, in Dice."""

Score = Callable[[Unit, int, int], float]


def dice_of(unit: Unit, point: int, patient: int) -> float:
    """A rising curve; seeds and patients differ, and both alike for all strategies."""
    shared = np.random.default_rng([unit.seed, patient]).normal(0, 0.02)
    own = np.random.default_rng([unit.seed, patient, point, len(unit.strategy)]).normal(0, 0.002)
    return float(0.6 + 0.08 * point + shared + own + GAIN[unit.strategy])


def config_of(**changes: Any) -> BenchmarkConfig:
    values = {
        "seeds": 4,
        "budgets": [10, 20, 40],
        "studies": {"hearts": {"images": "nowhere.csv", "classes": list(CLASSES)}},
        "arms": [{"strategies": list(GAIN)}],
    }
    return BenchmarkConfig.model_validate({**values, **changes})


def made(
    folder: Path,
    config: BenchmarkConfig | None = None,
    *,
    patients: int = 6,
    score: Score = dice_of,
    done: Callable[[Unit], bool] = lambda unit: True,
    failed: Callable[[Unit], bool] = lambda unit: False,
) -> Benchmark:
    """Write the done.json of all units that are to be done, and the notes of those that are to have failed."""
    config = config or config_of()
    jobs = []
    for number, unit in enumerate(units(config)):
        job = Job(unit, folder / "studies" / unit.study, folder / "units" / f"{unit.study}-{unit.strategy}-{number}")
        job.home.parent.mkdir(parents=True, exist_ok=True)
        if failed(unit):
            note = {"error": "MemoryError: too large <b>", "time": "today", "traceback": "Traceback: line 1"}
            job.home.with_name(f"{job.key}.failed").write_text(json.dumps(note))
        elif done(unit):
            job.home.mkdir()
            (job.home / "done.json").write_text(json.dumps(done_of(unit, patients, score)))
        jobs.append(job)
    return Benchmark(folder, config, tuple(jobs), ())


def done_of(unit: Unit, patients: int, score: Score) -> dict[str, Any]:
    """What came of a unit, as `play` writes it."""
    return {
        "unit": vars(unit),
        "encoder": "intensity",
        "classes": CLASSES,
        "seconds": 30.0,
        "peak_mb": 900,
        "device": "cpu",
        "code": "c0de",
        "versions": {"python": "3.11", "nextmask": "0.1.0"},
        "rounds": [_round(unit, point, patients, score) for point in range(len(unit.sizes))],
    }


def _round(unit: Unit, point: int, patients: int, score: Score) -> dict[str, Any]:
    samples = sum(unit.sizes[: point + 1])
    dice = [score(unit, point, patient) for patient in range(patients)]
    cases = [_case(patient, label, each) for patient, each in enumerate(dice) for label in CLASSES]
    mean = float(np.mean(dice)) if dice and not np.isnan(dice).any() else None
    return {
        "round": point + 1,
        "strategy": unit.strategy,
        "asked": [f"s{number}" for number in range(samples - unit.sizes[point], samples)],
        "samples": samples,
        "masks": samples,
        "foreground_voxels": 100 * samples + unit.seed,
        "minutes": 2.0 * samples,
        "select_seconds": 0.5,
        "train_seconds": 8.0,
        "evaluate_seconds": 1.0,
        "shared": False,
        "scores": {label: {"dice": mean, "hd95": None, "nsd": mean, "assd": None} for label in CLASSES},
        "cases": cases,
    }


def _case(patient: int, label: str, dice: float) -> Mapping[str, Any]:
    known = {"dice": None if np.isnan(dice) else dice, "hd95": None, "nsd": None, "assd": None}
    return {"case": f"p{patient}-scan", "patient": f"p{patient}", "group": "", "class": label, **known}


def played(benchmark: Benchmark) -> Sequence[tuple[Unit, str, Mapping[str, Any]]]:
    """List the units that are done as the report takes them."""
    return [(job.unit, job.key, came) for job in benchmark.jobs if (came := job.done) is not None]
