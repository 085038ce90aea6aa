"""Scores of a segmenter on the test cases, case by case, so that an interrupted evaluation goes on where it was."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nextmask.data.files import Progress, digest, write_text
from nextmask.data.images import read_mask
from nextmask.data.preprocess import mask_to_image
from nextmask.errors import StudyError
from nextmask.study.rounds import Round

if TYPE_CHECKING:
    from nextmask.study.study import Study

METRICS = ("dice", "hd95", "nsd", "assd")


def evaluate(study: Study, round: Round, progress: Progress | None) -> dict[str, Any]:
    """Score the test cases that have a mask; return the mean per class and the file of all scores.

    Millimetre metrics are left out of cases whose spacing is unknown.

    Raises:
        StudyError: no test case has a mask.
    """
    assert round.segmenter is not None
    test = study.cohort.on("test")
    rows = [row for row, case in enumerate(test.cases) if case.mask is not None]
    if not rows:
        raise StudyError(
            f"none of the {len(test.cases)} test cases has a mask. Expected masks to compare with. Give them in the mask "
            "column of cases.csv, or with --masks, when the study is made. (Querying goes on without evaluation.)"
        )
    folder = study.folder / "rounds" / f"{round.number:02d}"
    partial = folder / "scores.partial.jsonl"
    scored = _read_partial(partial, round.segmenter.sha256)
    _score_missing(study, round, rows, scored, partial, progress)
    lines = [{"case": test.cases[row].id, **score} for row in rows for score in scored[test.cases[row].id]]
    _write_csv(folder / "scores.csv", lines)
    partial.unlink(missing_ok=True)
    path = f"rounds/{round.number:02d}/scores.csv"
    return {
        "path": path,
        "sha256": digest(study.folder / path),
        "cases": len(rows),
        "scores": {name: _mean(lines, name) for name in study.config.classes},
    }


def _score_missing(
    study: Study,
    round: Round,
    rows: Sequence[int],
    scored: dict[str, list[dict]],
    partial: Path,
    progress: Progress | None,
) -> None:
    from nextmask.training.predict import load_segmenter

    assert round.segmenter is not None
    test, cache = study.cohort.on("test"), study.cache("test")
    segmenter = load_segmenter(study.path(round.segmenter), study.device)
    with partial.open("a", encoding="utf-8") as log:
        for done, row in enumerate(rows, start=1):
            case = test.cases[row].id
            if case not in scored:
                scored[case] = _score(study, segmenter, cache, test, row)
                log.write(
                    json.dumps({"segmenter": round.segmenter.sha256, "case": case, "scores": scored[case]}) + "\n"
                )
                log.flush()
            if progress:
                progress(done, len(rows))


def _score(study: Study, segmenter: Any, cache: Any, test: Any, row: int) -> list[dict]:
    from nextmask.training.metrics import score_case

    case, scan = test.cases[row], test.scans[row]
    probabilities = segmenter.predict(np.asarray(cache.image(row), np.float32))
    prediction = mask_to_image(probabilities, cache.placements[row])
    reference, _ = read_mask(case.mask, study.config.mask_codes)
    scores = score_case(prediction, reference, study.config.classes, scan.geometry.spacing)
    return [{"class": score.name, **{name: _plain(getattr(score, name)) for name in METRICS}} for score in scores]


def _plain(value: float | None) -> float | None:
    """Write "not a number" (a class that is absent and was not predicted) and "unknown spacing" both as null."""
    return None if value is None or not np.isfinite(value) else round(float(value), 6)


def _mean(lines: Sequence[Mapping[str, Any]], name: str) -> dict[str, float | None]:
    """Average each metric of one class over the cases for which it is defined."""
    means: dict[str, float | None] = {}
    for metric in METRICS:
        values = [line[metric] for line in lines if line["class"] == name and line[metric] is not None]
        means[metric] = round(float(np.mean(values)), 6) if values else None
    return means


def _read_partial(path: Path, segmenter: str) -> dict[str, list[dict]]:
    scored = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # the line that a crash cut short
            continue
        if row["segmenter"] == segmenter:
            scored[row["case"]] = row["scores"]
    return scored


def _write_csv(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, ["case", "class", *METRICS], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: "" if value is None else value for key, value in line.items()} for line in lines)
    write_text(path, text.getvalue())
