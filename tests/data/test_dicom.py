"""DICOM series: told apart, put in order by position, refused when slices are missing."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SegmentationStorage, generate_uid

from nextmask.data.dicom import find_series, stack
from nextmask.data.images import read_geometry, read_image, read_mask, series_in, write_mask
from nextmask.errors import DataError

TILTED = (1.0, 0.0, 0.0, 0.0, 0.8, 0.6)


def save_slice(path: Path, pixels: np.ndarray, z: float | None, uid: str = "1.2.3", **tags: object) -> None:
    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    header.file_meta.MediaStorageSOPClassUID = header.SOPClassUID = CTImageStorage
    header.file_meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID = generate_uid()
    header.SeriesInstanceUID, header.SeriesDescription, header.Modality = uid, "abdomen", "CT"
    header.StudyInstanceUID = "1.2"
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 1
    header.RescaleSlope, header.RescaleIntercept = 1, -1000
    header.PixelSpacing, header.SliceThickness = [0.5, 0.25], 9
    if z is not None:
        header.ImagePositionPatient, header.ImageOrientationPatient = [10, 20, z], [1, 0, 0, 0, 1, 0]
    header.PixelData = pixels.astype(np.int16).tobytes()
    for keyword, value in tags.items():
        setattr(header, keyword, value)
    pydicom.dcmwrite(path, header, enforce_file_format=True)


def save_series(folder: Path, positions: list[float], uid: str = "1.2.3", **tags: object) -> np.ndarray:
    """Write slices whose file names are in no order of place; slice i holds the value i, less its corner."""
    folder.mkdir(exist_ok=True)
    volume = np.arange(len(positions))[:, None, None] + np.zeros((4, 6))
    volume[:, 0, 0] = 500
    for number, z in enumerate(positions):
        save_slice(folder / f"{uid}_{(number * 7) % 10}.dcm", volume[number], z, uid, **tags)
    return volume - 1000


def test_a_negative_is_read_as_the_picture_it_shows(tmp_path):
    pixels = np.arange(24, dtype=np.int16).reshape(4, 6)
    save_slice(tmp_path / "negative.dcm", pixels, None, PhotometricInterpretation="MONOCHROME1")
    save_slice(tmp_path / "picture.dcm", pixels[::-1, ::-1], None)
    negative, picture = (read_image(tmp_path / f"{name}.dcm").array for name in ("negative", "picture"))
    assert len(np.unique(negative - picture)) == 1  # the reader turns it round; where its zero lies does not matter


def test_slices_are_ordered_and_spaced_by_their_positions(tmp_path):
    volume = save_series(tmp_path / "ct", [-5, -2.5, 0, 2.5])
    image = read_image(tmp_path / "ct")
    np.testing.assert_array_equal(image.array[0], volume)
    assert image.array.dtype.kind == "i"
    assert image.modality == "CT"
    assert image.geometry.spacing == (2.5, 0.5, 0.25)
    np.testing.assert_allclose(np.array(image.geometry.affine) @ [0, 0, 0, 1], [-10, -20, -5, 1])
    np.testing.assert_allclose(np.array(image.geometry.affine) @ [3, 2, 4, 1], [-11, -21, 2.5, 1])
    assert read_geometry(tmp_path / "ct") == image.geometry


def test_a_tilted_gantry_shears_the_volume(tmp_path):
    save_series(tmp_path / "ct", [0, 2, 4], ImageOrientationPatient=list(TILTED))
    affine = np.array(read_geometry(tmp_path / "ct").affine)
    np.testing.assert_allclose(affine[:3, 0], [0, 0, 2])
    np.testing.assert_allclose(affine[:3, 1], [0, -0.4, 0.3])


def test_series_of_one_folder_are_told_apart(tmp_path):
    first = save_series(tmp_path / "ct", [0, 1, 2], "1.2.1")
    save_series(tmp_path / "ct", [0, 3], "1.2.2", SeriesDescription="thick")
    (tmp_path / "ct" / "notes.txt").write_text("hello")
    assert [(s.uid, s.description, s.modality, len(s.files)) for s in series_in(tmp_path / "ct")] == [
        ("1.2.1", "abdomen", "CT", 3),
        ("1.2.2", "thick", "CT", 2),
    ]
    with pytest.raises(DataError, match=r"2 series: '1\.2\.1'.*'1\.2\.2'.*thick"):
        read_image(tmp_path / "ct")
    np.testing.assert_array_equal(read_image(f"{tmp_path / 'ct'}::1.2.1").array[0], first)
    with pytest.raises(DataError, match=r"no series '9'.*1\.2\.1"):
        read_image(f"{tmp_path / 'ct'}::9")


def test_a_segmentation_beside_a_series_is_no_second_series(tmp_path):
    volume = save_series(tmp_path / "ct", [0, 1, 2])
    save_slice(tmp_path / "ct" / "seg.dcm", volume[0], 0, "9.9", Modality="SEG", SOPClassUID=SegmentationStorage)
    assert read_image(tmp_path / "ct").array.shape == (1, 3, 4, 6)
    with pytest.raises(DataError, match="modality SEG, not an image"):
        read_image(tmp_path / "ct" / "seg.dcm")


def test_a_missing_slice_is_refused(tmp_path):
    save_series(tmp_path / "ct", [0, 2, 4, 8, 10])
    with pytest.raises(DataError, match=r"2 mm apart, but 4 mm between \S+dcm and \S+dcm.*missing"):
        read_image(tmp_path / "ct")


def test_rounded_positions_are_even(tmp_path):
    save_series(tmp_path / "ct", [0, 0.33, 0.67, 1.0, 1.33])
    assert read_geometry(tmp_path / "ct").spacing[0] == pytest.approx(0.3325)


def test_two_slices_at_one_place_are_refused(tmp_path):
    save_series(tmp_path / "ct", [0, 2, 2, 4])
    with pytest.raises(DataError, match=r"1 of 4 slices lie where another does.*phases"):
        read_image(tmp_path / "ct")


def test_slices_in_several_directions_or_sizes_are_refused(tmp_path):
    save_series(tmp_path / "ct", [0, 2])
    save_slice(tmp_path / "ct" / "other.dcm", np.zeros((4, 6)), 4, ImageOrientationPatient=[0, 1, 0, 0, 0, 1])
    with pytest.raises(DataError, match="several directions"):
        read_image(tmp_path / "ct")
    save_slice(tmp_path / "ct" / "other.dcm", np.zeros((5, 6)), 4)
    with pytest.raises(DataError, match="4x6, 5x6"):
        read_image(tmp_path / "ct")


def test_slices_without_positions_follow_their_numbers_and_lie_nowhere(tmp_path):
    for number in range(3):
        save_slice(tmp_path / f"{9 - number}.dcm", np.full((4, 6), number), None, InstanceNumber=number + 1)
    image = read_image(tmp_path)
    assert image.geometry.affine is None
    assert image.array[0, :, 0, 0].tolist() == [-1000, -999, -998]
    save_slice(tmp_path / "x.dcm", np.zeros((4, 6)), 1.0)
    with pytest.raises(DataError, match=r"3 of 4 slices .* no position"):
        read_image(tmp_path)


def test_one_file_is_a_picture(tmp_path):
    save_slice(tmp_path / "one.dcm", np.zeros((4, 6)), 7)
    image = read_image(tmp_path / "one.dcm")
    assert image.array.shape == (1, 4, 6)
    assert image.geometry.spacing == (0.5, 0.25)


def test_frames_of_one_file_are_ordered_by_their_own_positions(tmp_path):
    frames = []
    for z in (4, 0, 2):
        position, plane = pydicom.Dataset(), pydicom.Dataset()
        position.ImagePositionPatient = [0, 0, z]
        plane.PlanePositionSequence = [position]
        frames.append(plane)
    pixels = np.repeat(np.array([4, 0, 2])[:, None], 24, axis=1).reshape(12, 6)
    save_slice(
        tmp_path / "frames.dcm",
        pixels,
        0,
        Rows=4,
        NumberOfFrames=3,
        PerFrameFunctionalGroupsSequence=frames,
    )
    image = read_image(tmp_path / "frames.dcm")
    assert (image.array[0, :, 0, 0] + 1000).tolist() == [0, 2, 4]
    assert image.geometry.spacing == (2, 0.5, 0.25)


def test_a_folder_without_images_and_a_broken_file_are_named(tmp_path):
    with pytest.raises(DataError, match="no DICOM image"):
        read_image(tmp_path)
    (tmp_path / "broken.dcm").write_bytes(bytes(128) + b"DICM\x02\x00")
    with pytest.raises(DataError, match="broken"):
        read_image(tmp_path / "broken.dcm")


def test_a_mask_of_a_series_lies_on_its_grid(tmp_path):
    save_series(tmp_path / "ct", [-5, -2.5, 0, 2.5])
    mask = np.random.default_rng(0).integers(0, 3, (4, 4, 6)).astype(np.uint8)
    write_mask(tmp_path / "mask.nii.gz", mask, tmp_path / "ct")
    back, geometry = read_mask(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(back, mask)
    assert read_geometry(tmp_path / "ct").differences(geometry) is None
    header = nib.load(tmp_path / "mask.nii.gz").header
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"


def test_a_sheared_grid_gets_no_qform_that_contradicts(tmp_path):
    save_series(tmp_path / "ct", [0, 2, 4], ImageOrientationPatient=list(TILTED))
    write_mask(tmp_path / "mask.nii.gz", np.zeros((3, 4, 6), np.uint8), tmp_path / "ct")
    assert read_geometry(tmp_path / "ct").differences(read_geometry(tmp_path / "mask.nii.gz")) is None
    assert int(nib.load(tmp_path / "mask.nii.gz").header["qform_code"]) == 0


# Real series


def test_the_real_jpeg_2000_series_is_two_mm_apart_though_its_slices_are_three_thick(shared_data):
    folder = shared_data("dicom/ct20_j2k_series")
    assert pydicom.dcmread(next(folder.iterdir()), stop_before_pixels=True).SliceThickness == 3
    image = read_image(folder)
    assert image.geometry.spacing == (2, 0.9765625, 0.9765625)
    assert image.array.shape == (1, 20, 512, 512)
    assert (image.array.min(), image.modality) == (-1024, "CT")
    assert np.ptp(image.array[0].reshape(20, -1).astype(int), axis=1).min() > 1000


def test_a_real_series_is_read_in_order(shared_data):
    slices, _ = stack(find_series(shared_data("dicom/ct3_series")))
    assert [Path(piece.file).name for piece in slices] == ["03.dcm", "02.dcm", "01.dcm"]
    image = read_image(shared_data("dicom/ct3_series"))
    assert image.geometry.spacing == pytest.approx((1, 0.810547, 0.810547))
    _, geometry = read_mask(shared_data("dicom/ct3_seg_nrrd/liver_seg.nrrd"))
    assert image.geometry.differences(geometry) is None


def test_a_real_folder_of_a_slice_and_its_segmentations_is_one_series(shared_data):
    folder = shared_data("dicom/highdicom")
    assert sorted(series.modality for series in series_in(folder)) == ["CT", "SEG", "SEG", "SEG", "SEG", "SEG"]
    assert read_image(folder).array.shape == (1, 128, 128)


def test_a_mask_of_a_real_series_lies_on_its_grid(shared_data, tmp_path):
    folder = shared_data("dicom/ct17_small_series")
    mask = np.random.default_rng(0).integers(0, 3, (17, 128, 88)).astype(np.uint8)
    write_mask(tmp_path / "mask.nii.gz", mask, folder)
    back, geometry = read_mask(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(back, mask)
    assert read_geometry(folder).differences(geometry) is None


@pytest.mark.parametrize(
    ("compressor", "syntax"), [("JPEG", "1.2.840.10008.1.2.4.70"), ("JPEG2000", "1.2.840.10008.1.2.4.90")]
)
def test_lossless_compression_is_decoded(tmp_path, compressor, syntax):
    pixels = np.random.default_rng(0).integers(0, 4000, (32, 48)).astype(np.uint16)
    writer = sitk.ImageFileWriter()
    writer.SetFileName(tmp_path / "packed.dcm")
    writer.SetCompressor(compressor)
    writer.UseCompressionOn()
    writer.Execute(sitk.GetImageFromArray(pixels))
    assert pydicom.dcmread(tmp_path / "packed.dcm").file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(read_image(tmp_path / "packed.dcm").array[0], pixels)
