"""Patients drawn by rules: what the demo and the tests run on where no real image may be shipped.

The anatomy is that of a heart in short axis, simplified: a bright *chamber* inside a darker ring, the *wall*, with a
bright crescent, the *lobe*, leaning on it. Everything else that one sees (chest wall, lung, liver, aorta, the atrium
beyond the base) is background of much the same brightness, so that grey values alone do not solve the task; slices near
both ends look unlike those in the middle, and scanners and rare variants differ, so that it matters which slices are
annotated.

Nothing here was fitted to, or taken from, a real image.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from nextmask.data.pool import IGNORE
from nextmask.errors import DataError

CLASSES = ("chamber", "wall", "lobe")
"""Names of classes 1, 2 and 3 of the masks of drawn patients; 0 is background."""

PHASES = ("ED", "ES")
"""The two phases of every drawn patient: widest and most contracted."""

VARIANTS: Mapping[str, float] = {
    "usual": 0.87,
    "mirrored": 0.0325,
    "no lobe": 0.0325,
    "large lobe": 0.0325,
    "bright lesion": 0.0325,
}
"""How often each variant of the anatomy is drawn."""


@dataclass(frozen=True)
class SyntheticScan:
    """One phase of one patient: ``image`` int16, ``mask`` and ``scribble`` uint8, all (z, y, x).

    ``scribble`` is 255 where nobody drew. ``spacing`` is in mm, in the order of the axes (z, y, x); ``affine`` takes a
    voxel's index (x, y, z) to mm (right, anterior, superior), as NIfTI has it.
    """

    id: str
    phase: str
    image: np.ndarray
    mask: np.ndarray
    scribble: np.ndarray
    spacing: tuple[float, float, float]
    affine: np.ndarray


@dataclass(frozen=True)
class SyntheticPatient:
    """One drawn patient: a scan for each phase, the scanner they come from and the variant of the anatomy."""

    id: str
    scanner: str
    variant: str
    phases: tuple[SyntheticScan, ...]


@dataclass(frozen=True)
class _Scanner:
    """How one machine renders tissue: lengths in mm (for 12 x 96 x 96 voxels), the rest relative to full brightness."""

    share: float
    pixel: float
    thickness: float
    blur: float
    noise: float
    bias: float
    gamma: float
    gain: float


_SCANNERS: Mapping[str, _Scanner] = {
    "north": _Scanner(0.40, pixel=1.50, thickness=8.0, blur=0.8, noise=0.035, bias=0.20, gamma=1.00, gain=900),
    "south": _Scanner(0.30, pixel=1.40, thickness=8.0, blur=1.0, noise=0.050, bias=0.35, gamma=0.85, gain=420),
    "east": _Scanner(0.20, pixel=1.65, thickness=10.0, blur=1.5, noise=0.045, bias=0.30, gamma=1.25, gain=1500),
    "west": _Scanner(0.10, pixel=1.30, thickness=9.0, blur=0.9, noise=0.085, bias=0.60, gamma=1.10, gain=250),
}


@dataclass(frozen=True)
class _Anatomy:
    """One patient's shape in mm and brightness in 0..1; heights are fractions of the stack, 0 below the apex.

    ``waves`` are the outlines' harmonics, (outlines, order, 2); ``shifts`` moves each slice, (z, 2), as breathing does.
    """

    centre: tuple[float, float]
    tilt: tuple[float, float]
    rotation: float
    apex: float
    base: float
    chamber: float
    thickness: float
    lobe: tuple[float, float]
    lobe_shift: float
    flatten: float
    waves: np.ndarray
    shifts: np.ndarray
    blood: float
    muscle: float
    liver: float
    fat: float
    organs: np.ndarray
    mirrored: bool
    lesion: tuple[float, float] | None
    texture: int


@dataclass(frozen=True)
class _Grid:
    """Coordinates that broadcast to (z, y, x): height 0..1, and mm from the middle of the field of view."""

    height: np.ndarray
    y: np.ndarray
    x: np.ndarray
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class _Part:
    """One painted thing: mm outside its outline (negative inside), brightness, and its class if it has one."""

    outside: np.ndarray
    brightness: float
    label: int | None = None


def draw_patient(
    seed: int | Sequence[int], number: int, *, shape: tuple[int, int, int] = (12, 96, 96)
) -> SyntheticPatient:
    """Draw patient ``number`` of ``seed`` in both phases on a grid of ``shape`` (z, y, x).

    The field of view in mm does not depend on ``shape``: a finer grid shows the same patient more finely.
    Patient 7 is the same however many others are drawn.

    Raises:
        DataError: a grid too coarse for the anatomy.

    >>> patient = draw_patient(0, 3)
    >>> [scan.id for scan in patient.phases], patient.phases[0].image.shape
    (['patient003_ED', 'patient003_ES'], (12, 96, 96))
    """
    if len(shape) != 3 or shape[0] < 6 or min(shape[1:]) < 32:
        raise DataError(
            f"shape is {tuple(shape)}. Expected (z, y, x) with at least 6 slices of 32 x 32 voxels, or classes vanish "
            "between voxels. Ask for a larger shape, for example (12, 96, 96)."
        )
    seeds = [*np.atleast_1d(seed).tolist(), number]
    rng = np.random.default_rng([*seeds, 0])
    scanner = str(rng.choice(list(_SCANNERS), p=[scanner.share for scanner in _SCANNERS.values()]))
    variant = str(rng.choice(list(VARIANTS), p=list(VARIANTS.values())))
    spacing = _spacing(_SCANNERS[scanner], shape)
    affine = _affine(rng, spacing, shape)
    relaxed = _draw_anatomy(rng, variant, shape[0])
    name = f"patient{number:03d}"
    scans = []
    for row, anatomy in enumerate((relaxed, _contract(relaxed, rng))):
        own = np.random.default_rng([*seeds, 1 + row])
        brightness, mask = _paint(_parts(anatomy, _grid(shape, spacing)), anatomy.texture, spacing)
        image = _acquire(brightness, _SCANNERS[scanner], spacing, own)
        scan_id = f"{name}_{PHASES[row]}"
        scans.append(SyntheticScan(scan_id, PHASES[row], image, mask, _scribble(mask, own), spacing, affine))
    return SyntheticPatient(name, scanner, variant, tuple(scans))


def write_patients(
    folder: Path, patients: int, *, seed: int = 0, shape: tuple[int, int, int] = (12, 96, 96), phases: int = 2
) -> Path:
    """Write ``patients`` as NIfTI below ``folder`` and return the path of their table, cases.csv.

    The table has a row a scan: case, image, mask, scribble (paths relative to the table), patient, group (the variant),
    phase, scanner. ``phases=1`` writes the relaxed phase only. The same arguments write the same bytes.

    Raises:
        DataError: fewer than one patient, or other than one or two phases.
    """
    if patients < 1 or phases not in (1, 2):
        raise DataError(
            f"patients={patients}, phases={phases}. Expected at least one patient and one or two phases. "
            "Ask for, say, patients=24 and phases=2."
        )
    rows = []
    for number in range(patients):
        patient = draw_patient(seed, number, shape=shape)
        rows += [_write_scan(folder, patient, scan) for scan in patient.phases[:phases]]
    return write_table(folder / "cases.csv", rows)


def _write_scan(folder: Path, patient: SyntheticPatient, scan: SyntheticScan) -> dict[str, str]:
    row = {"case": scan.id}
    for kind, array in (("image", scan.image), ("mask", scan.mask), ("scribble", scan.scribble)):
        row[kind] = f"{kind}s/{scan.id}.nii.gz"
        _write_nifti(folder / row[kind], array, scan.affine)
    return row | {"patient": patient.id, "group": patient.variant, "phase": scan.phase, "scanner": patient.scanner}


def _write_nifti(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    import nibabel

    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    # No time stamp in the gzip header: the same patient is the same bytes.
    path.write_bytes(gzip.compress(image.to_bytes(), compresslevel=4, mtime=0))


def write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


# ---------------------------------------------------------------------------------------------------- geometry


def _spacing(scanner: _Scanner, shape: tuple[int, int, int]) -> tuple[float, float, float]:
    """Spacing in mm (z, y, x) that gives the scanner's field of view on this grid; pixels are square."""
    pixel = round(scanner.pixel * 96 / min(shape[1:]), 4)
    return round(scanner.thickness * 12 / shape[0], 4), pixel, pixel


