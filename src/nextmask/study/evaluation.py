"""Scores of a segmenter on the test cases, case by case, so that an interrupted evaluation goes on where it was."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from nextmask.data.cache import Cache
from nextmask.data.files import Progress, digest, digest_json, read_json_lines, write_text
from nextmask.data.images import read_mask
from nextmask.data.scan import fingerprint
from nextmask.errors import StudyError
from nextmask.study.cohort import Cohort
from nextmask.study.inference import PLAIN, Inference
from nextmask.study.rounds import StoredFile
from nextmask.study.trust import measure_of_one, plain, ranking, said_of_case
from nextmask.training.metrics import ClassScore, score_case, summarise

VERSION = 3
"""Part of every key of scores; raised when the same segmenter would score otherwise."""
METRICS = ("dice", "hd95", "nsd", "assd")


@dataclass(frozen=True)
class Task:
    """What is measured: a segmenter on the test cases, into the folder of its round.

    ``known`` keeps the scores of each case by what decides them, so that studies that come to the same segmenter share them.
    """

    folder: Path
    known: Path
    test: Cohort
    cache: Cache
    classes: Sequence[str]
    codes: Mapping[int, int]
    segmenter: StoredFile
    load: Callable[[StoredFile], Any]
    measure: str = "entropy"
    inference: Inference = PLAIN


def evaluate(task: Task, progress: Progress | None = None) -> dict[str, Any]:
    """Score the test cases that have a mask; write all scores to scores.csv and return the mean per class.

    Millimetre metrics are left out of cases whose spacing is unknown. "ranking" says whether uncertainty ranks errors, from the
    very same predictions.

    Raises:
        StudyError: no test case has a mask.
    """
    rows = [row for row, case in enumerate(task.test.cases) if case.mask is not None]
    if not rows:
        raise StudyError(
            f"none of the {len(task.test.cases)} test cases has a mask. Expected masks to compare with. Give them in the mask "
            "column of cases.csv, or with --masks, when the study is made. (Querying goes on without evaluation.)"
        )
    task.known.mkdir(parents=True, exist_ok=True)
    log = task.known / f"{_key(task)}.jsonl"
    with FileLock(log.with_suffix(".lock")):
        scored = {row["case"]: row for row in read_json_lines(log)}
        _score_missing(task, rows, scored, log, progress)
    cases = [task.test.cases[row] for row in rows]
    path = task.folder / "scores.csv"
    _write_csv(path, [{"case": case.id, **score} for case in cases for score in scored[case.id]["scores"]])
    ranked = ranking(
        [{"patient": case.patient, "dice": _dice(scored[case.id]), **scored[case.id]} for case in cases], task.measure
    )
    means = _means([scored[case.id]["scores"] for case in cases])
    return {"sha256": digest(path), "cases": len(rows), **means, "ranking": ranked}


def _score_missing(
    task: Task, rows: Sequence[int], scored: dict[str, dict], log: Path, progress: Progress | None
) -> None:
    missing = [row for row in rows if task.test.cases[row].id not in scored]
    segmenter = task.load(task.segmenter) if missing else None
    with log.open("a", encoding="utf-8") as lines:
        for done, row in enumerate(missing, start=len(rows) - len(missing) + 1):
            case = task.test.cases[row].id
            scored[case] = {"case": case, **_score(task, segmenter, row)}
            # Begun with a line of its own: a crash may have cut the last one short.
            lines.write("\n" + json.dumps(scored[case]) + "\n")
            lines.flush()
            if progress:
                progress(done, len(rows))


def _key(task: Task) -> str:
    """Name what decides the scores: segmenter, images, masks by file and time of change, classes, codes, and how it is done."""
    cases = [[key, fingerprint(case)] for key, case in zip(task.cache.keys, task.test.cases, strict=True)]
    codes = sorted(task.codes.items())
    how = [measure_of_one(task.measure), list(task.inference.turned), list(task.inference.whole)]
    return digest_json([VERSION, task.segmenter.sha256, cases, list(task.classes), codes, *how])[:32]


def _score(task: Task, segmenter: Any, row: int) -> dict[str, Any]:
    case, scan = task.test.cases[row], task.test.scans[row]
    assert case.mask is not None
    probabilities = task.inference.probabilities(segmenter, task.cache.image(row))
    placement, spacings = task.cache.placements[row], (task.cache.spacings[row], scan.geometry.spacing)
    prediction = task.inference.mask(probabilities, placement)
    reference, _ = read_mask(case.mask, task.codes)
    scores = score_case(prediction, reference, task.classes, scan.geometry.spacing)
    return {
        "scores": [
            {"class": score.name, **{name: plain(getattr(score, name)) for name in METRICS}} for score in scores
        ],
        **said_of_case(probabilities, prediction, reference, placement, spacings, task.measure),
    }


def _dice(scored: Mapping[str, Any]) -> float | None:
    """Average the Dice of one case over the classes that are defined."""
    known = [line["dice"] for line in scored["scores"] if line["dice"] is not None]
    return float(np.mean(known)) if known else None


def _means(scored: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Average each metric of each class over the cases; say in how many a class was neither there nor predicted."""
    classes = summarise([[_as_score(line) for line in case] for case in scored])
    return {
        "scores": {each.name: {metric: plain(getattr(each, metric)) for metric in METRICS} for each in classes},
        "absent": {each.name: each.absent for each in classes},
    }


def _as_score(line: Mapping[str, Any]) -> ClassScore:
    dice = math.nan if line["dice"] is None else line["dice"]
    return ClassScore(line["class"], dice, *(line[metric] for metric in METRICS[1:]))


def _write_csv(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["case", "class", *METRICS], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in line.items()} for line in lines)
    write_text(path, text.getvalue())
