"""Drawn photographs of skin with a lesion: for tests of colour pictures; seeded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import ndimage

from nextmask.data.synthetic import ripples, write_table
from nextmask.errors import DataError


def draw_picture(seed: int | Sequence[int], number: int, size: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """Draw a photograph of skin with one lesion: uint8 (3, size, size) RGB, and its mask uint8 (size, size), 0 or 1.

    The lesion differs in size, place, border and colour; hairs cross it, and freckles and a dark corner resemble it.
    """
    rng = np.random.default_rng([*np.atleast_1d(seed).tolist(), number, 9])
    y, x = np.meshgrid(*(np.linspace(-1, 1, size),) * 2, indexing="ij")
    outside = _lesion_outline(rng, y, x)
    skin = np.array([0.86, 0.66, 0.56]) * rng.uniform(0.75, 1.08) * rng.uniform(0.95, 1.05, 3)
    pigment = np.array([0.45, 0.28, 0.20]) * rng.uniform(0.7, 1.35) * rng.uniform(0.9, 1.1, 3)
    soft = rng.uniform(0.02, 0.10)
    cover = np.clip(0.5 - outside / soft, 0, 1) * rng.uniform(0.55, 0.95)
    cover = np.maximum(cover * (1 + 0.25 * _blobs(rng, size, 0.08)), 0.55 * _freckles(rng, y, x)).clip(0, 1)
    light = (1 + 0.07 * _blobs(rng, size, 0.25)) * (1 - rng.uniform(0, 0.5) * (x**2 + y**2) / 2)
    image = (skin + (pigment - skin) * cover[..., None]) * light[..., None]
    hair = np.clip(_hairs(rng, y, x), 0, 1)[..., None]
    image = image * (1 - 0.8 * hair) + 0.1 * hair + rng.normal(0, 0.018, image.shape)
    return np.rint(image.clip(0, 1) * 255).astype(np.uint8).transpose(2, 0, 1), (outside < 0).astype(np.uint8)


def write_pictures(folder: Path, count: int, seed: int = 0, size: int = 128) -> Path:
    """Write ``count`` pictures and masks (0 and 1) as PNG below ``folder``; return the path of their cases.csv.

    Raises:
        DataError: fewer than one picture.
    """
    from PIL import Image

    if count < 1:
        raise DataError(f"count={count}. Expected at least one picture. Ask for, say, count=20.")
    rows = []
    for number in range(count):
        image, mask = draw_picture(seed, number, size)
        name = f"picture{number:03d}"
        row = {"case": name, "image": f"images/{name}.png", "mask": f"masks/{name}.png", "patient": name}
        for key, array in (("image", image.transpose(1, 2, 0)), ("mask", mask)):
            (folder / row[key]).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ascontiguousarray(array)).save(folder / row[key])
        rows.append(row)
    return write_table(folder / "cases.csv", rows)


def _lesion_outline(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    dy, dx = y - rng.uniform(-0.35, 0.35), x - rng.uniform(-0.35, 0.35)
    turn, stretch = rng.uniform(0, np.pi), rng.uniform(0.65, 1.0)
    u, v = np.cos(turn) * dx + np.sin(turn) * dy, (np.cos(turn) * dy - np.sin(turn) * dx) / stretch
    waves = rng.normal(0, 0.07, (6, 2)) / np.arange(1, 7)[:, None]
    return np.hypot(u, v) - rng.uniform(0.18, 0.55) * (1 + 1.6 * ripples(np.arctan2(v, u), waves))


def _blobs(rng: np.random.Generator, size: int, scale: float) -> np.ndarray:
    field = ndimage.gaussian_filter(rng.standard_normal((size, size)), scale * size / 2)
    return field / field.std()


def _freckles(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    cover = np.zeros_like(x)
    for _ in range(rng.integers(0, 9)):
        at_y, at_x, radius = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.015, 0.06)
        cover = np.maximum(cover, np.clip(1.5 - np.hypot(y - at_y, x - at_x) / radius, 0, 1))
    return cover


def _hairs(rng: np.random.Generator, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Draw dark curved hairs about a pixel wide, (size, size) in 0..1."""
    pixel = 2 / len(x)
    cover = np.zeros_like(x)
    for _ in range(rng.integers(0, 14)):
        turn, bend, aside = rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5), rng.uniform(-0.9, 0.9)
        u, v = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
        start = rng.uniform(-1, 0.4)
        line = np.clip(1.4 - np.abs(v - aside - bend * u**2) / pixel, 0, 1)
        cover = np.maximum(cover, line * ((u > start) & (u < start + rng.uniform(0.4, 1.4))))
    return cover