def _affine(rng: np.random.Generator, spacing: tuple[float, float, float], shape: tuple[int, int, int]) -> np.ndarray:
    """Place the grid in space: about half of the patients oblique, as a short axis is, the others axial."""
    from scipy.spatial.transform import Rotation

    angles = rng.uniform(-35, 35, 3) * (rng.random() < 0.5)
    # Columns run to the patient's left and rows to the back, as radiologists store axial slices.
    axes = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ np.diag([-1.0, -1.0, 1.0])
    affine = np.eye(4)
    affine[:3, :3] = axes * np.array(spacing[::-1])
    middle = (np.array(shape[::-1]) - 1) / 2
    affine[:3, 3] = rng.uniform(-40, 40, 3) - affine[:3, :3] @ middle
    return affine


def _grid(shape: tuple[int, int, int], spacing: tuple[float, float, float]) -> _Grid:
    height = (np.arange(shape[0]) + 0.5) / shape[0]
    y, x = ((np.arange(count) - (count - 1) / 2) * step for count, step in zip(shape[1:], spacing[1:], strict=True))
    return _Grid(height[:, None, None], y[None, :, None], x[None, None, :], shape)


# ----------------------------------------------------------------------------------------------------- anatomy


def _draw_anatomy(rng: np.random.Generator, variant: str, slices: int) -> _Anatomy:
    chamber, thickness = rng.uniform(17, 25), rng.uniform(7, 12)
    across = chamber + thickness
    lobe = (across * rng.uniform(0.80, 1.00), across * rng.uniform(0.85, 1.10))
    anatomy = _Anatomy(
        centre=(rng.uniform(-8, 8), rng.uniform(-4, 14)),
        tilt=(rng.uniform(-14, 14), rng.uniform(-14, 14)),
        rotation=rng.uniform(-0.6, 0.6),
        apex=rng.uniform(0.07, 0.16),
        base=rng.uniform(0.80, 0.93),
        chamber=chamber,
        thickness=thickness,
        lobe=lobe,
        lobe_shift=rng.uniform(0.62, 0.82) * across,
        flatten=rng.uniform(0, 0.08),
        waves=rng.normal(0, 1, (8, 4, 2)) * np.array([0.035, 0.03, 0.02, 0.012])[None, :, None],
        shifts=rng.normal(0, 1.2, (slices, 2)),
        blood=rng.uniform(0.66, 0.90),
        muscle=rng.uniform(0.24, 0.42),
        liver=rng.uniform(0.34, 0.56),
        fat=rng.uniform(0.58, 0.95),
        organs=rng.normal(0, 1, (8, 3)),
        mirrored=False,
        lesion=None,
        texture=int(rng.integers(2**31)),
    )
    return _vary(anatomy, variant, rng)


