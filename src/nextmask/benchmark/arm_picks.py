"""What the arms of a benchmark picked: which patients, positions and classes, on the map of the pool, and in pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from nextmask.benchmark.arm_curves import Played
from nextmask.benchmark.units import Job
from nextmask.data.images import read_mask
from nextmask.data.pool import IGNORE
from nextmask.data.scan import Scan
from nextmask.errors import NextmaskError
from nextmask.features.store import find_encoding
from nextmask.study.pool_map import PoolMap, map_of_pool
from nextmask.study.report import Picture
from nextmask.study.simulate import has_begun
from nextmask.study.study import Study
from nextmask.study.summary import pictures_of

PARTS = 5
"""Parts of the slice axis, from the first slice to the last."""
MOST_PICTURES, OF_ARM = 60, 6
MOST_MASKS = 100
"""Masks that are read of an arm to tell its classes."""
MOST_MAPPED = 20_000
"""A larger pool is not embedded for a map."""

Unreadable = (NextmaskError, OSError)
"""What reading a unit's files raises where some are gone."""


@dataclass(frozen=True)
class Coverage:
    """What an arm had asked for at its end: ``patients`` on average over seeds, of ``of`` in the pool.

    ``positions`` are shares of its samples by part of the slice axis, empty where there is none; ``classes`` the share of
    its first unit's samples that show each class, empty where the masks are gone.
    """

    arm: str
    patients: float
    of: int
    positions: tuple[float, ...]
    classes: Mapping[str, float]


@dataclass(frozen=True)
class Picks:
    """What was picked in one study; ``pool`` is the whole pool's share by part of the slice axis, ``told`` what is missing.

    ``foreground`` counts the voxels of all classes in the masks of the pool, or in the scribbles of cases without a mask.
    """

    cases: int
    patients: int
    samples: int
    foreground: int
    pool: tuple[float, ...]
    coverage: tuple[Coverage, ...]
    maps: Mapping[str, PoolMap]
    pictures: Mapping[str, tuple[Picture, ...]]
    class_names: tuple[str, ...]
    told: tuple[str, ...]


def picks_of(jobs: Sequence[Job], played: Sequence[Played]) -> Picks | None:
    """Look at what the units of one study picked; None where the study's own files are gone.

    Pictures, maps and classes are those of each arm's first unit; what cannot be read is left out and said.
    """
    homes = {job.key: job for job in jobs}
    firsts: dict[str, Job] = {}
    for unit, key, _ in played:
        firsts.setdefault(unit.arm, homes[key])
    try:
        study = Study(jobs[0].study) if jobs and has_begun(jobs[0].study) else None
        if study is None:
            return None
        pool = study.pool
    except Unreadable:
        return None
    opened = {arm: Study(job.home) for arm, job in firsts.items() if has_begun(job.home)}
    told = [
        f"The folder of {job.key} is gone: its samples are not shown." for a, job in firsts.items() if a not in opened
    ]
    patients = {case.patient for case in study.cohort.on("pool").cases}
    positions = pool.position if len(np.unique(pool.position)) > 1 else None
    classes = {arm: _classes(each, told) for arm, each in opened.items()}
    return Picks(
        cases=len(study.cohort.on("pool").cases),
        patients=len(patients),
        samples=len(pool),
        foreground=sum(map(_foreground, study.cohort.on("pool").scans)),
        pool=_parts(positions, range(len(pool))),
        coverage=tuple(_coverage(arm, study, played, positions, classes.get(arm, {})) for arm in firsts),
        maps=_maps(opened, told),
        pictures={arm: found for arm, each in opened.items() if (found := _pictures(each, len(opened), told))},
        class_names=study.config.classes,
        told=tuple(told),
    )


def _foreground(scan: Scan) -> int:
    counts = scan.mask_values or scan.scribble_values or {}
    return sum(count for value, count in counts.items() if value not in (0, IGNORE))


def _coverage(
    arm: str, study: Study, played: Sequence[Played], positions: np.ndarray | None, classes: Mapping[str, float]
) -> Coverage:
    rows = [_rows(study, done["rounds"]) for unit, _, done in played if unit.arm == arm]
    patients = [len({study.pool.case_of(row).patient for row in of}) for of in rows]
    of = len({case.patient for case in study.cohort.on("pool").cases})
    return Coverage(arm, float(np.mean(patients)), of, _parts(positions, [row for of in rows for row in of]), classes)


def _rows(study: Study, rounds: Sequence[Mapping[str, Sequence[str]]]) -> list[int]:
    return [study.pool.row_of[name] for round in rounds for name in round["asked"]]


def _parts(positions: np.ndarray | None, rows: Sequence[int]) -> tuple[float, ...]:
    """Return the share of samples in each part of the slice axis."""
    if positions is None or not len(rows):
        return ()
    part = np.minimum((positions[list(rows)] * PARTS).astype(int), PARTS - 1)
    return tuple((np.bincount(part, minlength=PARTS) / len(part)).tolist())


def _classes(study: Study, told: list[str]) -> dict[str, float]:
    """Return the share of a unit's samples that show each class, told from at most `MOST_MASKS` masks."""
    files = [file for round in study.rounds for file in round.masks.values()]
    files = files[:: -(-len(files) // MOST_MASKS) or 1]
    try:
        shown = [set(np.unique(read_mask(study.path(file))[0]).tolist()) for file in files]
    except Unreadable as error:
        told.append(f"Classes of {study.folder.name} are not counted: {error}")
        return {}
    names = enumerate(study.config.classes, start=1)
    return {name: float(np.mean([label in each for each in shown])) for label, name in names} if shown else {}


def _pictures(study: Study, arms: int, told: list[str]) -> tuple[Picture, ...]:
    most = max(1, min(OF_ARM, MOST_PICTURES // arms))
    try:
        return tuple(islice(pictures_of(study, most), most))
    except Unreadable as error:
        told.append(f"Samples of {study.folder.name} are not shown: {error}")
        return ()


def _maps(opened: Mapping[str, Study], told: list[str]) -> dict[str, PoolMap]:
    """Draw the same map for every arm, by an encoder that costs little: one that was used and has no weights, or intensity."""
    if not opened or len(next(iter(opened.values())).pool) > MOST_MAPPED:
        return {}
    first = next(iter(opened.values()))
    pool, encoder = first.pool, _encoder(opened.values())
    try:
        embeddings = first.embed(encoder).array
    except Unreadable as error:
        told.append(f"The pool is not mapped: {error}")
        return {}
    names = tuple(sample.id for sample in pool.samples)
    maps = {
        arm: map_of_pool(
            embeddings,
            names,
            pool.patient,
            pool.position,
            {pool.row_of[name]: round.number for round in study.rounds for name in round.samples},
            encoder=encoder,
        )
        for arm, study in opened.items()
    }
    return {arm: found for arm, found in maps.items() if found is not None}


def _encoder(studies: Iterable[Study]) -> str:
    used = [
        embeddings["encoder"]
        for study in studies
        for round in study.rounds
        if (embeddings := round.details.get("used", {}).get("embeddings"))
    ]
    return next((name for name in used if find_encoding(name).needs == "nothing"), "intensity")
