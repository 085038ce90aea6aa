"""Pool and test by patient, never by slice: drawn once, stratified, written to a file, and read from it ever after."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nextmask.data.check import duplicates
from nextmask.data.files import write_text
from nextmask.data.pool import Case
from nextmask.data.scan import Scan
from nextmask.errors import DataError

SIDES = ("pool", "test")


def make_split(
    cases: Sequence[Case],
    scans: Sequence[Scan] = (),
    *,
    test_fraction: float = 0.2,
    by: str = "patient",
    seed: int,
) -> dict[str, str]:
    """Put every case on one side: {case id: "pool" | "test"}.

    What is divided are units: patients, or what the table's column ``by`` names, joined where ``scans`` found the same
    pixels in two of them. Units of every ``Case.group`` go to the test side in proportion (largest remainder), drawn at
    random within the group. Where some cases have masks, only units whose every case has a usable one are tested on.
    Where the table divides the cases itself, that is kept. A ``test_fraction`` of 0 leaves everything in the pool.

    Raises:
        DataError: fewer than two units, a table that divides only some cases or tears a unit apart, or no unit that
            could be tested on.
    """
    units = units_of(cases, scans, by=by)
    if any(case.split for case in cases):
        split = _split_of_table(cases)
        refuse_torn_units(split, cases, units)
        return split
    if not 0 <= test_fraction < 1:
        raise DataError(
            f"The test fraction is {test_fraction:g}. Expected 0 (test on nothing) to less than 1, for example 0.2. Correct it."
        )
    if test_fraction == 0:
        return {case.id: "pool" for case in cases}
    tested = _draw(_groups_of_units(cases, units), _testable(cases, scans, units), test_fraction, seed)
    return {case.id: "test" if units[case.id] in tested else "pool" for case in cases}


def units_of(cases: Sequence[Case], scans: Sequence[Scan] = (), *, by: str = "patient") -> dict[str, str]:
    """Name the unit of every case: {case id: unit}; cases of one unit must stay on one side of a split.

    A unit is a patient, or all patients that a column ``by`` joins, and those that hold the same pixels. Its name is
    made of theirs: "patient074+patient076".
    """
    _refuse_missing_column(cases, by)
    parent = {case.id: case.id for case in cases}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    known = set(parent)
    same = [[name for name in group if name in known] for group in duplicates(scans)]
    for group in (*_cases_by(cases, "patient"), *_cases_by(cases, by), *same):
        for name in group[1:]:
            parent[root(name)] = root(group[0])
    names: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        names[root(case.id)].add(_value(case, by))
    return {case.id: "+".join(sorted(names[root(case.id)])) for case in cases}


def refuse_torn_units(split: Mapping[str, str], cases: Sequence[Case], units: Mapping[str, str]) -> None:
    """Raise where a patient, or a unit, lies on both sides, or where nothing is left for the pool."""
    for what, owner in (("Patient", {case.id: case.patient for case in cases}), ("Unit", units)):
        sides: dict[str, set[str]] = defaultdict(set)
        for case in cases:
            sides[owner[case.id]].add(split[case.id])
        torn = sorted(name for name, found in sides.items() if len(found) > 1)
        if torn:
            held = ", ".join(f"{case.id} ({split[case.id]})" for case in cases if owner[case.id] == torn[0])
            raise DataError(
                f"{what} {torn[0]} lies on both sides of the split: {held}; {len(torn)} such in all. Expected all its "
                "cases on one side: what is trained on must not be tested on. Correct the split."
            )
    if "pool" not in split.values():
        raise DataError(
            f"The split puts all {len(split)} cases on the test side. Expected some in the pool. Correct the split."
        )


def write_split(
    path: str | Path,
    cases: Sequence[Case],
    split: Mapping[str, str],
    scans: Sequence[Scan] = (),
    *,
    by: str = "patient",
) -> None:
    """Write a split as a table: case, patient, unit, group, split; ``scans`` and ``by`` as in ``make_split``."""
    units = units_of(cases, scans, by=by)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "patient", "unit", "group", "split"])
    writer.writerows([case.id, case.patient, units[case.id], case.group, split[case.id]] for case in cases)
    write_text(Path(path), text.getvalue())


def read_split(path: str | Path, cases: Sequence[Case]) -> dict[str, str]:
    """Read the sides of these cases from a file of ``write_split``; lines of other cases are not looked at.

    Raises:
        DataError: the file is absent or no split, misses a case, or tears a unit apart.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} is not there. Expected the split of the study. Restore the file or draw a new split.")
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"), newline="")))
    if not rows or not {"case", "unit", "split"} <= set(rows[0]):
        raise DataError(
            f"{path} is no split. Expected the columns case, patient, unit, group, split. Restore the file."
        )
    sides = {row["case"]: row["split"] for row in rows}
    missing = [case.id for case in cases if case.id not in sides]
    if missing:
        raise DataError(
            f"{path} does not name {len(missing)} of {len(cases)} cases, first {missing[0]}. Expected every case. A split "
            "is not changed silently: add the cases to the file, to the side of their patient, or draw a new split."
        )
    split = {case.id: sides[case.id] for case in cases}
    wrong = sorted(name for name, side in split.items() if side not in SIDES)
    if wrong:
        raise DataError(
            f"{path} puts {wrong[0]} on the side {split[wrong[0]]!r}. Expected pool or test. Correct the file."
        )
    units = {row["case"]: row["unit"] or row["case"] for row in rows}
    refuse_torn_units(split, cases, units)
    return split