def _vary(anatomy: _Anatomy, variant: str, rng: np.random.Generator) -> _Anatomy:
    """Make the anatomy the rare ``variant``; "usual" leaves it as it is."""
    if variant == "mirrored":
        return replace(anatomy, mirrored=True)
    if variant == "no lobe":
        return replace(anatomy, lobe=(0.0, 0.0))
    if variant == "large lobe":
        width, length = anatomy.lobe
        # A lobe under pressure pushes its side of the wall flat.
        return replace(anatomy, lobe=(width * 1.35, length * 1.30), flatten=0.28, chamber=anatomy.chamber * 0.85)
    if variant == "bright lesion":
        return replace(anatomy, lesion=(rng.uniform(-np.pi, np.pi), rng.uniform(0.6, 1.1)))
    return anatomy


def _contract(anatomy: _Anatomy, rng: np.random.Generator) -> _Anatomy:
    """Contract the anatomy: a smaller chamber, a thicker wall, a narrower lobe, and the base drawn towards the apex."""
    chamber = anatomy.chamber * rng.uniform(0.58, 0.80)
    outer = (anatomy.chamber + anatomy.thickness) * rng.uniform(0.92, 0.97)
    narrower = rng.uniform(0.72, 0.88)
    return replace(
        anatomy,
        chamber=chamber,
        thickness=outer - chamber,
        lobe=(anatomy.lobe[0] * narrower, anatomy.lobe[1] * (1 + narrower) / 2),
        base=anatomy.base - rng.uniform(0.05, 0.11),
        rotation=anatomy.rotation + rng.uniform(-0.12, 0.12),
    )


def _parts(anatomy: _Anatomy, grid: _Grid) -> list[_Part]:
    """List everything in the field of view from back to front; what is later in the list covers what is earlier."""
    if anatomy.mirrored:
        grid = replace(grid, x=-grid.x)
    return [*_body(anatomy, grid), *_heart(anatomy, grid)]


