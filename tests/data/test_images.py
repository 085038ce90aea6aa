"""Images are read as they are, and masks come back bit for bit on the image's own grid."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest
import SimpleITK as sitk

from nextmask.data.images import (
    Geometry,
    mask_suffix,
    read_channels,
    read_geometry,
    read_image,
    read_labels,
    read_mask,
    suffix_of,
    write_mask,
)
from nextmask.errors import DataError

GEOMETRY_FIELDS = (
    "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z",
    "srow_x", "srow_y", "srow_z", "xyzt_units",
)  # fmt: skip

OBLIQUE = np.array([[-0.46, -0.38, 2.84, 131.8], [-0.51, 0.06, -3.53, 189.4], [-0.23, 0.62, 2.1, -97.8], [0, 0, 0, 1]])


def numbers(*shape: int, high: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, shape).astype(np.uint8)


def save_nifti(path: Path, array_xyz: np.ndarray, affine: np.ndarray | None) -> Path:
    nib.save(nib.Nifti1Image(array_xyz, affine), path)
    return path


def check_round_trip(source: Path, folder: Path) -> None:
    """Write a random mask twice; the bytes agree, the values come back, the grid is the image's."""
    geometry = read_geometry(source)
    mask = numbers(*geometry.shape)
    path = folder / f"mask{mask_suffix(source)}"
    write_mask(path, mask, source)
    first = hashlib.sha256(path.read_bytes()).hexdigest()
    write_mask(path, mask, source)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == first
    assert path.suffix != ".gz" or path.read_bytes()[4:8] == bytes(4)  # no time stamp
    back, its_geometry = read_mask(path)
    np.testing.assert_array_equal(back, mask)
    assert back.dtype == np.uint8
    assert geometry.differences(its_geometry) is None


def check_same_header(source: Path, mask: Path) -> None:
    expected, found = nib.load(source).header, nib.load(mask).header
    for field in GEOMETRY_FIELDS:
        assert expected[field].tobytes() == found[field].tobytes(), field
    assert found.get_data_dtype() == np.uint8
    assert found.get_slope_inter() in [(1.0, 0.0), (None, None)]


# NIfTI


def test_axes_are_z_y_x_and_world_is_ras(tmp_path):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = read_image(save_nifti(tmp_path / "a.nii.gz", array, np.diag([2.0, 3.0, 5.0, 1.0])))
    assert image.array.shape == (1, 4, 3, 2)
    assert image.array.dtype == np.int16
    assert image.array[0, 3, 2, 1] == array[1, 2, 3]
    assert image.geometry.spacing == (5, 3, 2)
    assert str(image.geometry) == "2x3x4 voxels (x, y, z), 2x3x5 mm, origin (0.00, 0.00, 0.00), axes RAS"
    assert read_geometry(tmp_path / "a.nii.gz") == image.geometry


def test_a_slope_is_applied_as_floats_and_a_whole_one_as_integers(tmp_path):
    raw = np.array([[[0], [3]], [[7], [-2]]], np.int16).repeat(2, axis=2)
    for slope, inter, kind in [(5.158, 0, np.float32), (1, -1024, np.int16), (20000, 1, np.int32)]:
        image = nib.Nifti1Image(raw, np.eye(4))
        image.header.set_slope_inter(slope, inter)
        image.to_filename(tmp_path / "s.nii")
        data = bytearray((tmp_path / "s.nii").read_bytes())
        data[-raw.nbytes :] = raw.tobytes(order="F")  # nibabel divides by the slope on its way out
        (tmp_path / "s.nii").write_bytes(bytes(data))
        found = read_image(tmp_path / "s.nii").array
        assert found.dtype == kind
        np.testing.assert_allclose(found[0], raw.T.astype(float) * slope + inter, rtol=1e-6)


@pytest.mark.parametrize("name", ["subject26_DE", "subject28_DE"])
def test_the_slope_of_real_images_is_applied(shared_data, name):
    path = shared_data(f"mscmr/images/{name}.nii.gz")
    np.testing.assert_allclose(read_image(path).array[0], nib.load(path).get_fdata(dtype=np.float32).T, rtol=1e-5)


