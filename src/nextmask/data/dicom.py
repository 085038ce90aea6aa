"""DICOM series: which files belong together, in which order, and where their slices lie in the patient."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.config import disable_value_validation
from pydicom.errors import InvalidDicomError

from nextmask.errors import DataError

NOT_IMAGES = frozenset({"SEG", "RTSTRUCT", "RTPLAN", "RTDOSE", "SR", "PR", "KO", "REG", "DOC", "FID"})
"""Modalities of objects that lie beside images but are none."""

_TAGS = [
    "SOPClassUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "Modality",
    "InstanceNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Slice:
    """Header of one slice: a file, or one frame of a file. Positions in mm, LPS+, as DICOM has them."""

    file: str
    frame: int
    instance: int
    shape: tuple[int, int]
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None


@dataclass(frozen=True)
class DicomSeries:
    """The slices of one series, in no particular order; ``stack`` puts them in order."""

    uid: str
    description: str
    modality: str
    slices: tuple[Slice, ...]

    @property
    def files(self) -> tuple[str, ...]:
        """Return the files of the series, each once."""
        return tuple(dict.fromkeys(piece.file for piece in self.slices))


def series_in(folder: str | Path) -> list[DicomSeries]:
    """List the series among the files of a folder (its subfolders are not looked into), by uid.

    Files that are not DICOM are passed over. A series without an instance uid has the uid "".
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder. Expected a folder with DICOM files. Check the path.")
    grouped: dict[str, list[tuple[pydicom.Dataset, str]]] = {}
    with disable_value_validation():  # values that break a rule of the standard are common, and none is used
        for file in sorted(folder.iterdir()):
            header = _header(file) if file.is_file() and is_dicom(file) else None
            if header is not None:
                grouped.setdefault(str(header.get("SeriesInstanceUID") or ""), []).append((header, str(file)))
        return [_series(uid, grouped[uid]) for uid in sorted(grouped)]


def find_series(source: str | Path) -> DicomSeries:
    """Find the one series that a source names: a DICOM file, a folder, or ``folder::series-uid``.

    Objects that are not images (segmentations, reports, ...) do not count as long as an image series lies beside them.

    Raises:
        DataError: no DICOM file is there, no series has the uid, or the folder holds more than one and no uid is given.
    """
    folder, marker, uid = str(source).partition("::")
    if not marker and Path(folder).is_file():
        return _series_of_file(Path(folder))
    found = series_in(folder)
    if marker:
        chosen = [series for series in found if series.uid == uid]
    else:
        chosen = [series for series in found if series.modality not in NOT_IMAGES] or found
    if len(chosen) == 1:
        return chosen[0]
    raise _no_single_series(folder, uid, found)


def stack(series: DicomSeries) -> tuple[tuple[Slice, ...], np.ndarray | None]:
    """Order the slices along their normal and say where they lie.

    Returns the slices in array order and the affine (4, 4) that takes an array index (z, y, x, 1) to mm, RAS+; None
    where the headers give no position. The distance between slices comes from their positions, never from
    SliceThickness, which is how thick a slice is and not how far the next one is.

    Raises:
        DataError: sizes or orientations differ, two slices lie at one place, or a slice is missing.
    """
    name = Path(series.slices[0].file).parent.name
    _refuse_mixed(series, name)
    placed = [piece for piece in series.slices if piece.position and piece.orientation and piece.pixel_spacing]
    if not placed:
        return tuple(sorted(series.slices, key=lambda piece: (piece.instance, piece.file, piece.frame))), None
    if len(placed) < len(series.slices):
        raise DataError(
            f"{name}: {len(series.slices) - len(placed)} of {len(series.slices)} slices of series {series.uid!r} have "
            "no position. Expected ImagePositionPatient in all or none. Export the series again."
        )
    row, column = np.split(np.array(placed[0].orientation), 2)
    normal = np.cross(row, column)
    ordered = sorted(placed, key=lambda piece: float(np.dot(normal, np.array(piece.position))))
    _refuse_gaps(ordered, normal, name)
    return tuple(ordered), _affine(ordered, row, column, normal)


def read_pixels(series: DicomSeries, slices: Sequence[Slice]) -> np.ndarray:
    """Decode slices, with their rescale slope and intercept, into (channels, z, y, x)."""
    files = tuple(dict.fromkeys(piece.file for piece in slices))
    if len(files) == 1:
        image = sitk.ReadImage(files[0])
    else:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(files)
        image = reader.Execute()
    array = sitk.GetArrayFromImage(image)
    array = array.reshape(-1, *slices[0].shape, image.GetNumberOfComponentsPerPixel())
    if len(files) == 1:
        array = array[[piece.frame for piece in slices]]
    return np.moveaxis(array, -1, 0)


def is_dicom(file: Path) -> bool:
    """Tell whether a file says that it is DICOM: by its magic word, or by its suffix where that is left out."""
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM" or (file.suffix.lower() == ".dcm" and file.stat().st_size > 0)


def _header(file: Path) -> pydicom.Dataset | None:
    """Read the tags that place a slice; None for a file without an image (a DICOMDIR, a report)."""
    try:
        header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        return header if header.get("Rows") and header.get("Columns") else None
    except (OSError, EOFError, ValueError, InvalidDicomError, struct.error, KeyError, AttributeError) as error:
        raise DataError(
            f"{file} cannot be read: {error}. Expected a complete DICOM file. Export it again, or move it away."
        ) from error


