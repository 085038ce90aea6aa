"""Images that no study holds, brought to a study's working grid: what a segmenter is trained for in the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.data.images import read_channels
from nextmask.data.pool import Case
from nextmask.data.preprocess import Preprocessing, place, to_working
from nextmask.data.scan import Problem, Scan, scan_case
from nextmask.data.table import is_table, read_table
from nextmask.errors import DataError
from nextmask.study.inference import Inference
from nextmask.study.predictions import OfCase


def list_images(source: Path | str, columns: Mapping[str, str]) -> tuple[list[Case], list[str]]:
    """List the images of a table, folder or glob, as `nextmask new` reads them; say of which rows there is none.

    Of ``columns``, which name those of the study's own table, the ones of cases and images are read: nothing else is needed.
    """
    needed = {part: column for part, column in columns.items() if part == "case" or part.startswith("image")}
    table = read_table(source, columns=needed if is_table(source) else None)
    cases = [replace(case, mask=None, scribble=None) for case in table.cases]
    return cases, [said(problem) for problem in table.problems if problem.spoils == "image"]


def said(problem: Problem) -> str:
    """Write what is wrong, and what to do about it, in a line."""
    return f"{problem.where}: {problem.message} {problem.remedy}"


@dataclass(frozen=True)
class Grid:
    """How a study reads its images, and one of them that new ones must be like."""

    preprocessing: Preprocessing
    planar: bool
    like: Scan


def of_new_images(segmenter: Any, cases: Sequence[Case], grid: Grid, inference: Inference) -> OfCase:
    """Return what predicts the mask of a new image, which is read, looked at and forgotten again.

    That raises DataError for an image that cannot be read or is of another kind than the study's.
    """

    def of_case(row: int) -> np.ndarray:
        scan = scan_case(cases[row], classes=0)
        _refuse(scan, grid.like)
        placement = place(grid.preprocessing, scan, planar=grid.planar)
        image = to_working(read_channels(cases[row].images).array, grid.preprocessing, placement)
        return inference.predict(segmenter, image, placement)

    return of_case


def _refuse(scan: Scan, like: Scan) -> None:
    for problem in scan.problems:
        if problem.severity == "error":
            raise DataError(said(problem))
    for what, own, expected in (
        ("channels", scan.channels, like.channels),
        ("axes", len(scan.shape), len(like.shape)),
    ):
        if own != expected:
            raise DataError(
                f"{scan.case}: it has {own} {what}. Expected {expected}, as the images of the study have. "
                "Give images of the kind that it was trained on."
            )
