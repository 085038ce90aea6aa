"""What the units of a benchmark came to: kept with each unit, and put together as tidy tables."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.benchmark.grid import Unit
from nextmask.data.files import write_text
from nextmask.study.evaluation import METRICS
from nextmask.study.rounds import Round, foreground_after, labeled_after
from nextmask.study.study import Study
from nextmask.study.summary import minutes_after
from nextmask.study.trust import KEPT

OF_UNIT = (
    "unit",
    "study",
    "arm",
    "strategy",
    "first",
    "encoder",
    "settings",
    "options",
    "sizes",
    "seed",
    "training_seed",
)
SPENT = ("samples", "masks", "foreground_voxels", "minutes")
SECONDS = ("select_seconds", "train_seconds", "evaluate_seconds")
OF_ROUND = ("round", *SPENT, *SECONDS, "shared", "peak_mb")
OF_CASE = ("case", "patient", "group")
MEAN = "mean"
"""The class that the mean over all classes is listed as."""


def outcome(study: Study) -> list[dict[str, Any]]:
    """Return what came of each round of a simulation: what it spent up to then, how long it took, what it scored.

    Samples that were given up count as asked for. Minutes are what an oracle took, or estimates where a ledger does not know.
    Seconds of a training that another unit did are the seconds that it took there.
    """
    rounds = study.rounds
    spent: dict[str, Sequence[float]] = {
        "samples": labeled_after(rounds),
        "masks": np.cumsum([len(round.masks) for round in rounds], dtype=int).tolist(),
        "foreground_voxels": foreground_after(rounds),
        "minutes": minutes_after(study),
    }
    return [
        {
            "round": round.number,
            "strategy": round.strategy,
            "asked": list(round.samples),
            **{name: spent[name][i] for name in SPENT},
            "select_seconds": round.details.get("seconds"),
            "train_seconds": round.training.get("seconds"),
            "evaluate_seconds": round.evaluation.get("seconds"),
            "shared": bool(round.training.get("shared")),
            "scores": round.scores,
            "trust": {name: round.evaluation.get(name) for name in KEPT},
            "cases": list(_cases(study, round)),
        }
        for i, round in enumerate(rounds)
    ]


def _cases(study: Study, round: Round) -> Iterator[dict[str, Any]]:
    """Read the scores of each test case, with its patient and group."""
    known = {case.id: case for case in study.cohort.on("test").cases}
    with (study.folder / round.evaluation["path"]).open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            case = known[line["case"]]
            metrics = {name: float(line[name]) if line[name] else None for name in METRICS}
            yield {"case": case.id, "patient": case.patient, "group": case.group, "class": line["class"], **metrics}


def case_rows(unit: Unit, key: str, done: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for each round, test case and class of a finished unit."""
    for round in done["rounds"]:
        for case in round["cases"]:
            yield {**_of_unit(unit, key, done), **_of_round(round, done), **case}


def summary_rows(unit: Unit, key: str, done: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a row for each round and class, the mean over the classes last; a metric that is not defined stays out of it."""
    for round in done["rounds"]:
        scores = {name: round["scores"][name] for name in done["classes"]}
        mean = {name: _mean(each[name] for each in scores.values()) for name in METRICS}
        for label, values in (*scores.items(), (MEAN, mean)):
            yield {**_of_unit(unit, key, done), **_of_round(round, done), "class": label, **values}


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a table; what is not known is left empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    write_text(path, text.getvalue())


def write_results(folder: Path, units: Sequence[tuple[Unit, str, Mapping[str, Any]]], told: Mapping[str, Any]) -> None:
    """Write results.csv (by case), summary.csv (means) and results.json (settings and versions), in the order of units.

    Each unit comes with its key and with what came of it. ``told`` goes into results.json as it is.
    """
    rows = (row for unit in units for row in case_rows(*unit))
    write_table(folder / "results.csv", (*OF_UNIT, *OF_ROUND, *OF_CASE, "class", *METRICS), rows)
    rows = (row for unit in units for row in summary_rows(*unit))
    write_table(folder / "summary.csv", (*OF_UNIT, *OF_ROUND, "class", *METRICS), rows)
    made = [{"unit": key, **vars(unit), **{name: done[name] for name in MADE}} for unit, key, done in units]
    write_text(folder / "results.json", json.dumps({**told, "units": made}, indent=1, ensure_ascii=False) + "\n")


MADE = ("seconds", "peak_mb", "device", "code", "versions")
"""What is known of how a unit was played."""


def _of_unit(unit: Unit, key: str, done: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "unit": key,
        "study": unit.study,
        "arm": unit.arm,
        "strategy": unit.strategy,
        "first": unit.first or unit.strategy,
        "encoder": done["encoder"],
        "settings": _text(unit.settings),
        "options": _text(unit.options),
        "sizes": "+".join(map(str, unit.sizes)),
        "seed": unit.seed,
        "training_seed": unit.training_seed,
    }


def _of_round(round: Mapping[str, Any], done: Mapping[str, Any]) -> dict[str, Any]:
    return {**{name: round[name] for name in ("round", *SPENT, *SECONDS, "shared")}, "peak_mb": done["peak_mb"]}


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, sort_keys=True, ensure_ascii=False) if values else ""


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 6) if known else None
