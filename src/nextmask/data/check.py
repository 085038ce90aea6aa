"""The check across cases: duplicates, patients on two sides of a split, images that do not go together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from nextmask.data.pool import Case
from nextmask.data.scan import Problem, Scan


def duplicates(scans: Sequence[Scan]) -> list[tuple[str, ...]]:
    """Group the cases whose images hold the same pixels; only groups of two and more."""
    groups: dict[str, list[str]] = defaultdict(list)
    for scan in scans:
        if scan.pixels:
            groups[scan.pixels].append(scan.case)
    return [tuple(sorted(group)) for group in groups.values() if len(group) > 1]


def check_pool(cases: Sequence[Case], scans: Sequence[Scan], split: Mapping[str, str] | None = None) -> list[Problem]:
    """Report what is wrong across cases: duplicates, patients on both sides of a split, images that do not go together.

    ``split`` maps a case to "pool" or "test"; without it the table's own is looked at.
    """
    sides = split if split is not None else {case.id: case.split for case in cases if case.split}
    usable = [scan for scan in scans if not scan.spoiled("image")]
    return [
        *_duplicate_problems(cases, scans, sides),
        *_patients_on_two_sides(cases, sides),
        *_mixed(usable),
        *_spacing_problems(usable),
    ]


def _duplicate_problems(cases: Sequence[Case], scans: Sequence[Scan], sides: Mapping[str, str]) -> Iterator[Problem]:
    patient = {case.id: case.patient for case in cases}
    for group in duplicates(scans):
        patients = sorted({patient[name] for name in group if name in patient})
        whose = f"They belong to {len(patients)} patients: {', '.join(patients)}." if len(patients) > 1 else ""
        torn = len({sides[name] for name in group if name in sides}) > 1
        yield Problem(
            "error" if torn else "warning",
            "duplicate-on-two-sides" if torn else "duplicate",
            ", ".join(group),
            " ".join([f"The images of {len(group)} cases hold the same pixels.", whose]).strip(),
            "They lie on two sides of the split: what is trained on would be tested on. Put them on one side."
            if torn
            else "They will be kept on one side of the split. If they are copies, take all but one out of the table.",
        )


def _patients_on_two_sides(cases: Sequence[Case], sides: Mapping[str, str]) -> Iterator[Problem]:
    seen: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        if case.id in sides:
            seen[case.patient].add(sides[case.id])
    for patient in sorted(name for name, found in seen.items() if len(found) > 1):
        yield Problem(
            "error",
            "patient-on-two-sides",
            patient,
            f"Patient {patient} has cases on both sides of the split ({' and '.join(sorted(seen[patient]))}).",
            "Put all cases of the patient on one side: what is trained on must not be tested on.",
        )


def _mixed(scans: Sequence[Scan]) -> Iterator[Problem]:
    """Report images that no one network takes: other numbers of axes or channels, colour and grey, CT and MR."""
    told = [
        ("error", "mixed-dimensions", {s.case: "volumes" if len(s.shape) == 3 else "pictures" for s in scans}),
        ("error", "mixed-channels", {s.case: f"images of {s.channels} channels" for s in scans}),
        ("warning", "mixed-colour", {s.case: "colour" if s.rgb else "grey" for s in scans if len(s.shape) == 2}),
        ("warning", "mixed-modality", {s.case: s.modality for s in scans if s.modality}),
        ("warning", "mixed-geometry", {s.case: "with spacing" if s.affine else "without spacing" for s in scans}),
    ]
    for severity, kind, values in told:
        counts = Counter(values.values()).most_common()
        if len(counts) > 1:
            fewest = sorted(case for case, value in values.items() if value == counts[-1][0])
            yield Problem(
                "error" if severity == "error" else "warning",
                kind,
                _some(fewest),
                "The pool mixes " + ", ".join(f"{count} {value}" for value, count in counts) + ".",
                "One network takes one kind. Make a study of each, or take the odd ones out of the table.",
            )


def _spacing_problems(scans: Sequence[Scan]) -> Iterator[Problem]:
    """Report when the spacing along an axis differs by more than a factor of 3 within the pool."""
    for axes in (2, 3):
        known = [(scan.case, scan.geometry.spacing) for scan in scans if scan.affine and len(scan.shape) == axes]
        for axis in range(axes):
            along = sorted((spacing[axis], case) for case, spacing in known if spacing)
            if along and along[-1][0] > 3 * along[0][0]:
                yield Problem(
                    "warning",
                    "mixed-spacing",
                    f"{along[0][1]}, {along[-1][1]}",
                    f"The voxels along {'zyx'[3 - axes + axis]} run from {along[0][0]:.3g} mm ({along[0][1]}) to "
                    f"{along[-1][0]:.3g} mm ({along[-1][1]}).",
                    "All are resampled to one spacing. Check that the extremes are the scans that you mean.",
                )


def _some(names: Sequence[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f", ... ({len(names)} in all)" if len(names) > limit else "")
