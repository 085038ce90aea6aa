"""Samples on the working grid: what encoders see of one, and what a learner is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from nextmask.data.cache import Cache
from nextmask.data.files import digest_json
from nextmask.data.images import read_mask
from nextmask.data.pool import IGNORE, Pool
from nextmask.data.proxy_masks import Proxy, proxy_mask
from nextmask.data.strokes import AS_DRAWN, Conclusions

PROXIES = 1
"""Part of every key of proxy masks; raised when the same rule would draw others."""

Load = Callable[[], tuple[np.ndarray, np.ndarray]]


class Labels:
    """The pool's samples, read from the cache one at a time."""

    def __init__(self, folder: Path, pool: Pool, cache: Cache, *, planar: bool):
        self.folder = folder
        self.pool = pool
        self.cache = cache
        self.planar = planar

    def image(self, row: int) -> np.ndarray:
        """Return a sample's working image: (channels, y, x) if planar, else (channels, z, y, x) of its region."""
        sample = self.pool.samples[row]
        image = self.cache.image(sample.case)
        return self._cut(image, row) if self.planar else image[(slice(None), *self.region(row))]

    def spacing(self, row: int) -> tuple[float, ...] | None:
        """Return the millimetres from voxel to voxel of a sample's working image; None where they are unknown."""
        spacing = self.cache.spacings[self.pool.samples[row].case]
        return spacing[-2:] if spacing and self.planar else spacing

    def typical_spacing(self, dimensions: int) -> tuple[float, ...] | None:
        """Return the median spacing of the pool's working images along their last axes; None if it is unknown of any."""
        known = [spacing for spacing in self.cache.spacings if spacing]
        if len(known) < len(self.pool.cases):
            return None
        return tuple(float(mm) for mm in np.median(known, axis=0)[-dimensions:])

    def samples(
        self, masks: Mapping[str, Path], *, dimensions: int | None = None, concluded: Conclusions = AS_DRAWN
    ) -> list[Load]:
        """Return functions that open the working images and masks that a network of so many axes is trained on.

        One for every annotated sample; a network of volumes gets all slices of a case that are annotated as one, and a network
        of slices every slice of a volume that has something annotated. ``concluded`` is what follows from masks that are strokes.
        """
        if dimensions == 3 and self.planar:
            of_cases = self._by_case(masks)
            return [partial(self._load_case, case, paths, concluded) for case, paths in sorted(of_cases.items())]
        whole: list[Load] = [
            partial(self._load, self.pool.row_of[name], path, concluded) for name, path in sorted(masks.items())
        ]
        if dimensions == 2 and not self.planar:
            return [partial(_slice_of, load, int(z)) for load in whole for z in np.flatnonzero(_annotated_slices(load))]
        return whole

    def images(self, dimensions: int | None = None) -> list[Callable[[], np.ndarray]]:
        """Return a function for every image of the pool that a network of so many axes takes: slices, or whole cases."""
        if self.planar and dimensions != 3:
            return [partial(self.image, row) for row in range(len(self.pool))]
        cases: list[Callable[[], np.ndarray]] = [
            partial(self.cache.image, case) for case in range(len(self.pool.cases))
        ]
        if dimensions == 2:
            return [
                partial(_plane_of, case, z)
                for case, shape in zip(cases, self.shapes(), strict=True)
                for z in range(shape[0])
            ]
        return cases

    def _by_case(self, masks: Mapping[str, Path]) -> dict[int, list[Path]]:
        found: dict[int, list[Path]] = {}
        for name, path in sorted(masks.items()):
            found.setdefault(self.pool.samples[self.pool.row_of[name]].case, []).append(path)
        return found

    def proxies(self, proxy: Proxy) -> list[Load]:
        """Return a function for every slice, or for every case, of the pool that opens its image and its proxy mask."""
        rows = range(len(self.pool)) if self.planar else [rows[0] for rows in self.pool.rows_of_case.values()]
        return [partial(self._with_proxy, int(row), proxy) for row in rows]

    def proxy(self, case: int, proxy: Proxy) -> np.ndarray:
        """Open the proxy mask of a case on the working grid, uint8; it is made on the image's own grid."""
        content = digest_json([PROXIES, proxy.name])
        return self.cache.mask(case, content, lambda: proxy_mask(self.cache.original(case), proxy))

    def shapes(self) -> list[tuple[int, ...]]:
        """Return the working shape of every case of the pool."""
        return [placement.working for placement in self.cache.placements]

    def _load(self, row: int, path: Path, concluded: Conclusions) -> tuple[np.ndarray, np.ndarray]:
        return self._pair(row, self._mask(self.pool.samples[row].case, [path], concluded))

    def _load_case(self, case: int, paths: Sequence[Path], concluded: Conclusions) -> tuple[np.ndarray, np.ndarray]:
        return self.cache.image(case), self._mask(case, paths, concluded)

    def _mask(self, case: int, paths: Sequence[Path], concluded: Conclusions) -> np.ndarray:
        """Open the masks of several samples of a case as one, on the working grid."""
        contents = [path.name.split(".")[0][-12:] for path in paths]
        content = contents[0] if len(paths) == 1 and not concluded else digest_json([concluded.key(), contents])
        return self.cache.mask(case, content, lambda: _read(paths, concluded, lambda: self.cache.original(case)))

    def _with_proxy(self, row: int, proxy: Proxy) -> tuple[np.ndarray, np.ndarray]:
        return self._pair(row, self.proxy(self.pool.samples[row].case, proxy))

    def _pair(self, row: int, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        image = self.cache.image(self.pool.samples[row].case)
        return (self._cut(image, row), self._cut(mask, row)) if self.planar else (image, mask)

    def _cut(self, array: np.ndarray, row: int) -> np.ndarray:
        """Take the slice of a planar sample; the slice axis is never cropped nor resampled."""
        if array.ndim == 2 or (array.ndim == 3 and len(self.pool.samples[row].region.start) == 2):
            return array
        return array[..., self.pool.samples[row].region.start[0], :, :]

    def region(self, row: int) -> tuple[slice, ...]:
        """Find a sample's region on the working grid."""
        sample = self.pool.samples[row]
        return self.cache.placements[sample.case].placed(sample.region.start, sample.region.stop)


def _read(paths: Sequence[Path], concluded: Conclusions, image: Callable[[], np.ndarray]) -> np.ndarray:
    """Read masks of one image as one: no two samples cover the same voxel."""
    whole: np.ndarray | None = None
    for path in paths:
        mask, geometry = read_mask(path)
        mask = concluded.drawn_from(mask, geometry.spacing, image)
        whole = mask if whole is None else np.where(mask == IGNORE, whole, mask)
    assert whole is not None  # nobody asks for the mask of no sample
    return whole


def _annotated_slices(load: Load) -> np.ndarray:
    """Say of every slice whether anything of it is annotated, bool (slices,); one slice is in memory at a time."""
    return np.array([bool((np.asarray(plane) != IGNORE).any()) for plane in load()[1]])


def _slice_of(load: Load, z: int) -> tuple[np.ndarray, np.ndarray]:
    image, mask = load()
    return image[:, z], mask[z]


def _plane_of(load: Callable[[], np.ndarray], z: int) -> np.ndarray:
    return load()[:, z]