def _body(anatomy: _Anatomy, grid: _Grid) -> list[_Part]:
    """Chest wall, lung, liver, stomach, spine and aorta: background with the brightness of the classes."""
    jitter, low, waves = anatomy.organs, 1 - grid.height, anatomy.waves
    chest = _disc(grid, 22 + 4 * jitter[0, 0], 28 + 4 * jitter[0, 1], 98 + 4 * jitter[0, 2], waves[0])
    liver = _disc(grid, -45 + 5 * jitter[1, 0], 62 + 5 * jitter[1, 1], 16 + 46 * low, 2 * waves[1])
    stomach = _disc(grid, 42 + 5 * jitter[2, 0], 60 + 5 * jitter[2, 1], 34 * low - 4 + 3 * jitter[2, 2], 2 * waves[2])
    aorta = _disc(grid, 47 + 4 * jitter[3, 0], 46 + 4 * jitter[3, 1], 10.5 + jitter[3, 2], waves[3])
    spine = _disc(grid, 12 + 5 * jitter[4, 0], 80 + 4 * jitter[4, 1], 20.0, waves[4])
    vessels = [
        _Part(
            _disc(grid, 58 + 9 * a, -14 + 22 * b, 2.6 + 0.8 * c + 3 * (grid.height - 0.5), waves[5]),
            anatomy.blood * 0.7,
        )
        for a, b, c in jitter[5:]
    ]
    return [
        _Part(chest, anatomy.fat),
        _Part(chest + 11, 0.40),
        _Part(chest + 16, anatomy.fat * 0.55),
        _Part(chest + 19, 0.34),
        _Part(chest + 27, 0.09),
        *vessels,
        _Part(liver, anatomy.liver),
        _Part(stomach, anatomy.liver * 0.8),
        _Part(stomach + 5, anatomy.blood * 0.85),
        _Part(spine, anatomy.liver * 1.1),
        _Part(aorta - 2.5, anatomy.muscle),
        _Part(aorta, anatomy.blood * 0.97),
    ]


def _heart(anatomy: _Anatomy, grid: _Grid) -> list[_Part]:
    across, along, radius, angle = _heart_frame(anatomy, grid)
    t = (grid.height - anatomy.apex) / (anatomy.base - anatomy.apex)
    waves, outer_radius = anatomy.waves, anatomy.chamber + anatomy.thickness
    # The lobe leans on the side where angle is pi; ``flatten`` presses that side of the wall in.
    pressed = 1 - anatomy.flatten * np.clip(-np.cos(angle), 0, None) ** 2
    ripple = pressed * (1 + ripples(angle, waves[6]))
    outer = radius - outer_radius * _profile(t) * ripple
    # The chamber starts above the apex: the lowest slices show wall only.
    inner = radius - (anatomy.chamber * _profile((t - 0.13) / 0.87)) * ripple * (1 + 0.5 * ripples(angle, waves[5]))
    inner = np.maximum(inner, outer + 0.35 * anatomy.thickness)
    lobe = _lobe(anatomy, across, along, t)
    atrium = np.hypot(across - 7, along * 0.85) - np.where(t > 1, outer_radius * np.clip(0.98 - (t - 1), 0.3, 1), -5)
    fat = np.minimum(
        np.where(t > -0.15, radius - (outer_radius + 4) * np.maximum(_profile(t + 0.15), 0.35), 99), lobe - 5
    )
    parts = [
        _Part(fat - 1.8 * np.minimum(radius, 35) * ripples(angle, waves[7]), anatomy.fat * 0.75),
        _Part(atrium - 2.0, anatomy.muscle),
        _Part(atrium, anatomy.blood * 0.95),
        _Part(_trunk(anatomy, across, along, t), anatomy.blood),
        _Part(lobe - 2.5, anatomy.muscle),
        _Part(lobe, anatomy.blood * 0.93, 3),
        _Part(_open_at_base(outer, angle, t), anatomy.muscle, 2),
        _Part(inner, anatomy.blood, 1),
        *_papillaries(anatomy, radius, angle, inner, t),
    ]
    return parts if anatomy.lesion is None else [*parts, _lesion(anatomy, outer, inner, angle, t)]


