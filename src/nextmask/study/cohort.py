"""The cases of a study, what reading each of them found, and who is in the pool: made once, then frozen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from nextmask.data.check import check_pool
from nextmask.data.files import Progress, digest_json, read_json_lines, write_text
from nextmask.data.pool import Case
from nextmask.data.scan import Problem, Scan, fingerprint, scan_case
from nextmask.data.splits import make_split, read_split, write_split
from nextmask.data.table import Table, read_table
from nextmask.errors import StudyError
from nextmask.study.config import StudyConfig

CASES, SPLITS, SCANS = "cases.jsonl", "splits.csv", "scans.jsonl"


@dataclass(frozen=True)
class Cohort:
    """The usable cases with their scans, in table order, and the side of the split that each is on."""

    cases: tuple[Case, ...]
    scans: tuple[Scan, ...]
    side: dict[str, str]

    def on(self, side: str) -> Cohort:
        """Return the part that is "pool" or "test"."""
        kept = [(case, scan) for case, scan in zip(self.cases, self.scans, strict=True) if self.side[case.id] == side]
        return Cohort(tuple(case for case, _ in kept), tuple(scan for _, scan in kept), self.side)

    def content(self) -> str:
        """Hash which cases there are, the voxels of each and its side of the split."""
        rows = zip(self.cases, self.scans, strict=True)
        return digest_json([[case.id, case.patient, scan.pixels, self.side[case.id]] for case, scan in rows])


def load_table(folder: Path, config: StudyConfig) -> Table:
    """Read the table, folder or glob that the settings name."""

    def resolve(path: str | None) -> str | None:
        return None if path is None else os.path.normpath(folder / path)

    images = resolve(config.images)
    assert images is not None
    return read_table(images, masks=resolve(config.masks), scribbles=resolve(config.scribbles), columns=config.columns)


def scan_cases(folder: Path, config: StudyConfig, cases: Sequence[Case], progress: Progress | None) -> list[Scan]:
    """Read every file of every case once; what was read before and has not changed since is not read again."""
    path = folder / SCANS
    known = _known_scans(path, config)
    fresh = [case for case in cases if fingerprint(case) not in known]
    scan = partial(
        scan_case, classes=len(config.classes), mask_codes=config.mask_codes, scribble_codes=config.scribble_codes
    )
    with ThreadPoolExecutor(2) as threads, path.open("a", encoding="utf-8") as log:
        for done, found in enumerate(threads.map(scan, fresh), start=len(cases) - len(fresh) + 1):
            known[found.fingerprint] = found
            log.write(json.dumps({"codes": _codes_key(config), **found.to_json()}) + "\n")
            log.flush()
            if progress:
                progress(done, len(cases))
    return [known[fingerprint(case)] for case in cases]


def find_problems(folder: Path, config: StudyConfig, progress: Progress | None = None) -> list[Problem]:
    """List everything that is wrong with the files of a study, without stopping at the first."""
    table = load_table(folder, config)
    scans = scan_cases(folder, config, table.cases, progress)
    given = {case.id: case.split for case in table.cases if case.split}
    of_files = [problem for scan in scans for problem in scan.problems]
    return [*table.problems, *of_files, *check_pool(table.cases, scans, given or None)]


def make_cohort(folder: Path, config: StudyConfig, progress: Progress | None = None) -> Cohort:
    """Read the table and the files, leave out what cannot be used, split by patient, and write all of it down."""
    table = load_table(folder, config)
    scans = scan_cases(folder, config, table.cases, progress)
    usable = [(_usable(case, scan), scan) for case, scan in zip(table.cases, scans, strict=True)]
    kept = [(case, scan) for case, scan in usable if case is not None]
    if not kept:
        raise StudyError(
            f"none of the {len(scans)} cases can be used, first {scans[0].case!r}: {scans[0].problems[0].message} "
            "Expected at least one readable image. Mend the files and create the study again."
        )
    cases, scans = [case for case, _ in kept], [scan for _, scan in kept]
    _refuse_mixture(cases, scans)
    side = _split(folder, config, cases, scans)
    cohort = Cohort(tuple(cases), tuple(scans), side)
    write_cases(folder, cohort)
    return cohort


def write_cases(folder: Path, cohort: Cohort) -> None:
    """Freeze the cases of a study; paths are written relative to the study's folder."""
    lines = [
        json.dumps({"case": _moved(asdict(case), folder, os.path.relpath), "scan": scan.to_json()}, ensure_ascii=False)
        for case, scan in zip(cohort.cases, cohort.scans, strict=True)
    ]
    write_text(folder / CASES, "\n".join(lines) + "\n")


