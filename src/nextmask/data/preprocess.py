"""Bring images to the working grid that networks see, and bring masks back to the grid that the image was acquired on.

What is done is derived once from the scans of the pool (`derive`), recorded, and invertible: crop to the field of view and
the constant border, resample, normalise the intensities. Networks pad and crop patches themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from scipy import sparse

from nextmask.data.pool import IGNORE
from nextmask.data.scan import Scan

Intensity = Literal["ct", "percentiles", "rgb"]

AXES = "zyx"
"""Names of axes in the order of arrays; pictures lack the first."""
CLIP_PERCENTILES = (0.5, 99.5)
CT_LIMITS = (-1000.0, 1000.0)
"""Hounsfield units beyond which no soft tissue, lung or trabecular bone lies; a wider window wastes contrast."""
ALIKE = 1.5
"""Grids whose longest sides differ by less than this factor are taken to have one scale where the spacing is unknown."""
WORTH_CROPPING = 0.75
"""Crop the constant border if the typical image keeps less than this share of its voxels."""


@dataclass(frozen=True)
class Preprocessing:
    """What is done to every image of a study; the same for pool and test.

    Exactly one of ``spacing`` (target mm per axis), ``zoom`` (working voxels per image voxel) and ``longest`` (voxels
    of the longest in-plane side of an image) says how the grid changes. A spacing of 0 and a zoom of 1 leave an axis as it is.
    ``field`` is the share of both in-plane axes, around the image's centre, that is kept.
    ``low``/``high``/``mean``/``std`` have one number a channel; "percentiles" takes them from each image instead.
    ``coordinates`` are axes along which one more channel each says where a voxel lies.
    """

    intensity: Intensity
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    spacing: tuple[float, ...] | None = None
    zoom: tuple[float, ...] | None = None
    longest: int | None = None
    crop: bool = False
    field: float | None = None
    coordinates: tuple[str, ...] = ()

    def to_json(self) -> dict:
        """Return plain types, for the ledger and for cache keys."""
        return {name: value for name, value in asdict(self).items() if value not in ((), None)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Preprocessing:
        """Rebuild from ``to_json``, also after a trip through JSON text."""
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        return cls(**plain)


@dataclass(frozen=True)
class Placement:
    """Where one image lies on its working grid: the box that is kept, and its shape after resampling."""

    full: tuple[int, ...]
    start: tuple[int, ...]
    stop: tuple[int, ...]
    working: tuple[int, ...]

    @property
    def box(self) -> tuple[slice, ...]:
        """Index the image's spatial axes with the part that is kept."""
        return tuple(slice(a, b) for a, b in zip(self.start, self.stop, strict=True))

    def placed(self, start: Sequence[int], stop: Sequence[int]) -> tuple[slice, ...]:
        """Find a box of the image, first voxels and last plus one, on the working grid; never less than a voxel there."""
        parts = []
        for a, b, origin, kept, working in zip(start, stop, self.start, self.kept, self.working, strict=True):
            first = int(np.clip(np.floor((a - origin) * working / kept), 0, working - 1))
            parts.append(slice(first, int(np.clip(np.ceil((b - origin) * working / kept), first + 1, working))))
        return tuple(parts)

    @property
    def kept(self) -> tuple[int, ...]:
        """Shape of the part that is kept, before resampling."""
        return tuple(b - a for a, b in zip(self.start, self.stop, strict=True))


def derive(
    scans: Sequence[Scan],
    *,
    planar: bool,
    limit: int,
    window: tuple[float, float] | None = None,
    field: float | None = None,
    coordinates: Sequence[str] = (),
) -> Preprocessing:
    """Derive the preprocessing from what was found in the images of the pool; no mask is used.

    Args:
        scans: one per case.
        planar: samples are slices or pictures; then the slice axis is neither cropped nor resampled.
        limit: the longest side, in voxels, that the typical working image should have; images are never enlarged
            beyond their median resolution.
        window: a CT window in Hounsfield units that replaces the derived one.
        field: the share of both in-plane axes, around the centre, that networks see; all if None.
        coordinates: axes along which networks are told where a voxel lies, of "z", "y" and "x".
    """
    grid = _derive_grid(scans, planar, limit, field)
    crop, intensity = _worth_cropping(scans, planar), _derive_intensity(scans, window)
    return replace(grid, **intensity, crop=crop, field=field, coordinates=tuple(coordinates))


