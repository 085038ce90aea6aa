"""Samples on the working grid: what encoders see of one, and what a learner is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from nextmask.data.cache import Cache
from nextmask.data.far_background import with_far_background
from nextmask.data.files import digest_json
from nextmask.data.images import read_mask
from nextmask.data.pool import Pool
from nextmask.data.proxy_masks import Proxy, proxy_mask

PROXIES = 1
"""Part of every key of proxy masks; raised when the same rule would draw others."""
FAR = 1
"""Part of every key of scribbles with their far background; raised when that would be another."""

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

    def samples(self, masks: Mapping[str, Path], *, far: bool = False) -> list[Load]:
        """Return for every annotated sample a function that opens its working image and mask.

        With ``far``, masks are scribbles, and the far side of their slices is background (`with_far_background`).
        """
        return [partial(self._load, self.pool.row_of[name], path, far) for name, path in sorted(masks.items())]

    def images(self) -> list[Callable[[], np.ndarray]]:
        """Return a function for every slice, or for every case, of the pool that opens its image."""
        if self.planar:
            return [partial(self.image, row) for row in range(len(self.pool))]
        return [partial(self.cache.image, case) for case in range(len(self.pool.cases))]

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

    def _load(self, row: int, path: Path, far: bool) -> tuple[np.ndarray, np.ndarray]:
        case = self.pool.samples[row].case
        content = path.name.split(".")[0][-12:]
        if far:
            content = digest_json([FAR, content])
        return self._pair(row, self.cache.mask(case, content, lambda: _read(path, far)))

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


def _read(path: Path, far: bool) -> np.ndarray:
    mask, geometry = read_mask(path)
    return with_far_background(mask, geometry.spacing) if far else mask