def test_a_file_without_forms_does_not_know_where_it_lies(tmp_path):
    path = save_nifti(tmp_path / "lost.nii.gz", numbers(4, 5, 6), None)
    assert read_geometry(path).affine is None
    assert read_geometry(path).spacing is None
    assert str(read_geometry(path)) == "4x5x6 voxels (x, y, z), spacing and orientation unknown"


@pytest.mark.parametrize("name", ["acdc/images/patient001_frame01.nii.gz", "la/images/0RZDK210BSMWAA6467LU.nii.gz"])
def test_real_files_without_forms_do_not_know_where_they_lie(shared_data, name):
    assert read_geometry(shared_data(name)).affine is None


def test_the_sform_counts_where_both_forms_are_given(tmp_path):
    image = nib.Nifti1Image(numbers(4, 5, 6), np.diag([2.0, 2.0, 2.0, 1.0]))
    image.set_qform(np.diag([3.0, 3.0, 3.0, 1.0]), code=1)
    image.set_sform(np.diag([2.0, 2.0, 2.0, 1.0]), code=1)
    nib.save(image, tmp_path / "two.nii")
    assert read_geometry(tmp_path / "two.nii").spacing == (2, 2, 2)


def test_micrometres_become_millimetres(tmp_path):
    image = nib.Nifti1Image(numbers(4, 5, 6), np.diag([500.0, 500.0, 2000.0, 1.0]))
    image.header.set_xyzt_units("micron")
    nib.save(image, tmp_path / "micro.nii")
    assert read_geometry(tmp_path / "micro.nii").spacing == pytest.approx((2, 0.5, 0.5))


def test_the_fourth_axis_is_channels_unless_it_is_one(tmp_path):
    four = numbers(4, 5, 6, 3)
    image = read_image(save_nifti(tmp_path / "four.nii.gz", four, np.eye(4)))
    assert image.array.shape == (3, 6, 5, 4)
    np.testing.assert_array_equal(image.array[2], four[..., 2].T)
    assert read_image(save_nifti(tmp_path / "one.nii.gz", four[..., :1], np.eye(4))).array.shape == (1, 6, 5, 4)


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 1)])
def test_one_slice_is_a_picture(tmp_path, shape):
    path = save_nifti(tmp_path / "flat.nii.gz", numbers(*shape), np.diag([2.0, 3.0, 9.0, 1.0]))
    image = read_image(path)
    assert image.array.shape == (1, 4, 5)
    assert image.geometry.spacing == (3, 2)
    check_round_trip(path, tmp_path)


def test_big_endian_and_double_precision_files_come_as_native_float32(tmp_path):
    image = nib.Nifti1Image(np.linspace(0, 1, 60).reshape(3, 4, 5), np.eye(4), nib.Nifti1Header(endianness=">"))
    image.set_data_dtype(np.float64)
    nib.save(image, tmp_path / "big.nii")
    array = read_image(tmp_path / "big.nii").array
    assert array.dtype == np.dtype("=f4")
    np.testing.assert_allclose(array[0], np.linspace(0, 1, 60).reshape(3, 4, 5).T, rtol=1e-6)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("codes", [(0, 0), (1, 0), (0, 2), (1, 1)])
def test_a_mask_keeps_the_header_of_an_oblique_image_bit_for_bit(tmp_path, suffix, codes):
    image = nib.Nifti1Image(np.full((4, 5, 6), 1000.5, np.float32), OBLIQUE)
    image.set_qform(OBLIQUE, code=codes[0])
    image.set_sform(OBLIQUE, code=codes[1])
    image.header["cal_max"] = 900
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"the patient's name"))
    nib.save(image, tmp_path / f"image{suffix}")
    check_round_trip(tmp_path / f"image{suffix}", tmp_path)
    written = tmp_path / "mask.nii.gz"
    check_same_header(tmp_path / f"image{suffix}", written)
    assert nib.load(written).header["cal_max"] == 0
    assert b"patient's name" not in gzip.decompress(written.read_bytes())