def _series_of_file(file: Path) -> DicomSeries:
    with disable_value_validation():
        header = _header(file)
        if header is None:
            raise DataError(
                f"{file} holds no image. Expected a DICOM image. Take it out of the table, or export it again."
            )
        return _series(str(header.get("SeriesInstanceUID") or ""), [(header, str(file))])


def _series(uid: str, members: Sequence[tuple[pydicom.Dataset, str]]) -> DicomSeries:
    first = members[0][0]
    slices = tuple(piece for header, file in members for piece in _slices(header, file))
    return DicomSeries(uid, str(first.get("SeriesDescription") or ""), str(first.get("Modality") or ""), slices)


def _slices(header: pydicom.Dataset, file: str) -> Iterator[Slice]:
    for frame in range(int(header.get("NumberOfFrames") or 1)):
        yield Slice(
            file,
            frame,
            int(header.get("InstanceNumber") or 0),
            (int(header.Rows), int(header.Columns)),
            _plane(header, frame, "PlanePositionSequence", "ImagePositionPatient", 3),
            _plane(header, frame, "PlaneOrientationSequence", "ImageOrientationPatient", 6),
            _plane(header, frame, "PixelMeasuresSequence", "PixelSpacing", 2),
        )


def _plane(header: pydicom.Dataset, frame: int, sequence: str, keyword: str, length: int) -> tuple[float, ...] | None:
    """Look a tag up where its kind of object keeps it: a frame's functional group, the shared one, or the top."""
    frames = header.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*frames[frame : frame + 1], *(header.get("SharedFunctionalGroupsSequence") or [])]
    inner = [item for group in groups for item in (group.get(sequence) or [])]
    for place in (*inner, header):
        value = place.get(keyword)
        if value is not None and len(value) == length:
            return tuple(float(number) for number in value)
    return None


def _no_single_series(folder: str, uid: str, found: Sequence[DicomSeries]) -> DataError:
    listed = "; ".join(
        f"{s.uid!r} ({s.modality or 'no modality'}, {len(s.slices)} slices, {s.description!r})" for s in found
    )
    if not found:
        return DataError(f"{folder} holds no DICOM image. Expected the files of one series. Check the path.")
    if uid:
        return DataError(f"{folder} holds no series {uid!r}. Expected one of: {listed}. Correct the uid in the table.")
    return DataError(
        f"{folder} holds {len(found)} series: {listed}. Expected one series a case. "
        f"Name the one to use as {folder}::series-uid in the table."
    )


def _refuse_mixed(series: DicomSeries, name: str) -> None:
    """Refuse series whose slices are not one block: localisers in three planes, images of several sizes."""
    shapes = sorted({piece.shape for piece in series.slices})
    if len(shapes) > 1:
        sizes = ", ".join(f"{rows}x{columns}" for rows, columns in shapes)
        raise DataError(
            f"{name}: the slices of series {series.uid!r} have {len(shapes)} sizes (rows x columns): {sizes}. "
            "Expected one. Leave the images out that do not belong to the scan."
        )
    orientations = [np.array(piece.orientation) for piece in series.slices if piece.orientation]
    if any(not np.allclose(one, orientations[0], atol=1e-3) for one in orientations):
        raise DataError(
            f"{name}: the slices of series {series.uid!r} lie in several directions, as those of a localiser do. "
            "Expected parallel slices. Name another series, or export one direction only."
        )


def _refuse_gaps(ordered: Sequence[Slice], normal: np.ndarray, name: str) -> None:
    """Refuse two slices at one place (phases, echoes) and uneven gaps (a missing slice)."""
    if len(ordered) < 2:
        return
    gaps = np.diff([float(np.dot(normal, np.array(piece.position))) for piece in ordered])
    if gaps.min() < 1e-3:
        raise DataError(
            f"{name}: {int(np.sum(gaps < 1e-3))} of {len(ordered)} slices lie where another does. Expected one slice a place: "
            "these are several phases, echoes or copies in one series. Export each as a series of its own."
        )
    usual = float(np.median(gaps))
    odd = int(np.argmax(np.abs(gaps - usual)))
    # Positions are rounded to a hundredth of a mm at worst; a missing slice doubles the gap.
    if abs(gaps[odd] - usual) > 0.05 * usual + 0.02:
        raise DataError(
            f"{name}: slices are {usual:g} mm apart, but {gaps[odd]:g} mm between {_label(ordered[odd])} and "
            f"{_label(ordered[odd + 1])}. Expected even gaps: a slice is missing, or there is one too many. "
            "Export the series again."
        )


def _label(piece: Slice) -> str:
    return f"{Path(piece.file).name}" + (f" frame {piece.frame + 1}" if piece.frame else "")


def _affine(ordered: Sequence[Slice], row: np.ndarray, column: np.ndarray, normal: np.ndarray) -> np.ndarray:
    first, last = np.array(ordered[0].position), np.array(ordered[-1].position)
    between_rows, between_columns = ordered[0].pixel_spacing or (1.0, 1.0)
    affine = np.eye(4)
    # The step from slice to slice is not always along the normal: a tilted gantry shears the volume.
    affine[:3, 0] = (last - first) / (len(ordered) - 1) if len(ordered) > 1 else normal
    affine[:3, 1] = column * between_rows
    affine[:3, 2] = row * between_columns
    affine[:3, 3] = first
    return _LPS_TO_RAS @ affine