def _heart_frame(anatomy: _Anatomy, grid: _Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Coordinates around the chamber's long axis: mm across (the lobe lies at negative) and along, radius, angle."""
    above = grid.height - 0.5
    x = grid.x - anatomy.centre[1] - anatomy.tilt[1] * above - anatomy.shifts[:, 1, None, None]
    y = grid.y - anatomy.centre[0] - anatomy.tilt[0] * above - anatomy.shifts[:, 0, None, None]
    cos, sin = np.cos(anatomy.rotation), np.sin(anatomy.rotation)
    across, along = cos * x + sin * y, cos * y - sin * x
    return across, along, np.hypot(across, along), np.arctan2(along, across)


def _profile(t: np.ndarray) -> np.ndarray:
    """Width of a half ellipsoid at relative height t: 0 below the apex, full in the middle, gone beyond the base."""
    width = np.sqrt(np.clip(1 - (1 - np.clip(t, 0, 1)) ** 2.2, 0, None)) * (1 - 0.22 * np.clip((t - 0.7) / 0.3, 0, 1))
    return np.where(t <= 1, width, 0)


def ripples(angle: np.ndarray, waves: np.ndarray) -> np.ndarray:
    """Relative change of a radius along an outline: harmonics 2, 3, 4, 5 with the given amplitudes."""
    orders = np.arange(2, 2 + len(waves))
    return sum(
        (a * np.cos(order * angle) + b * np.sin(order * angle) for order, (a, b) in zip(orders, waves, strict=True)),
        start=np.zeros_like(angle),
    )


def _disc(grid: _Grid, x: float, y: float, radius: float | np.ndarray, waves: np.ndarray) -> np.ndarray:
    """Measure how many mm each voxel lies outside a rippled disc; nowhere inside where the radius is negative."""
    dx, dy = grid.x - x, grid.y - y
    wobble = 1 + ripples(np.arctan2(dy, dx), waves)
    return np.broadcast_to(np.hypot(dx, dy) - radius * wobble, grid.shape)


def _lobe(anatomy: _Anatomy, across: np.ndarray, along: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Measure the lobe: an ellipse beside the chamber, behind the wall, so that a crescent of it is seen."""
    width, length = anatomy.lobe
    if width == 0:
        return np.full(np.broadcast_shapes(across.shape, t.shape), 99.0)
    grow = np.maximum(_profile((t - 0.12) / 0.92), 1e-3)
    # Near the apex the lobe follows the narrowing wall inwards, or it would float beside it.
    dx = (across + anatomy.lobe_shift * (0.35 + 0.65 * _profile(t + 0.02))) / (width * grow)
    dy = along / (length * grow * (1 + 0.25 * np.tanh(dx)))
    distance = np.hypot(dx, dy)
    ripple = 1 + 1.6 * ripples(np.arctan2(dy, dx), anatomy.waves[4])
    return (distance - ripple) * np.minimum(width, length) * grow + 2.0 * (grow <= 1e-3)


def _trunk(anatomy: _Anatomy, across: np.ndarray, along: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Measure the vessel that leaves the lobe above the base: bright, round, background."""
    return np.hypot(across + anatomy.lobe_shift * 0.9, along + 8) - np.where(t > 1.02, 13.0, -5.0)


def _open_at_base(outer: np.ndarray, angle: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Cut the outflow out of the wall's highest part: the ring is open there, towards the lobe."""
    gap = 1.1 - np.abs(np.angle(np.exp(1j * (angle - 2.6))))
    return np.maximum(outer, np.where(t > 0.93, 12 * gap, -99))


def _papillaries(
    anatomy: _Anatomy, radius: np.ndarray, angle: np.ndarray, inner: np.ndarray, t: np.ndarray
) -> list[_Part]:
    """Two dark muscles inside the chamber; they count as chamber, as readers draw it."""
    parts = []
    for at, size in zip((0.8, -0.9), 3.2 + 0.5 * anatomy.organs[6, :2], strict=True):
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        reach = anatomy.chamber * 0.62 * _profile(t)
        outside = np.hypot(x - reach * np.cos(at), y - reach * np.sin(at)) - size
        parts.append(_Part(np.maximum(np.where((t > 0.3) & (t < 0.75), outside, 99), inner), anatomy.muscle * 1.15, 1))
    return parts


def _lesion(anatomy: _Anatomy, outer: np.ndarray, inner: np.ndarray, angle: np.ndarray, t: np.ndarray) -> _Part:
    """A patch of the wall as bright as blood: it is wall all the same."""
    assert anatomy.lesion is not None
    at, half = anatomy.lesion
    aside = 15 * (np.abs(np.angle(np.exp(1j * (angle - at)))) - half)
    across = np.maximum(-inner, outer + 0.25 * anatomy.thickness)
    return _Part(np.maximum(np.maximum(aside, across), 30 * (np.abs(t - 0.5) - 0.35)), anatomy.blood * 1.05, 2)


# ------------------------------------------------------------------------------------------------------- image


def _paint(parts: Sequence[_Part], texture: int, spacing: tuple[float, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Paint the parts over one another: brightness (z, y, x) with soft edges, and the mask with hard ones."""
    shape = parts[0].outside.shape
    brightness, mask = np.full(shape, 0.015, np.float32), np.zeros(shape, np.uint8)
    for part in parts:
        cover = np.clip(0.5 - part.outside / (1.2 * spacing[1]), 0, 1)
        brightness += (part.brightness - brightness) * cover
        mask[part.outside < 0] = part.label or 0
    rng = np.random.default_rng(texture)
    coarse, fine = _smooth(rng, shape, 9.0, spacing), _smooth(rng, shape, 2.5, spacing)
    # Vessels of the lung: specks that show only where it is dark.
    specks = 0.10 * np.clip(fine - 0.9, 0, 2) * (brightness > 0.03) * (brightness < 0.16)
    return brightness * (1 + 0.10 * coarse + 0.07 * fine) + specks + 0.01, mask


def _smooth(rng: np.random.Generator, shape: Sequence[int], scale: float, spacing: Sequence[float]) -> np.ndarray:
    """Draw a random field of unit variance whose blobs are ``scale`` mm wide in each slice."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), [0.4, *(scale / s for s in spacing[1:])])
    return field / field.std()


def _acquire(
    brightness: np.ndarray, scanner: _Scanner, spacing: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """Look at the patient through a scanner: blur, coil bias, slice to slice gain, contrast curve, Rician noise."""
    image = ndimage.gaussian_filter(brightness, [0.0, *(scanner.blur / step for step in spacing[1:])])
    image = image * np.exp(_bias(rng, image.shape, scanner.bias) + rng.normal(0, 0.04, (len(image), 1, 1)))
    image = np.clip(image, 0, None) ** scanner.gamma
    real, imaginary = rng.normal(0, scanner.noise, (2, *image.shape))
    image = np.hypot(image + real, imaginary) * scanner.gain * rng.uniform(0.8, 1.25)
    return np.clip(np.rint(image), 0, np.iinfo(np.int16).max).astype(np.int16)


def _bias(rng: np.random.Generator, shape: tuple[int, ...], strength: float) -> np.ndarray:
    """Draw the logarithm of a coil's sensitivity: a plane and a bowl across the field of view."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, count) for count in shape), indexing="ij")
    a, b, c, d = rng.normal(0, 1, 4) * strength * np.array([0.3, 0.7, 0.7, 0.5])
    return a * z + b * y + c * x + d * (x**2 + y**2 - 0.7)


# ---------------------------------------------------------------------------------------------------- scribble


def _scribble(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw one thin stroke for every class that a slice shows, background too; 255 everywhere else."""
    scribble = np.full_like(mask, IGNORE)
    for classes, strokes in zip(mask, scribble, strict=True):
        for label in np.unique(classes):
            strokes[_stroke(classes == label, label == 0, rng)] = label
    return scribble


def _stroke(region: np.ndarray, background: bool, rng: np.random.Generator) -> np.ndarray:
    """Draw a part of a line that keeps one distance from the region's edge; a dot where the region is too thin."""
    rows, columns = (np.flatnonzero(region.any(axis)) for axis in (1, 0))
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    depth = _background_depth(region, rng) if background else ndimage.distance_transform_edt(np.pad(region[box], 1))
    depth = depth if background else depth[1:-1, 1:-1]
    line = np.abs(depth - rng.uniform(0.3, 0.6) * depth.max()) < 0.5
    y, x = np.indices(line.shape)
    at = np.arctan2(y - line.shape[0] / 2, x - line.shape[1] / 2)
    part = np.abs(np.angle(np.exp(1j * (at - rng.uniform(-np.pi, np.pi))))) < rng.uniform(0.8, 1.7)
    drawn = line & part & (depth > 0)
    stroke = np.zeros_like(region)
    stroke[box] = _longest(drawn if drawn.any() else depth == depth.max())
    return stroke


def _background_depth(region: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Measure the distance from the classes in a slice; from a random point where the slice shows none."""
    around = region.copy()
    if around.all():
        around[tuple(rng.integers(0, region.shape))] = False
    return ndimage.distance_transform_edt(around)


def _longest(drawn: np.ndarray) -> np.ndarray:
    """Keep the largest connected piece."""
    pieces, _ = ndimage.label(drawn, np.ones((3, 3)))
    return pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])


# ---------------------------------------------------------------------------------------------------- pictures