@pytest.mark.parametrize(
    "name",
    [
        *(f"mscmr/images/subject{number}_DE.nii.gz" for number in ("06", "16", "24", "26", "28", "41")),
        "acdc/images/patient001_frame01.nii.gz",
        "la/images/0RZDK210BSMWAA6467LU.nii.gz",
        "misc/spinal_cord/t2s_uncropped_image.nii.gz",
        "brats_sample/brats_2013_pat0005_1/Flair_subtrMeanDivStd.nii.gz",
    ],
)
def test_a_mask_keeps_the_header_of_real_images_bit_for_bit(shared_data, tmp_path, name):
    check_round_trip(shared_data(name), tmp_path)
    check_same_header(shared_data(name), tmp_path / "mask.nii.gz")


def test_a_mask_of_a_wrong_shape_or_type_is_refused_with_both_grids(tmp_path):
    path = save_nifti(tmp_path / "a.nii.gz", numbers(4, 5, 6), np.eye(4))
    with pytest.raises(DataError, match=r"\(4, 5, 6\).*4x5x6 voxels"):
        write_mask(tmp_path / "m.nii.gz", numbers(4, 5, 6), path)
    with pytest.raises(DataError, match="float64"):
        write_mask(tmp_path / "m.nii.gz", np.zeros((6, 5, 4)), path)
    assert not (tmp_path / "m.nii.gz").exists()


def test_a_format_that_loses_labels_is_refused(tmp_path):
    PIL.Image.fromarray(numbers(8, 9)).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"\.jpg.*keep every value"):
        write_mask(tmp_path / "mask.jpg", numbers(8, 9), tmp_path / "a.jpg")


# NRRD and MetaImage


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_nrrd_and_mha_lie_where_the_nifti_lies(tmp_path, suffix):
    save_nifti(tmp_path / "a.nii.gz", numbers(4, 5, 6), np.diag([-1.5, 2.0, 2.5, 1.0]))
    sitk.WriteImage(sitk.ReadImage(tmp_path / "a.nii.gz"), tmp_path / f"b{suffix}")
    assert read_geometry(tmp_path / "a.nii.gz").differences(read_geometry(tmp_path / f"b{suffix}")) is None
    np.testing.assert_array_equal(read_image(tmp_path / "a.nii.gz").array, read_image(tmp_path / f"b{suffix}").array)
    check_round_trip(tmp_path / f"b{suffix}", tmp_path)


def test_a_real_nrrd_keeps_its_geometry(shared_data, tmp_path):
    path = shared_data("misc/nrrd/brain1_image.nrrd")
    check_round_trip(path, tmp_path)
    original, written = sitk.ReadImage(path), sitk.ReadImage(tmp_path / "mask.nrrd")
    assert original.GetDirection() == written.GetDirection()
    assert original.GetOrigin() == written.GetOrigin()
    assert original.GetSpacing() == written.GetSpacing()


def test_vector_pixels_are_channels(tmp_path):
    array = numbers(6, 5, 4, 3)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), tmp_path / "v.nrrd")
    image = read_image(tmp_path / "v.nrrd")
    np.testing.assert_array_equal(image.array, np.moveaxis(array, -1, 0))
    assert not image.rgb
    check_round_trip(tmp_path / "v.nrrd", tmp_path)


def test_a_flat_nrrd_is_a_picture_with_a_spacing(tmp_path):
    image = sitk.GetImageFromArray(numbers(5, 4))
    image.SetSpacing((0.5, 0.25))
    sitk.WriteImage(image, tmp_path / "flat.nrrd")
    assert read_geometry(tmp_path / "flat.nrrd").spacing == (0.25, 0.5)
    check_round_trip(tmp_path / "flat.nrrd", tmp_path)