def _split_of_table(cases: Sequence[Case]) -> dict[str, str]:
    without = [case.id for case in cases if not case.split]
    if without:
        raise DataError(
            f"The table says pool or test for {len(cases) - len(without)} of {len(cases)} cases, but not for "
            f"{', '.join(without[:5])}{', ...' if len(without) > 5 else ''}. Expected it for all or for none. "
            "Fill the column in, or leave it empty."
        )
    return {case.id: case.split for case in cases}


def _refuse_missing_column(cases: Sequence[Case], by: str) -> None:
    if by not in ("patient", "group") and any(by not in case.columns for case in cases):
        known = sorted({name for case in cases for name in case.columns})
        raise DataError(
            f"The cases have no column {by!r} to split by. Expected patient, group, or one of {', '.join(known)}. "
            "Correct the name."
        )


def _value(case: Case, by: str) -> str:
    """Look up what a case is divided by; where the cell is empty, its patient."""
    if by == "patient":
        return case.patient
    return (case.group if by == "group" else case.columns[by]) or case.patient


def _cases_by(cases: Sequence[Case], by: str) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        groups[_value(case, by)].append(case.id)
    return list(groups.values())


def _groups_of_units(cases: Sequence[Case], units: Mapping[str, str]) -> dict[str, str]:
    """Name the group of every unit; that of most of its cases where they differ."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        counts[units[case.id]][case.group] += 1
    return {unit: min(found, key=lambda group: (-found[group], group)) for unit, found in counts.items()}


def _testable(cases: Sequence[Case], scans: Sequence[Scan], units: Mapping[str, str]) -> set[str]:
    """Find the units that could be tested on: all of them as long as nobody has drawn a mask."""
    spoiled = {scan.case for scan in scans if scan.spoiled("mask")}
    usable = {case.id for case in cases if case.mask is not None and case.id not in spoiled}
    lacking = {units[case.id] for case in cases if case.id not in usable}
    return set(units.values()) - lacking if usable else set(units.values())


def _draw(group_of: Mapping[str, str], testable: set[str], fraction: float, seed: int) -> set[str]:
    if len(group_of) < 2:
        raise DataError(
            f"There is {len(group_of)} unit to divide (a patient, or several that belong together). Expected at least 2, "
            "one for each side. Add patients, give them in the table if all cases are listed as one's, or take 0 as the test "
            "fraction if nothing is to be tested."
        )
    if not testable:
        raise DataError(
            "Some cases have masks, but no patient has a usable one for every case. Expected patients with all masks to "
            "test on. Annotate some patients fully, or say in a column split which cases are for testing."
        )
    wanted = min(max(round(fraction * len(group_of)), 1), len(group_of) - 1, len(testable))
    quota = _quota(Counter(group_of.values()), Counter(group_of[unit] for unit in testable), wanted)
    rng = np.random.default_rng(seed)
    chosen: set[str] = set()
    for group in sorted(quota):
        members = sorted(unit for unit in testable if group_of[unit] == group)
        chosen.update(members[index] for index in rng.permutation(len(members))[: quota[group]])
    return chosen


def _quota(sizes: Mapping[str, int], available: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Share out ``wanted`` test units over the groups by their size: largest remainder, no more than are available."""
    shares = {group: wanted * size / sum(sizes.values()) for group, size in sizes.items()}
    quota = {group: min(int(share), available.get(group, 0)) for group, share in shares.items()}
    while sum(quota.values()) < wanted:
        open_groups = [group for group in quota if quota[group] < available.get(group, 0)]
        quota[max(open_groups, key=lambda group: (shares[group] - quota[group], sizes[group], group))] += 1
    return quota
