"""A cases.csv, a folder or a glob -> cases; what cannot be used or paired is reported, never passed over."""

from __future__ import annotations

import csv
import glob
import io
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from nextmask.data.dicom import NOT_IMAGES, is_dicom
from nextmask.data.images import SUFFIXES, series_in, suffix_of
from nextmask.data.pool import Case
from nextmask.data.scan import Problem
from nextmask.errors import DataError

_SPELLINGS = {
    "case": ("case", "case_id", "id"),
    "patient": ("patient", "patient_id", "subject"),
    "mask": ("mask",),
    "scribble": ("scribble",),
    "group": ("group",),
    "split": ("split",),
}
_SIDES = {
    **dict.fromkeys(("pool", "train", "training", "unlabeled", "unlabelled"), "pool"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_MASK_NAME = re.compile(
    r"[ ._-](masks?|seg|segmentations?|labels?|gt|ground[_-]?truth|annotations?|manual)$", re.IGNORECASE
)
_SCRIBBLE_NAME = re.compile(r"[ ._-]scribbles?$", re.IGNORECASE)
_IMAGE_NAME = re.compile(r"[ ._-](images?|img)$", re.IGNORECASE)
_CHANNEL_NAME = re.compile(r"^(.+)_(\d{4})$")
_MOST_CHANNELS = 8
_BAD_NAME = re.compile(r'[\\/:*?"<>|\x00-\x1f]|^\.')


@dataclass(frozen=True)
class Table:
    """Cases in a fixed order, and what was found wrong on the way to them."""

    cases: tuple[Case, ...]
    problems: tuple[Problem, ...]


def read_table(
    source: str | Path,
    *,
    masks: str | None = None,
    scribbles: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Table:
    """List the cases of a cases.csv, of a folder (with its subfolders), or of a glob.

    A table has the columns case, image (or one a channel: image_t1, image_t2) and, where there are any, mask, scribble,
    patient, group and split; ``columns`` says which of its columns plays a part where the names differ:
    ``{"patient": "scan_group", "mask": "vessels_obs1"}``. Paths are relative to the table. All else is kept in
    ``Case.columns``. Without a patient a case is its own.

    In a folder, a case is named after its file. ``masks`` and ``scribbles`` are folders (or globs) whose files pair by
    name, less endings such as _mask, _seg, _gt; masks beside the images pair too, if they have such an ending. Files
    that end in _0000, _0001, ... are channels of one case. A folder of DICOM files is one case a series.

    Raises:
        DataError: no image is there, or a column that was named is not.
    """
    if is_table(source):
        table = _from_csv(Path(source), columns or {})
        for what, folder in (("mask", masks), ("scribble", scribbles)):
            table = _paired(table, what, _pictures_in(folder), folder) if folder else table
        return table
    if columns:
        raise DataError(
            f"Columns are named ({', '.join(columns)}), but {source} is no table. Expected a .csv file with them. "
            "Leave the columns out, or name the table."
        )
    return _from_files(str(source), masks, scribbles)


def is_table(source: str | Path) -> bool:
    """Tell whether it is read as a table, by its name."""
    return suffix_of(source) in (".csv", ".tsv", ".txt")


# Tables ---------------------------------------------------------------------------------------------------------------


def _from_csv(path: Path, columns: Mapping[str, str]) -> Table:
    names, rows = _read_rows(path)
    parts = _parts(path, names, columns)
    problems: list[Problem] = []
    cases = []
    for number, row in rows:
        case, found = _case_of_row(path, number, row, parts)
        cases += [case] if case else []
        problems += found
    cases, repeated = _without_repeated(cases)
    problems += [*repeated, *_split_problems(path, rows, parts)]
    if not any(row[parts["patient"]] for _, row in rows if "patient" in parts):
        problems += _patient_problems(cases, path.name)
    if not cases:
        raise DataError(
            f"{path} lists no case that can be used ({len(rows)} rows; columns: {', '.join(names)}). "
            + (f"First problem: {problems[0].message} " if problems else "")
            + "Expected one row a case, with its image. Correct the table."
        )
    return Table(tuple(cases), tuple(problems))


def _read_rows(path: Path) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Read the column names, and the rows that hold anything with their line numbers."""
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=_delimiter(path))
    lines = [(reader.line_num, [cell.strip() for cell in line]) for line in reader]
    lines = [(number, line) for number, line in lines if any(line)]
    if not lines:
        raise DataError(f"{path} is empty. Expected a table with a line of column names. Save it again.")
    names = lines[0][1]
    while names and not names[-1]:
        names.pop()
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise DataError(f"{path} has the column {', '.join(twice)} twice. Expected each name once. Rename one.")
    for number, line in lines[1:]:
        if any(line[len(names) :]):
            raise DataError(
                f"{path}, line {number}: {len(line)} cells, but {len(names)} columns. Expected a cell a column. "
                "Put cells that hold the separator between quotation marks."
            )
    return names, [
        (number, dict.fromkeys(names, "") | dict(zip(names, line, strict=False))) for number, line in lines[1:]
    ]


def _text(path: Path) -> str:
    """Read a table as spreadsheets save it: UTF-8 with or without its mark, UTF-16, or the Windows code page."""
    if not path.is_file():
        raise DataError(f"{path} is not there. Expected a table of cases. Check the path.")
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _delimiter(path: Path) -> str:
    """Take the separator that the line of column names holds most of."""
    header = _text(path).lstrip().partition("\n")[0]
    return max((",", ";", "\t"), key=header.count)


def _parts(path: Path, names: Sequence[str], columns: Mapping[str, str]) -> dict[str, str]:
    """Say which column plays which part: {"case": "case_id", "image_flair": "image_flair", ...}."""
    for part, column in columns.items():
        if part not in _SPELLINGS and not _is_image(part):
            known = ", ".join([*_SPELLINGS, "image", "image_*"])
            raise DataError(f"{part!r} is no part of a table. Expected one of {known}. Correct the columns.")
        if column not in names:
            raise DataError(
                f"{path} has no column {column!r} (named for {part}). Expected one of {', '.join(names)}. "
                "Correct the columns."
            )
    parts = dict(columns)
    for part, spellings in _SPELLINGS.items():
        found = [name for name in names if name.lower() in spellings]
        if found and part not in parts:
            parts[part] = min(found, key=lambda name: spellings.index(name.lower()))
    if not any(_is_image(part) for part in parts):
        # Beside a column "image", one called image_id or image_width is none.
        only = [name for name in names if name.lower() == "image"]
        parts |= {name: name for name in only or names if _is_image(name)}
    if not any(_is_image(part) for part in parts):
        raise DataError(
            f"{path} has no column with images. Expected image, or image_* for several channels; it has "
            f'{", ".join(names)}. Say which one it is: columns = {{"image": "name of the column"}}.'
        )
    return parts


def _is_image(name: str) -> bool:
    return name.lower() == "image" or name.lower().startswith("image_")


def _case_of_row(
    path: Path, number: int, row: Mapping[str, str], parts: Mapping[str, str]
) -> tuple[Case | None, list[Problem]]:
    cell = {part: row[column] for part, column in parts.items()}
    images = [cell[part] for part in parts if _is_image(part)]
    where = f"{path.name}, line {number}"
    name = cell.get("case") or ("" if "case" in parts or not images[0] else stem_of(Path(images[0].replace("\\", "/"))))
    wrong = _row_problem(where, name, images)
    if wrong:
        return None, [wrong]
    folder = path.absolute().parent
    return Case(
        id=name,
        images=tuple(_located(folder, image) for image in images),
        mask=_located(folder, cell["mask"]) if cell.get("mask") else None,
        scribble=_located(folder, cell["scribble"]) if cell.get("scribble") else None,
        patient=cell.get("patient", ""),
        group=cell.get("group", ""),
        split=_SIDES.get(cell.get("split", "").lower(), ""),
        columns={column: value for column, value in row.items() if column not in parts.values()},
    ), []


def _row_problem(where: str, name: str, images: Sequence[str]) -> Problem | None:
    if not name:
        return Problem(
            "error", "no-case-name", where, "The row does not name its case.", "Give every case a name.", "image"
        )
    if _BAD_NAME.search(name):
        return Problem(
            "error",
            "bad-case-name",
            where,
            f"The case {name!r} cannot be the name of a file.",
            'Rename it without \\ / : * ? " < > | and without a dot at the start.',
            "image",
        )
    if not all(images):
        missing = "the image" if len(images) == 1 else f"{images.count('')} of {len(images)} channels"
        return Problem(
            "error",
            "no-image",
            where,
            f"The row of case {name} does not name {missing}.",
            "Fill the cell in, or take the row out.",
            "image",
        )
    return None


def _located(folder: Path, text: str) -> str:
    """Make a path of the table absolute; backslashes of a table that was written on Windows become slashes."""
    path, marker, uid = text.partition("::")
    return f"{folder / path.replace(chr(92), '/')}{marker}{uid}"


def _without_repeated(cases: Sequence[Case]) -> tuple[list[Case], list[Problem]]:
    """Leave out the cases of a name that more than one claims: nobody knows which is meant."""
    claims: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        claims[case.id].append(case)
    problems = [
        Problem(
            "error",
            "repeated-case",
            name,
            f"{len(claim)} images claim to be case {name}: {', '.join(case.images[0] for case in claim[:4])}.",
            "Give each case a name of its own. If one of the files is a mask, name the folder of masks; or list the "
            "cases in a cases.csv.",
            "image",
        )
        for name, claim in claims.items()
        if len(claim) > 1
    ]
    return [case for case in cases if len(claims[case.id]) == 1], problems


def _split_problems(
    path: Path, rows: Sequence[tuple[int, Mapping[str, str]]], parts: Mapping[str, str]
) -> Iterator[Problem]:
    values = Counter(row[parts["split"]] for _, row in rows) if "split" in parts else Counter()
    unknown = {value: count for value, count in values.items() if value and value.lower() not in _SIDES}
    if unknown:
        listed = ", ".join(f"{value!r} ({count} cases)" for value, count in sorted(unknown.items()))
        yield Problem(
            "warning",
            "unknown-split",
            path.name,
            f"The column {parts['split']!r} holds {listed}. Expected pool (or train, unlabeled), or test.",
            "Write pool or test for these cases, or leave the whole column empty to have the cases divided by patient.",
        )


def _patient_problems(cases: Sequence[Case], where: str) -> Iterator[Problem]:
    if len(cases) > 1:
        yield Problem(
            "warning",
            "no-patients",
            where,
            f"No patient is given for any of the {len(cases)} cases: each counts as a patient of its own.",
            "If a patient has several cases, list them in a cases.csv with a column patient: else what is trained on is "
            "tested on.",
        )


# Folders --------------------------------------------------------------------------------------------------------------


@dataclass
class _Found:
    """What lies in a folder: sources of images and of annotations by name, and problems."""

    images: list[Case] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    scribbles: list[Path] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def _from_files(source: str, masks: str | None, scribbles: str | None) -> Table:
    annotations = {file for folder in (masks, scribbles) if folder for file in _files(folder)}
    files = [file for file in _files(source) if file not in annotations]
    found = _sorted_out([file for file in files if suffix_of(file) in SUFFIXES and suffix_of(file) != ".dcm"], masks)
    for folder, members in _dicom_folders(files).items():
        cases, problems = _dicom_cases(folder, members)
        found.images += cases
        found.problems += problems
    cases, repeated = _without_repeated(sorted(found.images, key=lambda case: (case.id, case.images)))
    if not found.images:
        raise DataError(
            f"No image found in {source} ({len(files)} files looked at). Expected files that end in "
            f"{', '.join(SUFFIXES)}, or DICOM series. Check the path."
        )
    table = Table(tuple(cases), (*found.problems, *repeated))
    for what, place, beside in (("mask", masks, found.masks), ("scribble", scribbles, found.scribbles)):
        if place or beside:
            table = _paired(table, what, [*beside, *_pictures_in(place)], place or source)
    return replace(table, problems=(*table.problems, *_patient_problems(table.cases, source)))


def _files(source: str) -> list[Path]:
    """List the files below a folder or that a glob names, in order; hidden ones are left out."""
    path = Path(source)
    if path.is_dir():
        found = [file for file in path.rglob("*") if not any(p.startswith(".") for p in file.relative_to(path).parts)]
    elif path.is_file():
        found = [path]
    else:
        matches = [Path(match) for match in glob.glob(source, recursive=True)]  # noqa: PTH207 (absolute patterns)
        found = [file for match in matches for file in (_files(str(match)) if match.is_dir() else [match])]
        if not found:
            raise DataError(f"{source} names nothing. Expected a table, a folder, or a glob that fits. Check the path.")
    return sorted({file.absolute() for file in found if file.is_file()})


def _sorted_out(files: Sequence[Path], masks: str | None) -> _Found:
    """Tell images from the masks and scribbles that lie beside them, and join the channels of a case."""
    found = _Found(
        masks=[file for file in files if _MASK_NAME.search(stem_of(file))],
        scribbles=[file for file in files if _SCRIBBLE_NAME.search(stem_of(file))],
    )
    images = [file for file in files if file not in found.masks and file not in found.scribbles]
    found.images, found.problems = _joined_channels(
        images, {stem_of(file) for file in _files(masks)} if masks else set()
    )
    return found


def _image_keys(stem: str) -> list[str]:
    """Names under which an image's mask may be kept, the likeliest first."""
    keys = [stem, _IMAGE_NAME.sub("", stem)]
    channel = _CHANNEL_NAME.match(stem)
    return list(dict.fromkeys([*keys, *([channel[1]] if channel else [])]))


def _joined_channels(files: Sequence[Path], mask_names: set[str]) -> tuple[list[Case], list[Problem]]:
    """Make cases of files; names that end in _0000, _0001, ... are channels, unless a number looks like a count.

    Slices and frames are numbered like that too: numbers of 8 and more, no _0000 at all, or a mask for _0001 say so.
    """
    matches = {file: _CHANNEL_NAME.match(stem_of(file)) for file in files}
    numbered = [(file, match[1], int(match[2])) for file, match in matches.items() if match]
    are_channels = (
        any(number == 0 for _, _, number in numbered)
        and all(number < _MOST_CHANNELS for _, _, number in numbered)
        and not any(number > 0 and stem_of(file) in mask_names for file, _, number in numbered)
    )
    if not are_channels:
        return [Case(stem_of(file), (str(file),)) for file in files], []
    groups: dict[tuple[Path, str], dict[int, Path]] = defaultdict(dict)
    for file, base, number in numbered:
        groups[file.parent, base][number] = file
    expected = set(range(max(number for _, _, number in numbered) + 1))
    cases = [Case(stem_of(file), (str(file),)) for file, match in matches.items() if not match]
    problems = []
    for (_, base), channels in groups.items():
        if set(channels) == expected:
            cases.append(Case(base, tuple(str(channels[number]) for number in sorted(channels))))
        else:
            missing = ", ".join(f"{base}_{number:04d}" for number in sorted(expected - set(channels)))
            problems.append(
                Problem(
                    "error",
                    "missing-channel",
                    base,
                    f"The case has {len(channels)} of {len(expected)} channels; {missing} is not there.",
                    "Put the file there, or take the case out.",
                    "image",
                )
            )
    return cases, problems


def _dicom_folders(files: Sequence[Path]) -> dict[Path, list[Path]]:
    folders: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        if suffix_of(file) == ".dcm" or (suffix_of(file) not in SUFFIXES and is_dicom(file)):
            folders[file.parent].append(file)
    return folders


def _dicom_cases(folder: Path, files: Sequence[Path]) -> tuple[list[Case], list[Problem]]:
    """Make a case of each series; one that is a single file among others is named after it."""
    try:
        found = series_in(folder)
    except DataError as error:
        message, _, remedy = str(error).partition(" Expected ")
        return [], [Problem("error", "unreadable", str(folder), message, f"Expected {remedy}", "image")]
    series = [one for one in found if one.modality not in NOT_IMAGES]
    problems = []
    if len(series) < len(found):
        kinds = ", ".join(sorted({one.modality for one in found if one.modality in NOT_IMAGES}))
        problems.append(
            Problem(
                "warning",
                "not-an-image",
                str(folder),
                f"{len(found) - len(series)} DICOM objects are no images ({kinds}) and make no case.",
                "Nothing, unless they are masks: convert those to NIfTI or NRRD.",
            )
        )
    wanted = {str(file) for file in files}
    return [_dicom_case(folder, one.uid, one.files, len(found)) for one in series if wanted & set(one.files)], problems


def _dicom_case(folder: Path, uid: str, files: Sequence[str], count: int) -> Case:
    if count == 1:
        return Case(folder.name, (str(folder),))
    if len(files) == 1:
        return Case(stem_of(Path(files[0])), (files[0],))
    return Case(f"{folder.name}_{uid.rpartition('.')[2]}", (f"{folder}::{uid}",))


def stem_of(path: Path) -> str:
    """Return a file's name without the ending of its format; other dots in it stay."""
    suffix = suffix_of(path)
    return path.name[: -len(suffix)] if suffix in SUFFIXES else path.name


def find_masks(folder: str | Path) -> dict[str, Path]:
    """List the masks below a folder by name: of the file, and that less an ending such as _mask or _seg.

    Raises:
        DataError: two files have one name.
    """
    folder = Path(folder)
    found: dict[str, Path] = {}
    for file in _pictures_in(str(folder)):
        stem = stem_of(file)
        for name in {stem, _MASK_NAME.sub("", stem), _SCRIBBLE_NAME.sub("", stem)}:
            if name in found:
                raise DataError(
                    f"{found[name].name} and {file.name} in {folder} both claim to be the mask of {name}. Expected one. "
                    "Keep the one that is meant."
                )
            found[name] = folder / file.relative_to(folder.absolute())
    return found


# Pairing --------------------------------------------------------------------------------------------------------------


def _pictures_in(folder: str | None) -> list[Path]:
    return [file for file in _files(folder) if suffix_of(file) in SUFFIXES] if folder else []


def _paired(table: Table, what: str, files: Sequence[Path], folder: str) -> Table:
    """Give each case the mask (or scribble) of its name; report what has no partner or more than one."""
    pattern = _MASK_NAME if what == "mask" else _SCRIBBLE_NAME
    offered: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        offered[stem_of(file)].append(file)
        if pattern.search(stem_of(file)):
            offered[pattern.sub("", stem_of(file))].append(file)
    problems, taken, cases = list(table.problems), set(), []
    for case in table.cases:
        keys = [case.id, *_image_keys(stem_of(Path(case.images[0].partition("::")[0])))]
        partners = next((offered[key] for key in keys if key in offered), [])
        taken.update(partners)
        named = (case.mask if what == "mask" else case.scribble) is not None  # the table's own word counts
        if len(partners) > 1 and not named:
            problems.append(_two_partners(case, what, partners))
        cases.append(_annotated(case, what, str(partners[0])) if len(partners) == 1 and not named else case)
    problems += _unpaired(cases, what, [file for file in files if file not in taken], folder)
    return Table(tuple(cases), tuple(problems))


def _annotated(case: Case, what: str, path: str) -> Case:
    return replace(case, mask=path) if what == "mask" else replace(case, scribble=path)


def _two_partners(case: Case, what: str, partners: Sequence[Path]) -> Problem:
    return Problem(
        "error",
        f"repeated-{what}",
        case.id,
        f"{len(partners)} files claim to be the {what} of case {case.id}: {', '.join(str(file) for file in partners[:4])}.",
        "Keep one of them, or say which it is in a cases.csv.",
        "mask" if what == "mask" else "scribble",
    )


def _unpaired(cases: Sequence[Case], what: str, left: Sequence[Path], folder: str) -> Iterator[Problem]:
    if left:
        yield Problem(
            "warning",
            f"{what}-without-image",
            folder,
            f"{len(left)} {what}s belong to no image: {_some([file.name for file in left])}.",
            "Rename them like their images, add the images, or list both in a cases.csv.",
        )
    without = [case.id for case in cases if (case.mask if what == "mask" else case.scribble) is None]
    if without:
        yield Problem(
            "warning",
            f"image-without-{what}",
            folder,
            f"{len(without)} of {len(cases)} images have no {what}: {_some(without)}.",
            "Nothing, if they are still to be annotated; else rename the masks like their images.",
        )


def _some(names: Sequence[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f", ... ({len(names)} in all)" if len(names) > limit else "")
