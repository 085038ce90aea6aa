"""Cases, samples and the pool; row i of every array is sample i of the pool, labeled or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Literal

import numpy as np

from nextmask.errors import DataError

IGNORE = 255
"""Mask value of a voxel that nobody annotated: never background, never trained on, never scored."""

Unit = Literal["whole", "slice", "box"]


@dataclass(frozen=True)
class Case:
    """One image as acquired, with its patient.

    ``images`` names one source a channel: a path, or ``folder::series-uid`` for one DICOM series of a folder.
    ``group`` is what a split is stratified by (a pathology, a site); ``split`` is "pool" or "test" where the table says so.
    """

    id: str
    images: tuple[str, ...]
    mask: str | None = None
    scribble: str | None = None
    patient: str = ""
    group: str = ""
    split: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.patient:
            object.__setattr__(self, "patient", self.id)


@dataclass(frozen=True)
class Region:
    """A part of an image, in voxels of the grid it was acquired on; axes as in arrays: (z, y, x) or (y, x)."""

    start: tuple[int, ...]
    stop: tuple[int, ...]

    @property
    def slices(self) -> tuple[slice, ...]:
        """Index an array's spatial axes with this region."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    @property
    def shape(self) -> tuple[int, ...]:
        """Count the voxels along each axis."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))


@dataclass(frozen=True)
class Sample:
    """One unit of annotation work: a case, a slice of it, or a box of it.

    ``case`` is the row of the case in ``Pool.cases``; ``position`` is the relative place along the slice axis, 0 to 1.
    """

    id: str
    case: int
    region: Region
    position: float


@dataclass(frozen=True)
class Pool:
    """All samples that may be queried, in a fixed order; it includes the labeled ones."""

    unit: Unit
    cases: tuple[Case, ...]
    samples: tuple[Sample, ...]

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Map a sample's id to its row."""
        return {sample.id: row for row, sample in enumerate(self.samples)}

    @cached_property
    def rows_of_case(self) -> dict[str, list[int]]:
        """Map a case's id to the rows of its samples."""
        rows: dict[str, list[int]] = {case.id: [] for case in self.cases}
        for row, sample in enumerate(self.samples):
            rows[self.cases[sample.case].id].append(row)
        return rows

    @cached_property
    def patient(self) -> np.ndarray:
        """Number the patient of every sample, (samples,) int."""
        names = np.array([self.cases[sample.case].patient for sample in self.samples])
        return np.unique(names, return_inverse=True)[1]

    @cached_property
    def volume(self) -> np.ndarray:
        """Number the case of every sample, (samples,) int."""
        return np.array([sample.case for sample in self.samples])

    @cached_property
    def bounds(self) -> np.ndarray:
        """First and last-plus-one voxel of every sample, (samples, 2 * axes) int; pictures have (y, x) only."""
        return np.array([(*sample.region.start, *sample.region.stop) for sample in self.samples])

    @cached_property
    def position(self) -> np.ndarray:
        """Relative place of every sample along its case's slice axis, (samples,) float in 0..1."""
        return np.array([sample.position for sample in self.samples])

    def overlapping(self, labeled: np.ndarray) -> np.ndarray:
        """Say which samples share a voxel with a labeled one, itself included; bool (samples,)."""
        first, last = np.split(self.bounds, 2, axis=1)
        shared = np.array(labeled)
        for row in np.flatnonzero(labeled).tolist():
            of_case = self.rows_of_case[self.case_of(row).id]
            shared[of_case] |= ((first[of_case] < last[row]) & (first[row] < last[of_case])).all(axis=1)
        return shared

    def case_of(self, row: int) -> Case:
        """Return the case that sample ``row`` belongs to."""
        return self.cases[self.samples[row].case]


def build_pool(
    cases: Sequence[Case],
    shapes: Sequence[tuple[int, ...]],
    unit: Unit,
    box: tuple[int, ...] | None = None,
    stride: tuple[int, ...] | None = None,
) -> Pool:
    """Cut cases of the given grid shapes, (z, y, x) or (y, x), into samples.

    Pictures have no slices: with ``unit="slice"`` a picture is one sample. Boxes tile the grid, or lie ``stride`` voxels
    apart (then they overlap, and a query must not); the last of a row is shifted inwards, so that all boxes have one
    size and none leaves the image.
    """
    if unit == "box" and box is None:
        raise DataError(
            "unit is 'box' but no box size is given. Expected voxels per axis, for example box = [32, 64, 64]."
        )
    samples: list[Sample] = []
    for row, (case, shape) in enumerate(zip(cases, shapes, strict=True)):
        samples.extend(_samples_of(case, row, shape, unit, box, stride or box))
    _refuse_repeated([sample.id for sample in samples])
    return Pool(unit, tuple(cases), tuple(samples))


def _samples_of(
    case: Case,
    row: int,
    shape: tuple[int, ...],
    unit: Unit,
    box: tuple[int, ...] | None,
    stride: tuple[int, ...] | None,
) -> Iterator[Sample]:
    whole = Region((0,) * len(shape), shape)
    if unit == "whole" or (unit == "slice" and len(shape) == 2):
        yield Sample(case.id, row, whole, 0.5)
    elif unit == "slice":
        for z in range(shape[0]):
            region = Region((z, 0, 0), (z + 1, *shape[1:]))
            yield Sample(f"{case.id}__z{z:04d}", row, region, (z + 0.5) / shape[0])
    else:
        assert box is not None
        assert stride is not None
        for start in product(*(_tiles(n, size, step) for n, size, step in zip(shape, box, stride, strict=True))):
            stop = tuple(min(a + size, n) for a, size, n in zip(start, box, shape, strict=True))
            name = "_".join(f"{a:04d}" for a in start)
            yield Sample(f"{case.id}__b{name}", row, Region(start, stop), (start[0] + stop[0]) / (2 * shape[0]))


def _tiles(length: int, size: int, step: int) -> list[int]:
    """Start positions of boxes of ``size``, ``step`` voxels apart, that cover ``length``."""
    if length <= size:
        return [0]
    return sorted({min(start, length - size) for start in range(0, length, step)})


def _refuse_repeated(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    repeated = sorted({name for name in ids if name in seen or seen.add(name)})  # type: ignore[func-returns-value]
    if repeated:
        raise DataError(
            f"{len(repeated)} sample names stand for more than one sample, first {repeated[0]!r}. "
            "Expected every case name once. Rename the cases in the table."
        )