def test_a_nrrd_that_says_no_spacing_has_none(tmp_path):
    header = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 3 2\nencoding: raw\n\n"
    (tmp_path / "bare.nrrd").write_bytes(header.encode() + bytes(range(24)))
    assert read_geometry(tmp_path / "bare.nrrd") == Geometry((2, 3, 4), None)


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_mask_of_a_nifti_can_be_written_in_another_format(tmp_path, suffix):
    path = save_nifti(tmp_path / "a.nii.gz", numbers(4, 5, 6), np.diag([-1.5, 2.0, 2.5, 1.0]))
    mask = numbers(6, 5, 4)
    write_mask(tmp_path / f"m{suffix}", mask, path)
    back, geometry = read_mask(tmp_path / f"m{suffix}")
    np.testing.assert_array_equal(back, mask)
    assert read_geometry(path).differences(geometry) is None


# Pictures


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif"])
def test_grey_pictures_come_as_one_channel(tmp_path, suffix):
    PIL.Image.fromarray(numbers(8, 9)).save(tmp_path / f"a{suffix}")
    image = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image.array[0], numbers(8, 9))
    assert image.geometry == read_geometry(tmp_path / f"a{suffix}") == Geometry((8, 9), None)
    assert not image.rgb
    check_round_trip(tmp_path / f"a{suffix}", tmp_path)


def test_colour_pictures_come_as_three_channels(tmp_path):
    PIL.Image.fromarray(numbers(8, 9, 3)).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.rgb
    np.testing.assert_array_equal(image.array, np.moveaxis(numbers(8, 9, 3), -1, 0))


def test_a_constant_alpha_is_dropped_and_a_varying_one_refused(tmp_path):
    array = numbers(8, 9, 4)
    PIL.Image.fromarray(array).save(tmp_path / "varies.png")
    with pytest.raises(DataError, match="transparency varies"):
        read_image(tmp_path / "varies.png")
    array[..., 3] = 255
    PIL.Image.fromarray(array).save(tmp_path / "opaque.png")
    np.testing.assert_array_equal(read_image(tmp_path / "opaque.png").array, np.moveaxis(array[..., :3], -1, 0))


@pytest.mark.parametrize(("kind", "suffix"), [("uint16", ".png"), ("uint16", ".tif"), ("float32", ".tif")])
def test_deep_pictures_keep_their_values(tmp_path, kind, suffix):
    array = (np.arange(72).reshape(8, 9) * 777).astype(kind)
    PIL.Image.fromarray(array).save(tmp_path / f"deep{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"deep{suffix}").array[0], array)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_a_colour_are_not_cut_to_eight(tmp_path, suffix):
    array = (np.arange(8 * 9 * 3).reshape(8, 9, 3) * 300).astype(np.uint16)
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), tmp_path / f"deep{suffix}")
    image = read_image(tmp_path / f"deep{suffix}")
    assert image.array.dtype == np.uint16
    np.testing.assert_array_equal(image.array, np.moveaxis(array, -1, 0))


def test_a_tiff_of_several_pages_is_a_volume(tmp_path):
    array = numbers(4, 8, 9)
    pages = [PIL.Image.fromarray(page) for page in array]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    image = read_image(tmp_path / "stack.tif")
    np.testing.assert_array_equal(image.array[0], array)
    assert image.geometry == read_geometry(tmp_path / "stack.tif") == Geometry((4, 8, 9), None)
    check_round_trip(tmp_path / "stack.tif", tmp_path)
    with pytest.raises(DataError, match=r"3-D mask cannot be written as \.png"):
        write_mask(tmp_path / "m.png", array, tmp_path / "stack.tif")


def test_a_photograph_is_turned_upright(tmp_path):
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(numbers(8, 9)).save(tmp_path / "turned.jpg", exif=exif, quality=100)
    assert read_image(tmp_path / "turned.jpg").array.shape == (1, 9, 8)
    assert read_geometry(tmp_path / "turned.jpg").shape == (9, 8)


def test_a_grey_palette_gives_what_a_viewer_shows_and_a_coloured_one_the_classes(tmp_path):
    indices = (numbers(8, 9) % 2).astype(np.uint8)
    picture = PIL.Image.fromarray(indices)
    picture = picture.convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette([0, 0, 0, 255, 255, 255])
    picture.save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "grey.png")[0], indices * 255)
    picture.putpalette([0, 0, 0, 128, 0, 0])
    picture.save(tmp_path / "coloured.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "coloured.png")[0], indices)
    assert read_image(tmp_path / "coloured.png").array.shape == (3, 8, 9)


def test_a_mask_of_one_bit_is_black_and_white(tmp_path):
    PIL.Image.fromarray(numbers(8, 9, high=2).astype(bool)).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "bits.png", {255: 1})[0], numbers(8, 9, high=2))


