"""Pictures: PNG, JPEG, TIFF (also stacks), GIF and BMP, as a viewer shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import SimpleITK as sitk


def shape_of(picture: PIL.Image.Image) -> tuple[int, ...]:
    """Tell (y, x), or (pages, y, x) of a TIFF stack, as a viewer shows it, without decoding."""
    width, height = picture.size
    # Pillow decodes a whole PNG to look for an orientation that hardly any has.
    has_exif = picture.format != "PNG" or "exif" in picture.info
    if has_exif and picture.getexif().get(0x0112, 1) >= 5:  # orientation: a camera held upright
        width, height = height, width
    pages = _pages(picture)
    return (pages, height, width) if pages > 1 else (height, width)


def _pages(picture: PIL.Image.Image) -> int:
    """Count the pages of a TIFF stack; other formats have one picture (some cameras add a preview)."""
    pages = int(getattr(picture, "n_frames", 1))
    if picture.format == "GIF" and pages > 1:
        raise ValueError(f"it is a film of {pages} frames, not a picture.")
    return pages if picture.format == "TIFF" else 1


def read_picture(source: str | Path, as_mask: bool) -> np.ndarray:
    """Read (channels, y, x), or (channels, pages, y, x) of a TIFF stack."""
    with PIL.Image.open(source) as picture:
        if picture.mode in ("RGB", "RGBA") and ";16" in str(picture.tile[:1]):
            return _deep_colour(source)
        shape = shape_of(picture)
        pages = []
        for number in range(_pages(picture)):
            if number:
                picture.seek(number)
            if picture.size != (shape[-1], shape[-2]) and len(shape) == 3:
                raise ValueError(f"page {number + 1} is {picture.size[0]}x{picture.size[1]}, the first another size.")
            pages.append(_page(picture, as_mask))
    return np.stack(pages, axis=1) if len(pages) > 1 else pages[0]


def _page(picture: PIL.Image.Image, as_mask: bool) -> np.ndarray:
    """Read one page as (channels, y, x), as a viewer shows it: turned upright, its palette looked up."""
    page = PIL.ImageOps.exif_transpose(picture)
    if page.mode == "P":
        page = _without_palette(page, as_mask)
    elif page.mode == "1":
        page = page.convert("L")
    elif page.mode in ("CMYK", "YCbCr", "LAB", "HSV"):
        page = page.convert("RGB")
    array = np.array(page)
    return _without_alpha(np.moveaxis(array, -1, 0), page.mode in ("RGBA", "LA")) if array.ndim == 3 else array[None]


def _without_palette(page: PIL.Image.Image, as_mask: bool) -> PIL.Image.Image:
    """Look grey palettes up (an index of 1 may show as 255); in a coloured one the indices are a mask's classes."""
    used = np.unique(np.array(page))
    palette = np.reshape(page.getpalette("RGB") or [], (-1, 3))
    if (np.ptp(palette[used], axis=1) == 0).all():
        return page.convert("L")
    return PIL.Image.fromarray(np.array(page)) if as_mask else page.convert("RGB")


def _without_alpha(channels: np.ndarray, has_alpha: bool) -> np.ndarray:
    if not has_alpha:
        return channels
    if np.ptp(channels[-1]) != 0:
        raise ValueError("its transparency varies, which says nothing about tissue: save it without an alpha channel.")
    return channels[:-1]


def _deep_colour(source: str | Path) -> np.ndarray:
    """Read 16 bits a colour, which Pillow would cut to 8."""
    array = np.moveaxis(sitk.GetArrayFromImage(sitk.ReadImage(str(source))), -1, 0)
    return _without_alpha(array, len(array) == 4)


def write_picture(path: Path, mask: np.ndarray) -> None:
    """Write a mask, (y, x) as PNG or TIFF, (z, y, x) as a TIFF stack."""
    pages = [PIL.Image.fromarray(page) for page in mask.reshape(-1, *mask.shape[-2:])]
    if path.suffix.lower() == ".png":
        pages[0].save(path)
    else:
        pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_deflate")
