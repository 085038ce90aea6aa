"""The main job on synthetic patients: no network, no data, a few minutes at most."""

from __future__ import annotations

from pathlib import Path

from nextmask.data.synthetic import CLASSES, write_patients
from nextmask.study.config import FILE, StudyConfig
from nextmask.study.simulate import simulate
from nextmask.study.study import Report, Study
from nextmask.study.summary import write_report

PATIENTS = 20
QUERY_SIZE = 12
ROUNDS = 3
ITERATIONS = 150


def run_demo(folder: Path, report: Report | None = None) -> tuple[Study, Path]:
    """Draw patients, make a study of their slices, let an oracle answer its queries; return it and its report."""
    table = folder / "patients" / "cases.csv"
    if not table.exists():
        write_patients(folder / "patients", PATIENTS, seed=0)
    home = folder / "study"
    if not (home / FILE).exists():
        short = {"iterations": ITERATIONS, "objectives": {"supervised": 1.0}}  # unlabeled images would double the time
        config = StudyConfig(images="../patients/cases.csv", classes=CLASSES, unit="slice", **short)
        Study.create(home, config, report=report)
    played = simulate(home, strategy="typiclust", query_size=QUERY_SIZE, rounds=ROUNDS, seed=0, report=report)
    return played, write_report(Study(home))