def test_the_real_gif_masks_are_black_and_white(shared_data):
    labels, geometry = read_labels(shared_data("fundus/drive/vessels_obs1/21.gif"))
    assert set(np.unique(labels)) == {0, 255}
    assert geometry.shape == read_geometry(shared_data("fundus/drive/images/21.tif")).shape == (584, 565)


# Channels


def test_channels_are_stacked_and_must_share_a_grid(tmp_path):
    one = save_nifti(tmp_path / "one.nii.gz", numbers(4, 5, 6), np.eye(4))
    two = save_nifti(tmp_path / "two.nii.gz", numbers(4, 5, 6).astype(np.int32), np.eye(4))
    image = read_channels([one, two])
    assert image.array.shape == (2, 6, 5, 4)
    moved = np.eye(4)
    moved[0, 3] = 0.5
    save_nifti(two, numbers(4, 5, 6), moved)
    with pytest.raises(DataError, match=r"two grids: .*origin \(0.00.*origin \(0.50"):
        read_channels([one, two])


def test_the_real_channels_are_stacked(shared_data):
    folder = shared_data("brats_sample/brats_2013_pat0005_1")
    image = read_channels([folder / "Flair_subtrMeanDivStd.nii.gz", folder / "T1c_subtrMeanDivStd.nii.gz"])
    assert image.array.shape == (2, 155, 240, 240)
    assert image.array.dtype == np.float32


# Geometry


def test_rounding_in_headers_is_no_difference_and_a_hundredth_of_a_voxel_is():
    shape, affine = (20, 512, 512), np.diag([1.0, 1.0, 1.0, 1.0])
    grid = Geometry(shape, tuple(map(tuple, affine)))
    for shift, same in [(0.005, True), (0.02, False)]:
        moved = affine.copy()
        moved[2, 3] = shift
        assert (grid.differences(Geometry(shape, tuple(map(tuple, moved)))) is None) == same
    scaled = np.diag([1.0, 1.0, 1.0001, 1.0])  # five hundredths of a voxel at the far end of 512
    assert grid.differences(Geometry(shape, tuple(map(tuple, scaled)))) is not None


def test_a_flipped_axis_is_a_difference_and_an_unknown_one_is_not():
    grid = Geometry((2, 3, 4), tuple(map(tuple, np.eye(4))))
    flipped = Geometry((2, 3, 4), tuple(map(tuple, np.diag([1.0, -1.0, 1.0, 1.0]))))
    assert "axes" in (grid.differences(flipped) or "")
    assert grid.differences(Geometry((2, 3, 4), None)) is None
    assert "4x3x2 voxels" in (grid.differences(Geometry((2, 3, 5), None)) or "")


def test_the_real_model_mask_of_the_ct_is_stored_upside_down(shared_data):
    image = read_geometry(shared_data("dicom/ct20_j2k_series"))
    _, mask = read_mask(shared_data("dicom/ct20_j2k_seg_model.nii.gz"))
    assert image.shape == mask.shape
    assert "LPS" in (image.differences(mask) or "")


# Masks


def test_codes_are_mapped_all_at_once(tmp_path):
    path = save_nifti(tmp_path / "m.nii.gz", np.array([[[0, 1, 2, 500]]], np.int16), np.eye(4))
    mask, _ = read_mask(path, {1: 2, 2: 1, 500: 255})
    assert mask.dtype == np.uint8
    assert mask.ravel().tolist() == [0, 2, 1, 255]


def test_values_that_are_no_class_are_refused_by_name(tmp_path):
    for values in ([0, 1, 500], [0, -3, 1]):
        path = save_nifti(tmp_path / "m.nii.gz", np.array([[values]], np.int16), np.eye(4))
        with pytest.raises(DataError, match=str(values[2] if values[2] > 255 else values[1])):
            read_mask(path)


