"""Masks as a segmenter sees them, on the images' own grids: to be scored, to be corrected, or to be used."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.data.cache import Cache
from nextmask.data.files import Progress, atomically, digest
from nextmask.data.images import mask_suffix, write_mask
from nextmask.data.pool import IGNORE, Case, Pool, Sample
from nextmask.errors import DataError, StudyError
from nextmask.study.annotations import DRAFTS, fit_to_case
from nextmask.study.inference import Inference
from nextmask.study.rounds import Round

OfCase = Callable[[int], np.ndarray]
"""Returns the mask of a case, by its row."""


def by_case(segmenter: Any, cache: Cache, inference: Inference) -> OfCase:
    """Return what predicts the mask of a case; samples of a case often follow one another, so the last mask is kept."""

    @lru_cache(maxsize=1)
    def of_case(row: int) -> np.ndarray:
        return inference.predict(segmenter, cache.image(row), cache.placements[row])

    return of_case


@dataclass(frozen=True)
class Wanted:
    """A mask to be written: its name, the case it is of, and the sample that it is to show alone, if any."""

    name: str
    case: int
    sample: Sample | None = None


def awaited(pool: Pool, rounds: Sequence[Round]) -> list[Wanted]:
    """List the samples that were asked for and not drawn yet, case by case.

    Raises:
        StudyError: there is none.
    """
    rows = sorted(pool.row_of[name] for round in rounds for name in round.missing)
    if not rows:
        raise StudyError("no mask is awaited. Expected an open query. Run `nextmask query` first, or predict the pool.")
    samples = [pool.samples[row] for row in rows]
    return [Wanted(sample.id, sample.case, sample) for sample in samples]


def all_cases(cases: Sequence[Case]) -> list[Wanted]:
    """Ask for whole cases."""
    return [Wanted(case.id, row) for row, case in enumerate(cases)]


@dataclass(frozen=True)
class PredictionReport:
    """The files that were written, and those that were there already and stay: they may hold an hour of corrections.

    ``problems`` says of which images there is none, and why.
    """

    written: tuple[Path, ...]
    kept: tuple[Path, ...]
    problems: tuple[str, ...] = ()


def write_predictions(
    folder: Path, wanted: Sequence[Wanted], cases: Sequence[Case], of_case: OfCase, progress: Progress | None = None
) -> PredictionReport:
    """Write masks under the names by which `annotate` finds them; beyond a sample they say 255, not annotated.

    An image that cannot be read stops no other.
    """
    written, kept, problems = [], [], []
    for done, each in enumerate(wanted, start=1):
        image = cases[each.case].images[0]
        try:
            path = folder / f"{each.name}{mask_suffix(image)}"
            if path.exists():
                kept.append(path)
            else:
                _write(path, _shown(of_case(each.case), each.sample), image)
                written.append(path)
        except DataError as error:
            problems.append(str(error))
        if progress:
            progress(done, len(wanted))
    return PredictionReport(tuple(written), tuple(kept), tuple(problems))


def _write(path: Path, mask: np.ndarray, image: str) -> None:
    with atomically(path) as temporary:
        write_mask(temporary, mask, image)
        _remember(path.with_name(DRAFTS), path.name, digest(temporary))


def _remember(log: Path, name: str, sha256: str) -> None:
    """Note how a mask is written before it is there, so that no crash lets it pass for one that a person drew."""
    with log.open("a", encoding="utf-8") as lines:
        lines.write("\n" + json.dumps({"file": name, "sha256": sha256}) + "\n")


def _shown(mask: np.ndarray, sample: Sample | None) -> np.ndarray:
    return mask if sample is None else fit_to_case(mask, sample, mask.shape, IGNORE - 1)