def read_cohort(folder: Path) -> Cohort:
    """Read the frozen cases and their split."""
    path = folder / CASES
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError as error:
        raise StudyError(
            f"{path} is missing. Expected the frozen list of cases. Restore it from a backup, or create a new study."
        ) from error
    cases = tuple(_case(_moved(row["case"], folder, lambda a, b: os.path.normpath(os.path.join(b, a)))) for row in rows)
    scans = tuple(Scan.from_json(row["scan"]) for row in rows)
    return Cohort(cases, scans, read_split(folder / SPLITS, cases))


def _split(folder: Path, config: StudyConfig, cases: Sequence[Case], scans: Sequence[Scan]) -> dict[str, str]:
    """Read the split if it was written before; draw and write it otherwise."""
    path = folder / SPLITS
    if not path.exists():
        side = make_split(cases, scans, test_fraction=config.test_fraction, by=config.split_by, seed=config.seed)
        write_split(path, cases, side, scans, by=config.split_by)
    return read_split(path, cases)


def _usable(case: Case, scan: Scan) -> Case | None:
    """Leave out what is spoiled: the case if its image is, only the mask if only that is."""
    spoiled = {problem.spoils for problem in scan.problems if problem.severity == "error"}
    if "image" in spoiled:
        return None
    return replace(
        case,
        mask=None if "mask" in spoiled else case.mask,
        scribble=None if "scribble" in spoiled else case.scribble,
    )


def _refuse_mixture(cases: Sequence[Case], scans: Sequence[Scan]) -> None:
    for what, values in {
        "numbers of channels": [scan.channels for scan in scans],
        "numbers of axes (pictures and volumes)": [len(scan.shape) for scan in scans],
    }.items():
        if len(set(values)) > 1:
            rare = min(set(values), key=values.count)
            names = [case.id for case, value in zip(cases, values, strict=True) if value == rare]
            raise StudyError(
                f"the images have different {what}: {sorted(set(values))}; {len(names)} cases have {rare}, first "
                f"{names[0]!r}. Expected one kind of image in a study. Make a study for each kind."
            )


def _known_scans(path: Path, config: StudyConfig) -> dict[str, Scan]:
    known = {}
    for row in read_json_lines(path):
        if row.pop("codes") == _codes_key(config):
            scan = Scan.from_json(row)
            known[scan.fingerprint] = scan
    return known


def _codes_key(config: StudyConfig) -> str:
    return digest_json(
        [len(config.classes), str(sorted(config.mask_codes.items())), str(sorted(config.scribble_codes.items()))]
    )[:16]


def _moved(row: dict, folder: Path, move: Callable[[str, Path], str]) -> dict:
    """Apply ``move(path, folder)`` to every path of a case; what follows ``::`` names a DICOM series and stays."""

    def one(source: str) -> str:
        path, mark, series = source.partition("::")
        return move(path, folder) + mark + series

    files = {name: one(row[name]) if row[name] else row[name] for name in ("mask", "scribble")}
    return {**row, **files, "images": tuple(one(source) for source in row["images"])}


def _case(row: dict) -> Case:
    return Case(**{**row, "images": tuple(row["images"])})