def test_floats_are_fine_as_long_as_they_are_whole(tmp_path):
    whole = save_nifti(tmp_path / "w.nii.gz", np.array([[[0, 1, 2.0000002]]], np.float32), np.eye(4))
    assert read_mask(whole)[0].ravel().tolist() == [0, 1, 2]
    for broken in (0.5, np.nan, np.inf):
        path = save_nifti(tmp_path / "b.nii.gz", np.array([[[0, broken, 2]]], np.float32), np.eye(4))
        with pytest.raises(DataError, match="no whole numbers"):
            read_mask(path)


def test_real_float_masks_are_whole(shared_data):
    folder = shared_data("hippocampus/masks")
    floats = [path for path in folder.glob("*.nii.gz") if nib.load(path).get_data_dtype() == np.float32]
    assert floats
    assert all(set(np.unique(read_mask(path)[0])) == {0, 1, 2} for path in floats)


def test_a_real_mask_stored_as_scaled_integers_comes_back_whole(shared_data):
    path = shared_data("brats_sample/brats_2013_pat0005_1/brainmask.nii.gz")
    assert set(np.unique(read_mask(path)[0])) == {0, 1}


def test_a_mask_in_colour_is_taken_when_it_is_grey_and_refused_otherwise(tmp_path):
    grey = np.repeat(numbers(8, 9, 1, high=3), 3, axis=2)
    PIL.Image.fromarray(grey).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png")[0], grey[..., 0])
    PIL.Image.fromarray(numbers(8, 9, 3)).save(tmp_path / "m.png")
    with pytest.raises(DataError, match="3 channels that differ"):
        read_mask(tmp_path / "m.png")


# Bad files


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif", ".jpg", ".gif", ".dcm"])
@pytest.mark.parametrize("harm", ["cut", "noise", "empty"])
def test_a_broken_file_is_named_with_the_reason(tmp_path, suffix, harm, capfd):
    path = tmp_path / f"broken{suffix}"
    if suffix in (".nii", ".nii.gz"):
        save_nifti(path, numbers(30, 40, 5), np.eye(4))
    elif suffix in (".nrrd", ".mha"):
        sitk.WriteImage(sitk.GetImageFromArray(numbers(5, 40, 30)), path, useCompression=True)
    elif suffix != ".dcm":
        PIL.Image.fromarray(numbers(40, 30)).save(path)
    else:
        path.write_bytes(bytes(128) + b"DICM" + bytes(range(256)) * 4)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 3], "noise": bytes(numbers(500)), "empty": b""}[harm])
    with pytest.raises(DataError, match=r"broken\S* (cannot be read|is empty|holds no).*Expected") as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    if (suffix, harm) != (".mha", "cut"):  # there MetaIO writes past every switch
        assert capfd.readouterr().err == ""


def test_what_is_absent_or_of_no_known_format_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent\.nii\.gz is not there"):
        read_image(tmp_path / "absent.nii.gz")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"no format that can be read.*\.nii\.gz"):
        read_image(tmp_path / "notes.txt")


def test_a_file_without_voxels_is_refused(tmp_path):
    path = save_nifti(tmp_path / "none.nii", np.zeros((4, 0, 3), np.uint8), np.eye(4))
    with pytest.raises(DataError, match="no voxel"):
        read_image(path)


def test_complex_numbers_are_refused(tmp_path):
    path = save_nifti(tmp_path / "k.nii", np.ones((4, 3, 3), np.complex64), np.eye(4))
    with pytest.raises(DataError, match="complex"):
        read_image(path)


def test_the_ending_of_a_mask_follows_the_image(tmp_path):
    PIL.Image.fromarray(numbers(8, 9)).save(tmp_path / "a.jpg")
    assert mask_suffix(tmp_path / "a.jpg") == ".png"
    assert suffix_of("A.B.NII.GZ") == ".nii.gz"
    assert suffix_of("1.2.840.dcm") == ".dcm"
