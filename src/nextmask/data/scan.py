"""The scan of a case: read its files once, note what they hold, and name all that is wrong with them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nextmask.data.images import (
    Geometry,
    Image,
    map_codes,
    read_image,
    read_labels,
    stack_channels,
    suffix_of,
)
from nextmask.data.pool import IGNORE, Case
from nextmask.errors import DataError

PERCENTILES = (0.5, 1.0, 50.0, 99.0, 99.5)
"""The percentiles that a scan holds of every channel, in this order."""

_SAMPLE = 4_000_000
"""Percentiles of larger channels are taken of an even subsample of about this many voxels."""

Spoils = Literal["image", "mask", "scribble", "none"]


@dataclass(frozen=True)
class Problem:
    """Something wrong with a case, a table or the pool, and what to do about it.

    ``severity`` "error": what ``spoils`` names cannot be used (the mask may be unusable while the image is fine).
    """

    severity: Literal["error", "warning"]
    kind: str
    where: str
    message: str
    remedy: str
    spoils: Spoils = "none"


@dataclass(frozen=True)
class Scan:
    """All that one reading of a case's files found; statistics are per channel and of finite values only.

    ``pixels`` is a hash of shape and values: equal in different files and types of number where the values are equal.
    ``content_box`` (start, stop) holds every voxel that differs from the value of the image's rim.
    ``percentiles`` follow ``PERCENTILES``. The values of masks are counted after their codes are mapped.
    """

    case: str
    fingerprint: str
    shape: tuple[int, ...] = ()
    affine: tuple[tuple[float, ...], ...] | None = None
    channels: int = 0
    dtype: str = ""
    modality: str = ""
    rgb: bool = False
    minimum: tuple[float, ...] = ()
    maximum: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    percentiles: tuple[tuple[float, ...], ...] = ()
    fraction_at_minimum: tuple[float, ...] = ()
    pixels: str = ""
    content_box: tuple[tuple[int, ...], tuple[int, ...]] = ((), ())
    mask_values: Mapping[int, int] | None = None
    scribble_values: Mapping[int, int] | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def geometry(self) -> Geometry:
        """Return the image's grid."""
        return Geometry(self.shape, self.affine)

    def spoiled(self, what: Spoils) -> bool:
        """Tell whether the image, mask or scribble cannot be used; without its image nothing of a case can."""
        return any(p.severity == "error" and p.spoils in ("image", what) for p in self.problems)

    def to_json(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and texts, ready for ``json.dumps``."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Scan:
        """Rebuild a scan from ``to_json``, also after a trip through JSON text."""
        fields = {name: _tuples(value) for name, value in data.items()}
        for name in ("mask_values", "scribble_values"):
            if data[name] is not None:
                fields[name] = {int(value): int(count) for value, count in data[name].items()}
        fields["problems"] = tuple(Problem(**problem) for problem in data["problems"])
        return cls(**fields)


def fingerprint(case: Case) -> str:
    """Hash a case's name and the paths, sizes and times of change of its files: the same, and no new scan is needed.

    It says nothing of the classes and codes that a scan was made with.
    """
    sources = [*case.images, case.mask or "", case.scribble or ""]
    stamps = [case.id, *([source, *_stamps(source)] for source in sources)]
    return hashlib.sha256(json.dumps(stamps).encode()).hexdigest()


def scan_case(
    case: Case,
    classes: int,
    mask_codes: Mapping[int, int] | None = None,
    scribble_codes: Mapping[int, int] | None = None,
) -> Scan:
    """Read all files of a case and report what they hold and what is wrong with them; a bad file never raises.

    ``classes`` counts the classes without background. Memory is bounded by one case.
    """
    scan = Scan(case.id, fingerprint(case))
    image, problems = _read_images(case)
    if image is None:
        return replace(scan, problems=tuple(problems))
    scan = _measured(scan, image)
    problems += [*_value_problems(case, image), *_geometry_problems(case, image.geometry)]
    del image
    mask, found = _read_annotation(case, "mask", case.mask, mask_codes or {}, scan.geometry, classes)
    scribble, more = _read_annotation(case, "scribble", case.scribble, scribble_codes or {}, scan.geometry, classes)
    problems += [*found, *more, *_contradictions(case, mask, scribble)]
    return replace(scan, mask_values=_counts(mask), scribble_values=_counts(scribble), problems=tuple(problems))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value


def _stamps(source: str) -> list[tuple[str, int, int]]:
    path = Path(source.partition("::")[0])
    files = sorted(path.iterdir()) if source and path.is_dir() else [path]
    stats = [(file.name, file.stat()) for file in files if file.is_file()]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _of_error(
    severity: Literal["error", "warning"], kind: str, where: str, error: DataError, spoils: Spoils
) -> Problem:
    """Take a message in three parts apart: what is wrong; what was expected and what to do."""
    message, _, remedy = str(error).partition(" Expected ")
    return Problem(severity, kind, where, message, f"Expected {remedy}" if remedy else "", spoils)


# The image ------------------------------------------------------------------------------------------------------------


def _read_images(case: Case) -> tuple[Image | None, list[Problem]]:
    images, problems = [], []
    for source in case.images:
        try:
            images.append(read_image(source))
        except DataError as error:
            kind = "empty" if _is_empty(source) else "unreadable"
            problems.append(_of_error("error", kind, case.id, error, "image"))
    if problems:
        return None, problems
    try:
        return stack_channels(case.images, images), []
    except DataError as error:
        return None, [_of_error("error", "channel-grids", case.id, error, "image")]


def _is_empty(source: str) -> bool:
    path = Path(source.partition("::")[0])
    return path.is_file() and path.stat().st_size == 0


def _measured(scan: Scan, image: Image) -> Scan:
    statistics = [_statistics(channel) for channel in image.array]
    by_channel: dict[str, Any] = {name: tuple(one[name] for one in statistics) for name in statistics[0]}
    return replace(
        scan,
        shape=image.geometry.shape,
        affine=image.geometry.affine,
        channels=len(image.array),
        dtype=str(image.array.dtype),
        modality=image.modality,
        rgb=image.rgb,
        **by_channel,
        pixels=hash_pixels(image.array),
        content_box=_content_box(image.array),
    )


def _statistics(channel: np.ndarray) -> dict[str, Any]:
    finite = _finite(channel)
    mean, std = _moments(finite)
    low = finite.min()
    return {
        "minimum": float(low),
        "maximum": float(finite.max()),
        "mean": mean,
        "std": std,
        "percentiles": tuple(float(value) for value in np.percentile(_subsample(finite), PERCENTILES)),
        "fraction_at_minimum": float(np.count_nonzero(finite == low) / finite.size),
    }


def _finite(channel: np.ndarray) -> np.ndarray:
    """Leave NaN and infinities out; a channel of nothing else counts as one 0."""
    if channel.dtype.kind != "f" or np.isfinite(channel).all():
        return channel
    finite = channel[np.isfinite(channel)]
    return finite if finite.size else np.zeros(1, channel.dtype)


def _moments(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation in double precision, a slab at a time, so that no double copy of a volume is made."""
    total = sum(float(slab.sum(dtype=np.float64)) for slab in _slabs(values))
    mean = total / values.size
    squares = sum(float(np.square(slab - mean, dtype=np.float64).sum()) for slab in _slabs(values))
    return mean, math.sqrt(squares / values.size)


def _slabs(values: np.ndarray) -> Iterator[np.ndarray]:
    flat = values.reshape(-1)
    return (flat[start : start + 1_000_000] for start in range(0, flat.size, 1_000_000))


def _subsample(values: np.ndarray) -> np.ndarray:
    """Take every n-th value, n without a common factor with the rows' length: else only some columns would be seen."""
    step = math.ceil(values.size / _SAMPLE)
    while step > 1 and math.gcd(step, values.shape[-1]) > 1:
        step += 1
    return values.reshape(-1)[::step]


def hash_pixels(array: np.ndarray) -> str:
    """Hash shape and values as float32, in which integers up to 16 million are exact; adding 0 makes -0 into 0."""
    digest = hashlib.sha256(repr(array.shape).encode())
    for slab in _slabs(array):
        digest.update((slab.astype(np.float32) + np.float32(0)).data)
    return digest.hexdigest()


def _content_box(array: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Find the smallest box of all voxels that differ, in any channel, from its rim: the value of all corners, if one."""
    shape = array.shape[1:]
    occupied = [np.zeros(n, bool) for n in shape]
    for channel in array:
        corners = {channel[corner].item() for corner in product(*((0, -1) for _ in shape))}
        rim = corners.pop() if len(corners) == 1 else channel.min()
        for index, plane in enumerate(channel):
            inside = plane != rim
            occupied[0][index] |= inside.any()
            for axis in range(1, len(shape)):
                others = tuple(other for other in range(inside.ndim) if other != axis - 1)
                occupied[axis] |= inside.any(axis=others)
    if not all(axis.any() for axis in occupied):
        return (0,) * len(shape), tuple(shape)
    found = [np.flatnonzero(axis) for axis in occupied]
    return tuple(int(at[0]) for at in found), tuple(int(at[-1]) + 1 for at in found)


def _value_problems(case: Case, image: Image) -> Iterator[Problem]:
    array = image.array
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        counts = {"NaN": np.isnan(array).sum(), "+inf": np.isposinf(array).sum(), "-inf": np.isneginf(array).sum()}
        listed = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        yield Problem(
            "error",
            "not-finite",
            case.id,
            f"The image holds values that are no numbers: {listed} of {array.size} voxels.",
            "Replace them in the file by what is meant there (often 0), or take the case out of the table.",
            "image",
        )
    constant = [number for number, channel in enumerate(array) if channel.min() == channel.max()]
    if len(constant) == len(array):
        yield Problem(
            "error",
            "constant",
            case.id,
            f"Every voxel of the image has the same value, {array.flat[0]:g}.",
            "Export the image again, or take the case out of the table.",
            "image",
        )
    elif constant:
        yield Problem(
            "warning",
            "constant-channel",
            case.id,
            f"Every voxel of channel {', '.join(str(number) for number in constant)} has the same value.",
            "Check whether this sequence was acquired; a network learns nothing from it.",
        )


def _geometry_problems(case: Case, geometry: Geometry) -> Iterator[Problem]:
    if geometry.affine is None:
        yield Problem(
            "warning",
            "geometry-unknown",
            case.id,
            f"The file does not say where its voxels lie: {geometry}.",
            "No distance in mm is given for this case, and it is not resampled. If the spacing is known, write it into "
            "the file.",
        )


# Masks and scribbles --------------------------------------------------------------------------------------------------


def _read_annotation(
    case: Case,
    what: Literal["mask", "scribble"],
    source: str | None,
    codes: Mapping[int, int],
    grid: Geometry,
    classes: int,
) -> tuple[np.ndarray | None, list[Problem]]:
    """Read a mask or scribble; None, and why, where it cannot be used."""
    if source is None:
        return None, []
    try:
        labels, geometry = read_labels(source)
    except DataError as error:
        kind = "empty" if _is_empty(source) else "unreadable"
        return None, [_of_error("error", f"{what}-{kind}", case.id, error, what)]
    mapped = map_codes(labels, codes)
    difference = grid.differences(geometry)
    problems = [] if difference is None else [_grid_problem(case.id, what, difference)]
    counts = _counts(mapped) or {}
    unknown = {value: count for value, count in counts.items() if not (0 <= value <= classes or value == IGNORE)}
    if unknown:
        problems.append(_label_problem(case.id, what, source, unknown, counts, classes))
    elif what == "mask" and set(counts) == {0, IGNORE} and not {IGNORE} & {*codes, *codes.values()}:
        problems.append(_white_problem(case.id, counts, classes))
    if problems:
        return None, problems
    return mapped.astype(np.uint8), list(_content_problems(case.id, what, counts))


def _counts(labels: np.ndarray | None) -> dict[int, int] | None:
    if labels is None:
        return None
    if labels.dtype == np.uint8:
        # bincount makes eight bytes of every voxel: a slab at a time
        counts = sum((np.bincount(slab, minlength=256) for slab in _slabs(labels)), np.zeros(256, int))
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    values, numbers = np.unique(labels, return_counts=True)
    return {int(value): int(number) for value, number in zip(values, numbers, strict=True)}


def _grid_problem(where: str, what: Spoils, difference: str) -> Problem:
    return Problem(
        "error",
        f"{what}-grid",
        where,
        f"The {what} lies on another grid than the image: {difference}.",
        f"Bring the {what} onto the image's grid, with nearest-neighbour interpolation, or pair it with the right image.",
        what,
    )


def _label_problem(
    where: str, what: Spoils, source: str, unknown: Mapping[int, int], counts: Mapping[int, int], classes: int
) -> Problem:
    listed = ", ".join(f"{value} ({count} voxels)" for value, count in list(unknown.items())[:8])
    more = f", ... {len(unknown)} values in all" if len(unknown) > 8 else ""
    return Problem(
        "error",
        f"{what}-values",
        where,
        f"The {what} holds values that are no class: {listed}{more}. Expected 0 to {classes}, or 255 for not annotated.",
        _label_remedy(what, source, unknown, counts, classes),
        what,
    )


def _label_remedy(
    what: Spoils, source: str, unknown: Mapping[int, int], counts: Mapping[int, int], classes: int
) -> str:
    if suffix_of(source) in (".jpg", ".jpeg"):
        return "JPEG changes the values of a mask and cannot be undone. Export the mask again as PNG or NIfTI."
    if len(unknown) == 1:
        (value,) = unknown
        if what == "scribble" and value == max(counts, key=lambda label: counts[label]):
            return f"If {value} means not annotated, say so: --scribble-code {value}=ignore, or scribble_codes in study.toml."
        if classes == 1 and set(counts) <= {0, value}:
            return f"If {value} means the class, say so: --{what}-code {value}=1, or {what}_codes in study.toml."
    return f"Correct the list of classes, or say which class each value stands for with the {what} codes."


def _white_problem(where: str, counts: Mapping[int, int], classes: int) -> Problem:
    """Report a mask painted black and white: its 255 would be taken for voxels that nobody annotated."""
    meaning = "1" if classes == 1 else "CLASS"
    return Problem(
        "error",
        "mask-white",
        where,
        f"The mask holds 0 ({counts[0]} voxels) and 255 ({counts[IGNORE]} voxels), and 255 stands for not annotated.",
        f"If 255 is a class, say so: --mask-code 255={meaning}. If it does mean not annotated: --mask-code 255=ignore. "
        "(mask_codes in study.toml.)",
        "mask",
    )


def _content_problems(where: str, what: Spoils, counts: Mapping[int, int]) -> Iterator[Problem]:
    if set(counts) <= {IGNORE}:
        yield Problem(
            "warning",
            f"{what}-nothing",
            where,
            f"No voxel of the {what} is annotated: all are 255.",
            "Annotate it, or take it out of the table.",
        )
    elif what == "mask" and set(counts) <= {0, IGNORE}:
        yield Problem(
            "warning",
            "mask-no-foreground",
            where,
            "The mask holds background only.",
            "Check that nothing is to be seen in this image; then it may stay.",
        )
    elif what == "scribble" and IGNORE not in counts:
        yield Problem(
            "warning",
            "scribble-dense",
            where,
            "Every voxel of the scribble counts as annotated, those with 0 as background that someone drew.",
            "If a value means not annotated, map it to 255 with the scribble codes, for example {0: 255}.",
        )


def _contradictions(case: Case, mask: np.ndarray | None, scribble: np.ndarray | None) -> Iterator[Problem]:
    if mask is None or scribble is None:
        return
    wrong = np.count_nonzero((mask != scribble) & (mask != IGNORE) & (scribble != IGNORE))
    if wrong:
        drawn = np.count_nonzero(scribble != IGNORE)
        yield Problem(
            "warning",
            "scribble-contradicts",
            case.id,
            f"{wrong} of the {drawn} voxels of the scribble have another class in the mask.",
            "Correct one of the two if the number is large; a few voxels at borders do no harm.",
        )
