"""NIfTI files: values with slope and intercept, what the header says of where they lie, and masks on the same grid."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy

_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}


def open_nifti(source: str | Path) -> nib.Nifti1Image:
    """Open a NIfTI-1 or NIfTI-2 file without reading its voxels; ValueError for the formats that nibabel knows besides."""
    image = nib.load(source)
    if not isinstance(image, nib.Nifti1Image):
        raise ValueError(f"it is {type(image).__name__}, not NIfTI.")
    return image


def affine_of(image: nib.Nifti1Image) -> np.ndarray | None:
    """Take the sform where its code is not 0, else the qform, else nothing: nibabel and ITK invent different ones."""
    header = image.header
    if image.affine is None or (int(header["qform_code"]) == 0 and int(header["sform_code"]) == 0):
        return None
    millimetres = np.diag([_MM_PER_UNIT.get(header.get_xyzt_units()[0], 1.0)] * 3 + [1.0])
    return (millimetres @ image.affine)[:, [2, 1, 0, 3]]


def array_of(image: nib.Nifti1Image) -> np.ndarray:
    """Read (channels, z, y, x), or (channels, y, x) of a file with two axes."""
    proxy = image.dataobj
    assert isinstance(proxy, ArrayProxy)
    raw = np.asarray(proxy.get_unscaled())
    if raw.size == 0:
        raise ValueError(f"it has no voxel: its size is {'x'.join(str(n) for n in raw.shape)}.")
    if raw.dtype.names:  # RGB24 and RGBA32 are stored as records
        return np.stack([raw[name].T.reshape(raw.shape[:3][::-1]) for name in raw.dtype.names[:3]])
    return _scaled(raw, float(proxy.slope), float(proxy.inter)).T.reshape(-1, *raw.shape[:3][::-1])


def _scaled(raw: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    """Apply slope and intercept; into integers where all three are whole, else into float32, a slab at a time."""
    if slope == 1 and intercept == 0:
        return raw
    if raw.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        reach = [int(edge) * int(slope) + int(intercept) for edge in (raw.min(), raw.max())]
        kind = next(kind for kind in (np.int16, np.int32, np.int64) if max(map(abs, reach)) <= np.iinfo(kind).max)
        return (raw.astype(np.int64) * int(slope) + int(intercept)).astype(kind)
    scaled = np.empty(raw.shape, np.float32, order="F")
    for index in range(raw.shape[-1]):
        scaled[..., index] = raw[..., index] * np.float64(slope) + intercept
    return scaled


def mask_like(original: nib.Nifti1Image, mask: np.ndarray) -> nib.Nifti1Image:
    """Wrap a mask in the header of its image, less what describes the image's values."""
    header = original.header.copy()
    header.set_data_dtype(np.uint8)
    header.extensions.clear()  # they may hold a patient's name
    for field in ("cal_min", "cal_max", "intent_code", "intent_p1", "intent_p2", "intent_p3"):
        header[field] = 0
    header["intent_name"] = b""
    # Without an affine nibabel leaves both forms and their codes as the header has them.
    return type(original)(mask.T.reshape(original.shape[:3]), None, header)


def mask_at(affine: np.ndarray | None, mask: np.ndarray) -> nib.Nifti1Image:
    """Wrap a mask in a header of its own; ``affine`` takes an array index (z, y, x, 1) to mm, RAS+."""
    if affine is None:
        image = nib.Nifti1Image(mask.T, None)
        image.header["pixdim"][1:4] = 1
        return image
    affine = affine[:, [2, 1, 0, 3]]
    volume = mask.T.reshape(*mask.T.shape, 1) if mask.ndim == 2 else mask.T
    image = nib.Nifti1Image(volume, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    # A quaternion cannot say a shear (a tilted gantry): better no qform than one that contradicts the sform.
    image.set_qform(affine, code=int(np.allclose(unit.T @ unit, np.eye(3), atol=1e-4)))
    return image


def to_bytes(image: nib.Nifti1Image, compress: bool) -> bytes:
    """Serialise; the same image always gives the same bytes, which gzip's time stamp would spoil."""
    data: bytes = image.to_bytes()
    return gzip.compress(data, compresslevel=6, mtime=0) if compress else data


def image_at(spacing: Sequence[float], image: np.ndarray) -> nib.Nifti1Image:
    """Wrap one channel of an image, (z, y, x) or (y, x), voxels so many mm apart along these axes."""
    sizes = [*spacing[::-1], *[1.0] * (3 - image.ndim)]
    wrapped = nib.Nifti1Image(image.T, np.diag([*sizes, 1.0]))
    wrapped.header.set_xyzt_units("mm")
    return wrapped