def place(preprocessing: Preprocessing, scan: Scan, *, planar: bool) -> Placement:
    """Work out the box that is kept of one image and its working shape."""
    shape = scan.shape
    start, stop = scan.content_box if preprocessing.crop else ((0,) * len(shape), shape)
    if planar and len(shape) == 3:
        start, stop = (0, *start[1:]), (shape[0], *stop[1:])
    if preprocessing.field is not None:
        start, stop = _within_field(start, stop, shape, preprocessing.field)
    zoom = _zoom(preprocessing, scan)
    working = tuple(max(1, round((b - a) * z)) for a, b, z in zip(start, stop, zoom, strict=True))
    return Placement(tuple(shape), tuple(start), tuple(stop), working)


def _within_field(
    start: Sequence[int], stop: Sequence[int], shape: Sequence[int], field: float
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Cut a box to the central share of both in-plane axes; what lies wholly outside of that gives way to it."""
    start, stop = list(start), list(stop)
    for axis in (len(shape) - 2, len(shape) - 1):
        kept = max(1, round(shape[axis] * field))
        first = (shape[axis] - kept) // 2
        begin, end = max(start[axis], first), min(stop[axis], first + kept)
        start[axis], stop[axis] = (begin, end) if begin < end else (first, first + kept)
    return tuple(start), tuple(stop)


def to_working(image: np.ndarray, preprocessing: Preprocessing, placement: Placement) -> np.ndarray:
    """Crop, resample and normalise one image, (channels, *spatial) to (channels, *working) float16.

    Channels of coordinates follow those of the image (CoordConv: Liu et al. 2018, https://arxiv.org/abs/1807.03247).
    """
    coordinates = preprocessing.coordinates
    out = np.empty((len(image) + len(coordinates), *placement.working), np.float16)
    for channel, axis in enumerate(coordinates, start=len(image)):
        out[channel] = _coordinate(placement, AXES.index(axis) - len(AXES))
    for channel, plane in enumerate(image):
        values = resize(plane[placement.box].astype(np.float32), placement.working)
        low, high, mean, std = _channel_intensity(values, preprocessing, channel)
        np.clip(values, low, high, out=values)
        out[channel] = (values - mean) / std
    return out


def _coordinate(placement: Placement, axis: int) -> np.ndarray:
    """Say where each working voxel lies along an axis of the whole image: mean 0 and variance 1 over that, as intensities have."""
    working = placement.working[axis]
    position = placement.start[axis] + (np.arange(working) + 0.5) * placement.kept[axis] / working
    shape = [1] * len(placement.working)
    shape[axis] = working
    return (np.sqrt(3) * (2 * position / placement.full[axis] - 1)).reshape(shape)


def mask_to_working(mask: np.ndarray, placement: Placement) -> np.ndarray:
    """Bring a mask to the working grid, uint8: each voxel takes the value that covers most of its *annotated* part.

    So a thin scribble keeps its course on a coarser grid; a working voxel without any annotated part is not annotated.
    """
    part = mask[placement.box]
    if part.shape == placement.working:
        return np.ascontiguousarray(part)
    best = np.zeros(placement.working, np.float32)
    out = np.full(placement.working, IGNORE, np.uint8)
    for value in np.unique(part[part != IGNORE]):
        share = resize((part == value).astype(np.float32), placement.working, kernel="area")
        better = share > best + 1e-6
        out[better], best[better] = value, share[better]
    return out


def mask_to_image(probabilities: np.ndarray, placement: Placement) -> np.ndarray:
    """Bring (classes, *working) probabilities back and take the likeliest class, uint8 on the image's own grid.

    One class is resampled at a time, so that memory is bounded by two maps of the image. What was cropped away is
    background.
    """
    best = resize(np.array(probabilities[0], np.float32), placement.kept)  # a copy: what is handed in stays as it is
    label = np.zeros(placement.kept, np.uint8)
    for value in range(1, len(probabilities)):
        rival = resize(np.asarray(probabilities[value], np.float32), placement.kept)
        better = rival > best
        label[better] = value
        np.maximum(best, rival, out=best)
    out = np.zeros(placement.full, np.uint8)
    out[placement.box] = label
    return out


def resize(array: np.ndarray, shape: Sequence[int], *, kernel: Literal["linear", "area"] = "linear") -> np.ndarray:
    """Resample every axis of an array to ``shape``, voxel centres aligned as on a shared field of view.

    "linear" interpolates; where it shrinks, its kernel widens so that nothing is skipped (no aliasing). "area" takes
    the share of each input voxel that an output voxel covers.
    """
    for axis, (old, new) in sorted(
        enumerate(zip(array.shape, shape, strict=True)), key=lambda item: item[1][1] / item[1][0]
    ):
        if old != new:
            weights = _linear_weights(old, new) if kernel == "linear" else _area_weights(old, new)
            moved = np.moveaxis(array, axis, 0)
            out = weights @ moved.reshape(old, -1)
            array = np.moveaxis(out.reshape(new, *moved.shape[1:]), 0, axis)
    return np.ascontiguousarray(array)


def _linear_weights(old: int, new: int) -> sparse.csr_array:
    """Weights (new, old) of triangle interpolation, as wide as the coarser of the two grids."""
    reach = max(1.0, old / new)
    centre = (np.arange(new) + 0.5) * old / new - 0.5
    offset = np.arange(-int(np.ceil(reach)), int(np.ceil(reach)) + 1)
    column = np.rint(centre)[:, None].astype(int) + offset
    weight = np.maximum(0.0, 1 - np.abs(column - centre[:, None]) / reach)
    return _normalised(weight, np.clip(column, 0, old - 1), new, old)


def _area_weights(old: int, new: int) -> sparse.csr_array:
    """Weights (new, old): the overlap of each output voxel with each input voxel."""
    edge = np.arange(new + 1) * old / new
    column = np.floor(edge[:-1])[:, None].astype(int) + np.arange(int(np.ceil(old / new)) + 1)
    weight = np.minimum(column + 1, edge[1:, None]) - np.maximum(column, edge[:-1, None])
    return _normalised(np.maximum(weight, 0.0), np.clip(column, 0, old - 1), new, old)


def _normalised(weight: np.ndarray, column: np.ndarray, new: int, old: int) -> sparse.csr_array:
    weight = (weight / weight.sum(1, keepdims=True)).astype(np.float32)
    row = np.broadcast_to(np.arange(new)[:, None], column.shape)
    return sparse.csr_array((weight.ravel(), (row.ravel(), column.ravel())), shape=(new, old))


def _derive_grid(scans: Sequence[Scan], planar: bool, limit: int, field: float | None) -> Preprocessing:
    axes = range(len(scans[0].shape))
    seen = np.array([1.0] * (len(axes) - 2) + [field or 1.0] * 2)
    fixed = {0} if planar and len(axes) == 3 else set()
    if all(scan.geometry.spacing for scan in scans):
        target = _coarsen(
            _median([scan.geometry.spacing for scan in scans]), _median(_extents(scans)) * seen, limit, fixed
        )
        return Preprocessing("percentiles", spacing=tuple(0.0 if a in fixed else target[a] for a in axes))
    longest = np.array([max(n for a, n in enumerate(scan.shape) if a not in fixed) for scan in scans])
    if planar and longest.max() > ALIKE * longest.min():
        return Preprocessing("percentiles", longest=min(round(limit / seen[-1]), int(np.median(longest))))
    coarse = _coarsen([1.0] * len(axes), _median([scan.shape for scan in scans]) * seen, limit, fixed)
    return Preprocessing("percentiles", zoom=tuple(1.0 if a in fixed else 1 / coarse[a] for a in axes))


def _extents(scans: Sequence[Scan]) -> list[tuple[float, ...]]:
    return [tuple(n * s for n, s in zip(scan.shape, scan.geometry.spacing or (), strict=True)) for scan in scans]


def _coarsen(spacing: Sequence[float] | np.ndarray, extent: np.ndarray, limit: int, fixed: set[int]) -> list[float]:
    """Coarsen the finest axes until no axis of a typical image is longer than ``limit`` voxels.

    The finest axes go first, so that thick slices keep their thickness until the plane is as coarse as they are.
    """
    free = [axis for axis in range(len(spacing)) if axis not in fixed]
    spacing = [float(mm) for mm in spacing]
    floor = max(extent[axis] / limit for axis in free)
    for axis in free:
        # A hair of tolerance: float32 headers must not turn "as it is" into a resampling by one part in a million.
        if spacing[axis] < floor * (1 - 1e-6):
            spacing[axis] = float(floor)
    return spacing


def _median(rows: Sequence[Sequence[float] | None]) -> np.ndarray:
    return np.asarray(np.median(np.array(rows, float), axis=0))


def _derive_intensity(scans: Sequence[Scan], window: tuple[float, float] | None) -> dict:
    mean = np.mean([scan.mean for scan in scans], axis=0)
    std = np.sqrt(np.mean([np.square(scan.std) + np.square(np.array(scan.mean) - mean) for scan in scans], axis=0))
    common = {"mean": tuple(map(float, mean)), "std": tuple(map(float, np.maximum(std, 1e-6)))}
    if all(scan.rgb for scan in scans):
        return {"intensity": "rgb", "low": (0.0,) * len(mean), "high": (255.0,) * len(mean), **common}
    if window is not None or all(_is_ct(scan) for scan in scans):
        low, high = window or _ct_window(scans)
        centre, spread = (low + high) / 2, (high - low) / 4
        channels = len(mean)
        return {"intensity": "ct", "low": (low,) * channels, "high": (high,) * channels} | {
            "mean": (centre,) * channels,
            "std": (spread,) * channels,
        }
    return {"intensity": "percentiles"}


def _is_ct(scan: Scan) -> bool:
    """Say whether intensities are Hounsfield units: by the header, or air near -1000 together with bone."""
    if scan.modality:
        return scan.modality == "CT"
    return -1100 <= scan.percentiles[0][0] <= -900 and scan.maximum[0] > 200


def _ct_window(scans: Sequence[Scan]) -> tuple[float, float]:
    low = float(np.median([scan.percentiles[0][0] for scan in scans]))
    high = float(np.median([scan.percentiles[0][-1] for scan in scans]))
    return max(CT_LIMITS[0], low), min(CT_LIMITS[1], max(high, low + 1))


def _worth_cropping(scans: Sequence[Scan], planar: bool) -> bool:
    def kept(scan: Scan) -> float:
        start, stop = scan.content_box
        first = 1 if planar and len(scan.shape) == 3 else 0
        return float(np.prod([(b - a) / n for a, b, n in zip(start, stop, scan.shape, strict=True)][first:]))

    return bool(np.median([kept(scan) for scan in scans]) < WORTH_CROPPING)


def _zoom(preprocessing: Preprocessing, scan: Scan) -> Sequence[float]:
    axes = len(scan.shape)
    if preprocessing.spacing is not None:
        spacing = scan.geometry.spacing or preprocessing.spacing
        return [own / goal if goal else 1.0 for own, goal in zip(spacing, preprocessing.spacing, strict=True)]
    if preprocessing.longest is not None:
        return [1.0] * (axes - 2) + [preprocessing.longest / max(scan.shape[-2:])] * 2
    return preprocessing.zoom or (1.0,) * axes


def _channel_intensity(
    values: np.ndarray, preprocessing: Preprocessing, channel: int
) -> tuple[float, float, float, float]:
    """Return (low, high, mean, std) of one channel; of this image where the intensity scale is arbitrary (MR)."""
    if preprocessing.intensity != "percentiles":
        p = preprocessing
        return p.low[channel], p.high[channel], p.mean[channel], p.std[channel]
    sample = values.ravel()[:: max(1, values.size // 2_000_000)]
    low, high = np.percentile(sample, CLIP_PERCENTILES)
    if high <= low:  # nearly constant, for example a few bright voxels on zeros
        low, high = float(sample.min()), float(values.max())
    clipped = np.clip(sample, low, high)
    return float(low), float(high), float(clipped.mean()), float(max(clipped.std(), 1e-6))
