"""Where a benchmark stands: told from its files alone, so that it survives a restart and can be read from another machine."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from nextmask.benchmark.units import Benchmark, Job, State
from nextmask.errors import StudyError
from nextmask.study.versions import source

STATES: tuple[State, ...] = ("done", "running", "failed", "waiting")


@dataclass(frozen=True)
class Row:
    """How many units of an arm are in each state; ``seconds`` that those that are done took, and ``left`` by estimate."""

    study: str
    arm: str
    counts: dict[State, int]
    seconds: float
    left: float | None


def standing(benchmark: Benchmark) -> list[Row]:
    """Count the units of each study and arm by their state, in the order of the file.

    The estimate takes a unit of an arm for as long as those of the same arm took, or else as any; None while none is done.
    """
    states: dict[tuple[str, str], Counter[State]] = {}
    seconds: dict[tuple[str, str], list[float]] = {}
    for unit in (*(job.unit for job in benchmark.jobs), *benchmark.unmade):
        states.setdefault((unit.study, unit.arm), Counter())
        seconds.setdefault((unit.study, unit.arm), [])
    for unit in benchmark.unmade:
        states[unit.study, unit.arm]["waiting"] += 1
    for job in benchmark.jobs:
        state = job.state
        states[job.unit.study, job.unit.arm][state] += 1
        if state == "done":
            seconds[job.unit.study, job.unit.arm].append(_played(job.home / "done.json")[0])
    usual = [took for each in seconds.values() for took in each]
    return [
        Row(
            *name, {state: counts[state] for state in STATES}, sum(seconds[name]), _left(counts, seconds[name] or usual)
        )
        for name, counts in states.items()
    ]


def together(rows: list[Row]) -> Row:
    """Add up all arms."""
    counts = {state: sum(row.counts[state] for row in rows) for state in STATES}
    lefts = [row.left for row in rows if row.left is not None]
    left = sum(lefts) if len(lefts) == len(rows) else None
    return Row("", "", counts, sum(row.seconds for row in rows), left)


def failed(benchmark: Benchmark) -> list[tuple[Job, str]]:
    """List the units that failed, with why."""
    found = [(job, job.failure) for job in benchmark.jobs if job.state == "failed"]
    return [(job, failure["error"]) for job, failure in found if failure is not None]


def _left(counts: Counter[State], took: list[float]) -> float | None:
    todo = sum(counts[state] for state in STATES if state != "done")
    return 0.0 if not todo else todo * float(np.mean(took)) if took else None


def by_other_code(benchmark: Benchmark) -> int:
    """Count the units that are done and were played by other code than is installed now, though of the same release."""
    done = [job.home / "done.json" for job in benchmark.jobs if job.state == "done"]
    return sum(_played(path)[1] != source() for path in done)


def left_out(benchmark: Benchmark) -> int:
    """Count the units in its folder that are done and no longer asked for: the file or its images were changed, or nextmask was."""
    asked = {job.key for job in benchmark.jobs}
    return sum(path.parent.name not in asked for path in (benchmark.folder / "units").glob("*/done.json"))


def refuse_empty(benchmark: Benchmark) -> None:
    """Raise StudyError if nothing that is asked for is done, but something else is: a report would say that nothing is known."""
    others = left_out(benchmark)
    if others and not any(job.state == "done" for job in benchmark.jobs):
        raise StudyError(
            f"none of the {len(benchmark.jobs)} units of this benchmark is done in {benchmark.folder}, where {others} others are. "
            "Expected one of its own: the file, its images or nextmask were changed since. Leave the report as it is, or play "
            "the benchmark anew, without --report."
        )


@cache
def _played(path: Path) -> tuple[float, str]:
    """Read how many seconds a unit took, and by which code; what is done never changes."""
    done = json.loads(path.read_text(encoding="utf-8"))
    return float(done["seconds"]), done["code"]
