"""Masks drawn elsewhere: find the one of a sample, check it against the image's grid, store it on that grid."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from nextmask.data.files import atomically, digest, read_json_lines
from nextmask.data.images import Geometry, mask_suffix, read_mask, write_mask
from nextmask.data.pool import IGNORE, Case, Sample
from nextmask.data.table import find_masks, stem_of
from nextmask.errors import DataError, StudyError
from nextmask.study.rounds import StoredFile

DRAFTS = "drafts.jsonl"
"""Beside masks that a segmenter predicted: name and hash of each, by which it is known whether a person changed it since."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A mask, and the minutes that it took."""

    mask: np.ndarray
    minutes: float


class Annotator(Protocol):
    """Whoever draws: a folder of masks, or the oracle of a simulation.

    Returns a mask on the case's whole grid, or on the sample's region only, with its minutes where they are known; None
    where there is nothing for the sample.
    """

    def __call__(self, case: Case, sample: Sample) -> np.ndarray | Drawn | None: ...


@dataclass(frozen=True)
class AnnotationReport:
    """What became of the masks that were looked for: sample ids, and the reason for each that was refused.

    ``untouched``: of those missing, the ones that are there as `Study.predict` wrote them.
    ``outside``: of those stored, the share of what is drawn that lies beyond what networks see (`field_of_view`), if any does.
    """

    stored: tuple[str, ...]
    unchanged: tuple[str, ...]
    missing: tuple[str, ...]
    refused: Mapping[str, str]
    outside: Mapping[str, float]
    unused: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()


class MaskFolder:
    """Masks in a folder, named by sample or by case, in any format that images come in.

    A file named by case holds a mask of the whole image, of which the queried part is taken. Its grid must be the
    image's; where one of the two grids is unknown, the number of voxels along each axis must agree. A mask that is
    still as a segmenter predicted it was drawn by nobody, and counts as missing unless ``untouched`` ones are wanted too.
    """

    def __init__(
        self, folder: Path, geometries: Mapping[str, Geometry], codes: Mapping[int, int], *, untouched: bool = False
    ):
        if not folder.is_dir():
            raise StudyError(f"{folder} is no folder. Expected a folder of masks. Give the folder they were saved in.")
        self.folder = folder
        self.geometries = geometries
        self.codes = codes
        self.files = find_masks(folder)
        self.used: set[Path] = set()
        self.drafts = {} if untouched else _drafts(folder)
        self.untouched: list[str] = []

    def __call__(self, case: Case, sample: Sample) -> np.ndarray | None:
        path = self._file_of(case, sample)
        if path is None:
            return None
        self.used.add(path)
        if path in self.drafts and self.drafts[path] == digest(path):
            self.untouched.append(sample.id)
            return None
        mask, geometry = read_mask(path, self.codes)
        if mask.shape == sample.region.shape[-2:] and mask.ndim < len(sample.region.shape):
            return mask[np.newaxis]  # a picture of one slice has no geometry to compare
        self._refuse_other_grid(path, geometry, self.geometries[case.id])
        return mask

    def _file_of(self, case: Case, sample: Sample) -> Path | None:
        image = Path(case.images[0].partition("::")[0])
        for name in (sample.id, case.id, stem_of(image)):
            if name in self.files:
                return self.files[name]
        return None

    @staticmethod
    def _refuse_other_grid(path: Path, own: Geometry, image: Geometry) -> None:
        difference = image.differences(own)
        if difference:
            raise DataError(
                f"{path.name} lies on another grid than its image: {difference} "
                "Expected the image's own grid. Save the mask without resampling; nextmask never resamples a mask."
            )

    def unused(self) -> tuple[str, ...]:
        """Name the files that belong to no sample that was asked for."""
        return tuple(sorted(str(path.relative_to(self.folder)) for path in set(self.files.values()) - self.used))


def _drafts(folder: Path) -> dict[Path, str]:
    """Find what was predicted into a folder, or into one below it, with its hash."""
    logs = folder.rglob(DRAFTS)
    return {log.parent / line["file"]: line["sha256"] for log in logs for line in read_json_lines(log)}


def fit_to_case(mask: np.ndarray, sample: Sample, shape: tuple[int, ...], classes: int) -> np.ndarray:
    """Put a mask on its case's whole grid, with everything outside of the sample not annotated.

    Raises:
        DataError: the mask has another shape, or values that are no class.
    """
    full = np.full(shape, IGNORE, np.uint8)
    if mask.shape == shape:
        full[sample.region.slices] = mask[sample.region.slices]
    elif mask.shape == sample.region.shape:
        full[sample.region.slices] = mask
    else:
        raise DataError(
            f"the mask of {sample.id!r} has {mask.shape} voxels. Expected {shape} (the image) or {sample.region.shape} "
            "(the sample). Draw it on the image itself."
        )
    values = np.unique(full[full != IGNORE])
    wrong = [int(value) for value in values if value > classes]
    if wrong:
        raise DataError(
            f"the mask of {sample.id!r} has the values {wrong}. Expected 0 to {classes}, and {IGNORE} where nothing is "
            "annotated. Map other codes in study.toml, for example mask_codes = {255 = 1}."
        )
    return full


def count_drawn(mask: np.ndarray) -> int:
    """Count the voxels of all classes."""
    return int(np.count_nonzero((mask != 0) & (mask != IGNORE)))


def store_mask(folder: Path, full: np.ndarray, case: Case, sample: Sample) -> StoredFile:
    """Write a mask on its image's grid, atomically, under a name that its content decides."""
    content = hashlib.sha256(sample.id.encode() + full.tobytes()).hexdigest()[:12]
    name = f"{re.sub(r'[^A-Za-z0-9._-]', '_', sample.id)}-{content}{mask_suffix(case.images[0])}"
    path = folder / "masks" / name
    with atomically(path) as temporary:
        write_mask(temporary, full, case.images[0])
    return StoredFile(f"masks/{name}", digest(path))
