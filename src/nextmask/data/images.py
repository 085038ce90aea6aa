"""Image files <-> arrays with their geometry: NIfTI, NRRD, MHA, DICOM series, PNG, JPEG, TIFF, GIF, BMP.

The only reader and writer of images. Arrays are (channels, z, y, x) or (channels, y, x); a volume of one slice is a
picture. World coordinates are mm, RAS+, whatever the file says them in.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np
import PIL.Image
import SimpleITK as sitk
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from nextmask.data import dicom, nifti, pictures
from nextmask.data.dicom import DicomSeries, series_in
from nextmask.errors import DataError

__all__ = [
    "SUFFIXES",
    "DicomSeries",
    "Geometry",
    "Image",
    "map_codes",
    "mask_suffix",
    "read_channels",
    "read_geometry",
    "read_image",
    "read_labels",
    "read_mask",
    "series_in",
    "stack_channels",
    "suffix_of",
    "write_mask",
]

Kind = Literal["nifti", "itk", "dicom", "picture"]
Affine = tuple[tuple[float, ...], ...]

_KIND: dict[str, Kind] = {
    **dict.fromkeys((".nii", ".nii.gz"), "nifti"),
    **dict.fromkeys((".nrrd", ".nhdr", ".mha", ".mhd"), "itk"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp"), "picture"),
    ".dcm": "dicom",
}
SUFFIXES: tuple[str, ...] = tuple(_KIND)
"""File name endings that can be read; DICOM files may have another ending, or none."""

_LPS_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SAME_VOXEL = 1e-2
"""Two grids are one when no corner is further apart than this many voxels: headers round differently."""

_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    SyntaxError,  # Pillow's word for a broken PNG
    struct.error,
    zlib.error,
    ImageFileError,
    HeaderDataError,
    PIL.Image.DecompressionBombError,
)


@dataclass(frozen=True)
class Geometry:
    """A grid and where it lies: ``affine`` takes an array index (z, y, x, 1) to mm, RAS+; None = nobody knows.

    A picture's index is (0, y, x, 1).
    """

    shape: tuple[int, ...]
    affine: Affine | None

    @property
    def spacing(self) -> tuple[float, ...] | None:
        """Distance between voxels in mm, one number an array axis; None when unknown."""
        if self.affine is None:
            return None
        lengths = np.linalg.norm(np.array(self.affine)[:3, :3], axis=0)
        return tuple(float(length) for length in lengths[3 - len(self.shape) :])

    def differences(self, other: Geometry) -> str | None:
        """Describe both grids when they are not one and the same; None when they are.

        Where one of the two does not know where it lies, only the shapes are compared.
        """
        if self.shape == other.shape and self._coincides(other):
            return None
        return f"{self} against {other}"

    def _coincides(self, other: Geometry) -> bool:
        if self.affine is None or other.affine is None:
            return True
        reach = [(0, n - 1) for n in (1, *self.shape)[-3:]]
        corners = np.array([(*corner, 1.0) for corner in product(*reach)]).T
        moved = np.linalg.solve(np.array(self.affine), np.array(other.affine) @ corners)
        return bool(np.abs(moved - corners).max() < _SAME_VOXEL)

    def __str__(self) -> str:
        """Describe the grid in the order x, y, z, as viewers do."""
        axes = ", ".join("xyz"[: len(self.shape)])
        size = "x".join(str(n) for n in reversed(self.shape))
        if self.affine is None or self.spacing is None:
            return f"{size} voxels ({axes}), spacing and orientation unknown"
        millimetres = "x".join(f"{length:.4g}" for length in reversed(self.spacing))
        affine = np.array(self.affine)
        origin = ", ".join(f"{value:.2f}" for value in affine[:3, 3])
        codes = "".join(str(code) for code in nib.aff2axcodes(affine[:, [2, 1, 0, 3]])[: len(self.shape)])
        return f"{size} voxels ({axes}), {millimetres} mm, origin ({origin}), axes {codes}"


@dataclass(frozen=True)
class Image:
    """Values (channels, z, y, x) or (channels, y, x) on a grid; ``modality`` as DICOM names it, "" = unknown."""

    array: np.ndarray
    geometry: Geometry
    modality: str = ""

    @property
    def rgb(self) -> bool:
        """Tell whether this is a colour picture."""
        return self.array.ndim == 3 and self.array.shape[0] == 3 and self.array.dtype == np.uint8


def read_image(source: str | Path) -> Image:
    """Read one image, with its slope and intercept applied; integers stay integers where they can.

    ``source`` is a file, a folder with one DICOM series, or ``folder::series-uid``. Floats come as float32. The last
    axis of a 4-D file is channels.

    Raises:
        DataError: the source is absent, empty, cut short, of an unknown format, or more than one image.
    """
    return _read(source, as_mask=False)


def read_channels(sources: Sequence[str | Path]) -> Image:
    """Read one file a channel, all on one grid, and stack them: (channels, *spatial)."""
    return stack_channels(sources, [read_image(source) for source in sources])


def stack_channels(sources: Sequence[str | Path], images: Sequence[Image]) -> Image:
    """Stack images, one a channel, that were read from ``sources``; all must lie on one grid."""
    for source, image in zip(sources[1:], images[1:], strict=True):
        difference = images[0].geometry.differences(image.geometry)
        if difference:
            raise DataError(
                f"{sources[0]} and {source} are channels of one case but lie on two grids: {difference}. "
                "Expected one grid. Resample the channels onto one of them."
            )
    if len(images) == 1:
        return images[0]
    array = _at_most_float32(np.concatenate([image.array for image in images]))
    return Image(array, images[0].geometry, images[0].modality)


def read_geometry(source: str | Path) -> Geometry:
    """Read where an image lies; from the header alone."""
    kind = _checked_kind(source)
    with _named(source):
        if kind == "nifti":
            image = nifti.open_nifti(source)
            return _geometry(image.shape[:3][::-1], nifti.affine_of(image))
        if kind == "itk":
            reader = _open_itk(source)
            return _geometry(reader.GetSize()[:3][::-1], _itk_affine(reader, source))
        if kind == "dicom":
            slices, affine = dicom.stack(dicom.find_series(source))
            return _geometry((len(slices), *slices[0].shape), affine)
        with PIL.Image.open(source) as picture:
            return _geometry(pictures.shape_of(picture), None)


def read_mask(source: str | Path, codes: Mapping[int, int] | None = None) -> tuple[np.ndarray, Geometry]:
    """Read a mask as uint8, (z, y, x) or (y, x), with the file's codes turned into classes.

    ``codes`` maps a value of the file to a class, or to 255 for voxels that nobody annotated: ``{255: 1}`` for masks
    painted black and white, ``{4: 255}`` for scribbles whose 4 means unlabeled. Values it does not name stay.

    Raises:
        DataError: the file cannot be read, holds colours or fractions, or values that are no class (0 to 255).
    """
    labels, geometry = read_labels(source)
    mapped = map_codes(labels, codes or {})
    if mapped.dtype == np.uint8:
        return mapped, geometry
    low, high = int(mapped.min()), int(mapped.max())
    if low < 0 or high > 255:
        wrong = [int(value) for value in np.unique(mapped) if not 0 <= value <= 255]
        raise DataError(
            f"{source} holds the values {_some(wrong)}. Expected classes 0 to 254, and 255 for not annotated. "
            "Say which class each value stands for with the mask codes, for example {500: 1}."
        )
    return mapped.astype(np.uint8), geometry


def read_labels(source: str | Path) -> tuple[np.ndarray, Geometry]:
    """Read a mask as the integers of its file, (z, y, x) or (y, x), before any code is mapped."""
    image = _read(source, as_mask=True)
    array = image.array
    if len(array) > 1 and any(not np.array_equal(array[0], channel) for channel in array[1:]):
        raise DataError(
            f"{source} has {len(array)} channels that differ. Expected one integer a voxel. "
            "Save the mask as one grey channel with the class numbers."
        )
    return _integers(array[0], source), image.geometry


def map_codes(labels: np.ndarray, codes: Mapping[int, int]) -> np.ndarray:
    """Replace the values that ``codes`` names, all at once (so that two codes can be swapped); others stay."""
    codes = {before: after for before, after in codes.items() if before != after}
    if not codes:
        return labels
    kind = np.result_type(labels.dtype, np.min_scalar_type(max(codes.values())))
    mapped = labels.astype(kind)
    for before, after in codes.items():
        mapped[labels == before] = after
    return mapped


def write_mask(path: str | Path, mask: np.ndarray, like: str | Path) -> None:
    """Write a mask (uint8) on the grid of the image ``like``, in the format that the suffix of ``path`` says.

    NIfTI to NIfTI keeps the header's geometry bit for bit: both forms, their codes, spacing and units, also where they
    say that nothing is known. The same mask gives the same bytes, so that files can be compared by their hash.

    Raises:
        DataError: the mask is not on that grid, or the format cannot hold it.
    """
    geometry = read_geometry(like)
    if mask.shape != geometry.shape or mask.dtype != np.uint8:
        raise DataError(
            f"A mask of shape {mask.shape}, {mask.dtype}, cannot be written for {like}: its grid is {geometry.shape} "
            f"({geometry}). Expected uint8 on the image's own grid. Bring the mask back to that grid first."
        )
    suffix = suffix_of(path)
    if suffix in (".nii", ".nii.gz"):
        known = None if geometry.affine is None else np.array(geometry.affine)
        is_nifti = _kind(like) == "nifti"
        image = nifti.mask_like(nifti.open_nifti(like), mask) if is_nifti else nifti.mask_at(known, mask)
        Path(path).write_bytes(nifti.to_bytes(image, compress=suffix == ".nii.gz"))
    elif suffix in (".nrrd", ".mha", ".mhd"):
        sitk.WriteImage(_itk_like(mask, like, geometry), str(path), useCompression=True)
    elif suffix in (".tif", ".tiff") or (suffix == ".png" and mask.ndim == 2):
        pictures.write_picture(Path(path), mask)
    else:
        raise DataError(
            f"A {mask.ndim}-D mask cannot be written as {suffix or 'a file without ending'} ({path}). Expected .nii.gz "
            "or .nii, .nrrd, .mha, .tif, or .png for a picture: formats that keep every value. Choose one of them."
        )


def mask_suffix(source: str | Path) -> str:
    """Say which file ending a mask of this image should have."""
    kind = _checked_kind(source)
    if kind == "picture":
        return ".tif" if len(read_geometry(source).shape) == 3 else ".png"
    if kind == "itk":
        return ".nrrd" if suffix_of(source) in (".nrrd", ".nhdr") else ".mha"
    return ".nii.gz"


def suffix_of(path: str | Path) -> str:
    """Return the ending of a file name in lower case, ``.nii.gz`` in full."""
    path = Path(path)
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def _read(source: str | Path, as_mask: bool) -> Image:
    kind = _checked_kind(source)
    modality = ""
    with _named(source):
        if kind == "nifti":
            image = nifti.open_nifti(source)
            array, affine = nifti.array_of(image), nifti.affine_of(image)
        elif kind == "itk":
            reader = _open_itk(source)
            array, affine = _itk_array(reader), _itk_affine(reader, source)
        elif kind == "dicom":
            series = dicom.find_series(source)
            if series.modality in dicom.NOT_IMAGES:
                raise _not_an_image(source, series.modality)
            slices, affine = dicom.stack(series)
            array, modality = dicom.read_pixels(series, slices), series.modality
        else:
            array, affine = pictures.read_picture(source, as_mask), None
        geometry = _geometry(array.shape[1:], affine)
    return Image(_at_most_float32(array.reshape(len(array), *geometry.shape)), geometry, modality)


def _kind(source: str | Path) -> Kind | None:
    """Say which reader a source wants; None when no reader knows it."""
    path = Path(str(source).partition("::")[0])
    if path.is_dir():
        return "dicom"
    known = _KIND.get(suffix_of(path))
    return "dicom" if known is None and path.is_file() and dicom.is_dicom(path) else known


def _checked_kind(source: str | Path) -> Kind:
    path = Path(str(source).partition("::")[0])
    if not path.exists():
        raise DataError(f"{path} is not there. Expected an image. Check the path in the table.")
    if path.is_file() and path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes). Expected an image. Copy or export it again.")
    kind = _kind(source)
    if kind is None:
        raise DataError(
            f"{path} is of no format that can be read. Expected one of {', '.join(SUFFIXES)}, or a folder with a DICOM "
            "series. Convert it."
        )
    return kind


@contextmanager
def _named(source: str | Path) -> Iterator[None]:
    """Turn what the libraries raise about a bad file into a DataError with its name, and keep their chatter quiet."""
    chatter = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{source} cannot be read: {reason[-300:]} Expected a complete image file. Copy or export it again, or "
            "take the case out of the table."
        ) from error
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(chatter)


def _geometry(shape: Sequence[int], affine: np.ndarray | None) -> Geometry:
    """Make a geometry of (z, y, x) or (y, x); one slice is a picture; a matrix that says nothing is none."""
    shape = tuple(int(n) for n in shape)
    if len(shape) < 2:
        raise ValueError(f"it has {len(shape)} dimension")
    if len(shape) == 3 and shape[0] == 1:
        shape = shape[1:]
    if affine is None or not np.isfinite(affine).all() or np.linalg.det(affine[:3, :3]) == 0:
        return Geometry(shape, None)
    return Geometry(shape, tuple(tuple(float(value) for value in row) for row in affine))


def _at_most_float32(array: np.ndarray) -> np.ndarray:
    if array.dtype.kind == "c":
        raise DataError("An image holds complex numbers. Expected real ones. Save its magnitude.")
    kind = np.dtype(np.float32) if array.dtype.kind == "f" else array.dtype.newbyteorder("=")
    return np.ascontiguousarray(array, dtype=kind)


def _integers(array: np.ndarray, source: str | Path) -> np.ndarray:
    """Turn the values of a mask into integers; a float that is not one, by more than rounding, is refused."""
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind == "b":
        return array.astype(np.uint8)
    finite = np.isfinite(array).all()
    rounded = np.rint(array) if finite else array
    # Some programs store labels as scaled integers, which come back a hair beside the whole number.
    if not finite or np.abs(array - rounded).max() > 1e-3:
        off = array[~np.isfinite(array)] if not finite else array[np.abs(array - rounded) > 1e-3]
        raise DataError(
            f"{source} holds values that are no whole numbers: {_some(np.unique(off)[:50].tolist())}. Expected class "
            "numbers. Save the mask without interpolation."
        )
    return rounded.astype(np.int32)


def _some(values: Sequence[float], limit: int = 8) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:limit])
    return shown + (f", ... ({len(values)} in all)" if len(values) > limit else "")


def _not_an_image(source: str | Path, modality: str) -> DataError:
    return DataError(
        f"{source} is a DICOM object of modality {modality}, not an image. Expected slices of a scan, or a mask in "
        "NIfTI, NRRD, MHA or PNG. Convert it with the software that made it."
    )


# NRRD and MetaImage ---------------------------------------------------------------------------------------------------


def _open_itk(source: str | Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(source))
    reader.ReadImageInformation()
    return reader


def _itk_array(reader: sitk.ImageFileReader) -> np.ndarray:
    image = reader.Execute()
    array = sitk.GetArrayFromImage(image)
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    return array.reshape(-1, *image.GetSize()[:3][::-1])


def _itk_affine(reader: sitk.ImageFileReader, source: str | Path) -> np.ndarray | None:
    # ITK takes 1 mm where the header says nothing.
    with Path(source).open("rb") as stream:
        head = stream.read(65536)
    if not re.search(rb"^(space directions|spacings|ElementSpacing|ElementSize)\s*[:=]", head, re.MULTILINE | re.I):
        return None
    dimension, n = reader.GetDimension(), min(3, reader.GetDimension())
    affine = np.eye(4)
    affine[:n, :n] = np.reshape(reader.GetDirection(), (dimension, dimension))[:n, :n] * reader.GetSpacing()[:n]
    affine[:n, 3] = reader.GetOrigin()[:n]
    return (_LPS_RAS @ affine)[:, [2, 1, 0, 3]]


def _itk_like(mask: np.ndarray, like: str | Path, geometry: Geometry) -> sitk.Image:
    if _kind(like) == "itk":
        reader = _open_itk(like)
        dimension, n = reader.GetDimension(), min(3, reader.GetDimension())
        image = sitk.GetImageFromArray(mask.reshape(reader.GetSize()[:n][::-1]))
        image.SetSpacing(reader.GetSpacing()[:n])
        image.SetOrigin(reader.GetOrigin()[:n])
        image.SetDirection(np.reshape(reader.GetDirection(), (dimension, dimension))[:n, :n].ravel().tolist())
        return image
    image = sitk.GetImageFromArray(mask.reshape((1, *mask.shape)[-3:]))
    if geometry.affine is not None:
        affine = _LPS_RAS @ np.array(geometry.affine)[:, [2, 1, 0, 3]]
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        image.SetSpacing(lengths.tolist())
        image.SetOrigin(affine[:3, 3].tolist())
        image.SetDirection((affine[:3, :3] / lengths).ravel().tolist())
    return image
