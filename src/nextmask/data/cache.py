"""Preprocessed images and masks on disk, memory-mapped and keyed by content; memory is bounded by one case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

import numpy as np

from nextmask.data.files import Progress, atomically, digest_json, discard_temporaries
from nextmask.data.images import read_channels
from nextmask.data.pool import Case
from nextmask.data.preprocess import Placement, Preprocessing, mask_to_working, place, to_working
from nextmask.data.scan import Scan, hash_pixels
from nextmask.errors import DataError

VERSION = 1
"""Part of every key; raised when the same settings would give other voxels."""

_HEAD = Lock()
"""Held while the head of a file is read: NumPy parses it as Python, which two threads of Python 3.11 at once may break
with "AST constructor recursion depth mismatch" (https://github.com/python/cpython/issues/106905)."""


class Cache:
    """Working-grid images of a list of cases, a file each; made when first asked for, shared between studies.

    The key of a file is the content of the image and all that preprocessing does to it, so a folder may serve many
    studies and may be deleted at any time. Memory maps are opened for each access: pages of a map that stays open
    count as resident, and a pool is larger than memory.
    """

    def __init__(
        self, folder: Path, cases: Sequence[Case], scans: Sequence[Scan], preprocessing: Preprocessing, *, planar: bool
    ):
        self.folder = folder
        self.cases = tuple(cases)
        self.preprocessing = preprocessing
        self.placements = tuple(place(preprocessing, scan, planar=planar) for scan in scans)
        self.spacings = tuple(_spacing(scan, where) for scan, where in zip(scans, self.placements, strict=True))
        self._pixels = tuple(scan.pixels for scan in scans)
        self.keys = tuple(self._key(scan, where) for scan, where in zip(scans, self.placements, strict=True))

    def _key(self, scan: Scan, placement: Placement) -> str:
        what = [VERSION, scan.pixels, self.preprocessing.to_json(), placement.start, placement.stop, placement.working]
        return digest_json(what)[:32]

    def image(self, case: int) -> np.ndarray:
        """Open the working image of a case, a read-only memory map (channels, *working) float16."""
        path = self.folder / "images" / f"{self.keys[case]}.npy"
        shape = self.placements[case].working
        found = _open(path, shape)
        if found is None:
            self._write(path, self._make_image(case))
            found = _open(path, shape)
        if found is None:
            raise DataError(
                f"the cache file {path.name} of case {self.cases[case].id!r} cannot be read back. Expected an array of "
                f"{shape} voxels. Check the disk (full? failing?) and delete the cache folder; it is made anew."
            )
        return found

    def mask(self, case: int, content: str, load: Callable[[], np.ndarray]) -> np.ndarray:
        """Open a mask of a case on the working grid, uint8; ``content`` is the hash of what ``load`` returns."""
        path = self.folder / "masks" / f"{self.keys[case]}-{content[:32]}.npy"
        shape = self.placements[case].working
        found = _open(path, shape)
        if found is None:
            made = mask_to_working(load(), self.placements[case])
            self._write(path, made)
            return made
        return found

    def build(self, progress: Progress | None = None, workers: int = 2) -> None:
        """Make every missing image; what is there already is kept, so an interrupted build goes on where it was."""
        discard_temporaries(self.folder / "images", older_than=3600.0)  # younger ones may belong to another process
        with ThreadPoolExecutor(workers) as threads:
            for done, _ in enumerate(threads.map(self._touch, range(len(self.cases))), start=1):
                if progress:
                    progress(done, len(self.cases))

    def _touch(self, case: int) -> None:
        self.image(case)

    def _make_image(self, case: int) -> np.ndarray:
        return to_working(self.original(case), self.preprocessing, self.placements[case])

    def original(self, case: int) -> np.ndarray:
        """Read the image of a case as it was acquired, (channels, *spatial).

        Raises DataError if its voxels are no longer what they were when the study was made.
        """
        image = read_channels(self.cases[case].images)
        if hash_pixels(image.array) != self._pixels[case]:
            raise DataError(
                f"the image of case {self.cases[case].id!r} changed since the study was created. Expected the same voxels. "
                "Put the original file back, or create a new study."
            )
        return image.array

    @staticmethod
    def _write(path: Path, array: np.ndarray) -> None:
        with atomically(path) as temporary:
            np.save(temporary, array)


def _open(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Map a cached array, or None where it is missing, cut short or of another shape."""
    try:
        with _HEAD:
            array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None
    return array if array.shape[-len(shape) :] == shape else None


def _spacing(scan: Scan, placement: Placement) -> tuple[float, ...] | None:
    """Millimetres from voxel to voxel of the working grid; None where the image does not say."""
    if scan.geometry.spacing is None:
        return None
    sides = zip(scan.geometry.spacing, placement.kept, placement.working, strict=True)
    return tuple(own * kept / working for own, kept, working in sides)
