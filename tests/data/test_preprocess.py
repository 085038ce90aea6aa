"""To the working grid and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nextmask.data.preprocess import (
    Placement,
    Preprocessing,
    derive,
    mask_to_image,
    mask_to_working,
    place,
    resize,
    to_working,
)
from nextmask.data.scan import Scan


def scanned(
    shape: tuple[int, ...] = (10, 200, 240), spacing: tuple[float, ...] | None = (8.0, 1.5, 1.5), **found: Any
) -> Scan:
    """What `scan_case` would have found in an image of this shape; its content fills it unless said otherwise."""
    affine = None if spacing is None else tuple(map(tuple, np.diag([*spacing, 1.0]).tolist()))
    usual = {
        "modality": "MR",
        "minimum": (0.0,),
        "maximum": (900.0,),
        "mean": (100.0,),
        "std": (50.0,),
        "percentiles": ((0.0, 1.0, 90.0, 500.0, 600.0),),
        "content_box": ((0,) * len(shape), shape),
    }
    return Scan("case", "", shape=shape, affine=affine, **{**usual, **found})


def plain(shape: tuple[int, ...], working: tuple[int, ...]) -> Placement:
    return Placement(shape, (0,) * len(shape), shape, working)


def test_slices_are_brought_to_one_spacing_and_keep_their_slice_axis():
    scans = [
        scanned(),
        scanned(shape=(12, 400, 480), spacing=(5.0, 0.75, 0.75)),
    ]
    derived = derive(scans, planar=True, limit=120)
    assert derived.spacing == (0.0, 3.0, 3.0)
    assert [place(derived, scan, planar=True).working for scan in scans] == [(10, 100, 120), (12, 100, 120)]


def test_images_are_not_enlarged():
    assert derive([scanned()], planar=True, limit=1000).spacing == (0.0, 1.5, 1.5)


def test_thick_slices_of_a_volume_keep_their_thickness():
    assert derive([scanned()], planar=False, limit=80).spacing == (8.0, 4.5, 4.5)


def test_unknown_spacing_of_like_grids_gives_one_zoom():
    scans = [scanned(spacing=None), scanned(spacing=None, shape=(9, 240, 200))]
    derived = derive(scans, planar=True, limit=120)
    assert derived.zoom is not None
    assert derived.zoom[0] == 1.0
    assert derived.zoom[1] == derived.zoom[2] == pytest.approx(120 / 220)


def test_unknown_spacing_of_unlike_grids_scales_each_to_one_longest_side():
    scans = [
        scanned(spacing=None),
        scanned(spacing=None, shape=(9, 512, 400)),
    ]
    derived = derive(scans, planar=True, limit=128)
    assert derived.longest == 128
    assert place(derived, scans[1], planar=True).working == (9, 128, 100)


@pytest.mark.parametrize("planar", [True, False])
def test_a_field_of_view_spends_the_voxels_on_the_centre(planar):
    derived = derive([scanned(spacing=(1.5, 1.5, 1.5), shape=(40, 200, 240))], planar=planar, limit=120, field=0.5)
    assert derived.spacing == (0.0 if planar else 1.5, 1.5, 1.5)
    where = place(derived, scanned(spacing=(1.5, 1.5, 1.5), shape=(40, 200, 240)), planar=planar)
    assert (where.start, where.stop, where.working) == ((0, 50, 60), (40, 150, 180), (40, 100, 120))
    assert Preprocessing.from_json(derived.to_json()) == derived


@pytest.mark.parametrize("others", [(9, 240, 200), (9, 512, 400)])
def test_a_field_of_view_of_unknown_spacing(others):
    scans = [scanned(spacing=None), scanned(spacing=None, shape=others)]
    derived = derive(scans, planar=True, limit=60, field=0.5)
    for scan in scans:
        longest = max(place(derived, scan, planar=True).working)
        assert longest == pytest.approx(60, abs=60 * 20 / 240)


def test_a_field_of_view_and_a_border_are_both_cut_and_a_box_beside_the_field_gives_way():
    whole = Preprocessing("percentiles", zoom=(1, 1), crop=True, field=0.5)
    where = place(whole, scanned((100, 100), None, content_box=((40, 0), (100, 60))), planar=True)
    assert (where.start, where.stop) == ((40, 25), (75, 60))
    where = place(whole, scanned((100, 100), None, content_box=((0, 0), (20, 100))), planar=True)
    assert (where.start, where.stop) == ((25, 25), (75, 75))
    tiny = place(Preprocessing("percentiles", zoom=(1, 1), field=0.01), scanned((9, 9), None), planar=True)
    assert tiny.kept == (1, 1)


def test_what_lies_outside_the_field_of_view_comes_back_as_background():
    where = place(Preprocessing("percentiles", zoom=(1, 1), field=0.5), scanned((8, 8), None), planar=True)
    foreground = np.stack([np.zeros(where.working), np.ones(where.working)])
    found = mask_to_image(foreground, where)
    assert found.shape == (8, 8)
    assert found[2:6, 2:6].all()
    assert found.sum() == 16


def test_intensity_follows_the_modality():
    assert derive([scanned()], planar=True, limit=128).intensity == "percentiles"
    picture = scanned(
        shape=(60, 80),
        spacing=None,
        modality="",
        rgb=True,
        mean=(1.0, 2.0, 3.0),
        std=(9.0,) * 3,
        content_box=((0, 0), (60, 80)),
    )
    assert derive([picture], planar=True, limit=128).intensity == "rgb"
    ct = scanned(modality="CT", percentiles=((-1024.0, -1000.0, 0.0, 300.0, 400.0),))
    assert derive([ct], planar=True, limit=128).low == (-1000.0,)
    assert derive([ct], planar=True, limit=128, window=(-160, 240)).high == (240,)


def test_hounsfield_units_are_known_without_a_header():
    air_and_bone = scanned(modality="", percentiles=((-1000.0, -990.0, 0.0, 300.0, 400.0),), maximum=(1500.0,))
    assert derive([air_and_bone], planar=True, limit=128).intensity == "ct"
    assert derive([scanned(modality="")], planar=True, limit=128).intensity == "percentiles"


def test_magnetic_resonance_intensities_are_normalised_image_by_image():
    rng = np.random.default_rng(0)
    image = rng.normal(0, 1, (1, 8, 40, 40)).astype(np.float32)
    where = plain((8, 40, 40), (8, 40, 40))
    dim, bright = (to_working(image * scale + 7, Preprocessing("percentiles"), where) for scale in (3, 1_000_000))
    assert np.allclose(dim, bright, atol=5e-3)
    assert abs(float(dim.astype(np.float64).mean())) < 0.01
    assert float(dim.astype(np.float64).std()) == pytest.approx(1, abs=0.01)


def test_a_constant_image_becomes_zeros_not_nan():
    out = to_working(np.full((1, 4, 8, 8), 5, np.int16), Preprocessing("percentiles"), plain((4, 8, 8), (4, 8, 8)))
    assert (out == 0).all()


def test_a_constant_border_is_cropped_and_comes_back_as_background():
    scan = scanned(content_box=((1, 50, 60), (9, 150, 180)))
    derived = derive([scan], planar=False, limit=500)
    assert derived.crop
    where = place(derived, scan, planar=False)
    assert where.working == (8, 100, 120)
    label = mask_to_image(np.stack([np.zeros(where.working), np.ones(where.working)]), where)
    assert label.shape == scan.shape
    assert label[where.box].all()
    assert label.sum() == 8 * 100 * 120


def test_planar_samples_keep_every_slice_when_cropped():
    scan = scanned(content_box=((3, 50, 60), (7, 150, 180)))
    assert place(derive([scan], planar=True, limit=500), scan, planar=True).working[0] == 10


def test_a_mask_survives_the_round_trip_through_a_grid_of_its_own_size():
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 4, (6, 20, 20)).astype(np.uint8)
    where = plain((6, 20, 20), (6, 20, 20))
    assert (mask_to_working(mask, where) == mask).all()
    assert (mask_to_image(np.eye(4)[mask].transpose(3, 0, 1, 2), where) == mask).all()


@pytest.mark.parametrize("working", [(6, 20, 20), (6, 10, 20)])
def test_probabilities_stay_what_they_are_where_a_mask_is_made_of_them(working):
    drawn = np.random.default_rng(0).dirichlet(np.ones(4), working).astype(np.float32)
    probabilities = np.ascontiguousarray(drawn.transpose(3, 0, 1, 2))
    before = probabilities.copy()
    first, second = (mask_to_image(probabilities, plain((6, 20, 20), working)) for _ in range(2))
    np.testing.assert_array_equal(probabilities, before)
    np.testing.assert_array_equal(first, second)


def test_a_large_organ_survives_half_the_resolution():
    _, y, x = np.mgrid[:10, :64, :64]
    mask = ((y - 30) ** 2 + (x - 34) ** 2 < 400).astype(np.uint8)
    where = plain((10, 64, 64), (10, 32, 32))
    small = mask_to_working(mask, where)
    back = mask_to_image(np.stack([small == 0, small == 1]).astype(np.float32), where)
    assert 2 * (back & mask).sum() / (back.sum() + mask.sum()) > 0.97


def test_a_thin_scribble_keeps_its_course_on_a_coarser_grid():
    mask = np.full((40, 40), 255, np.uint8)
    mask[21, 4:36] = 2
    mask[5, 5] = 0
    small = mask_to_working(mask, plain((40, 40), (20, 20)))
    assert (small[10, 2:18] == 2).all()
    assert small[2, 2] == 0
    assert (small != 255).sum() == 17


def test_what_is_not_annotated_never_becomes_background():
    mask = np.full((9, 9), 255, np.uint8)
    assert (mask_to_working(mask, plain((9, 9), (4, 4))) == 255).all()


@pytest.mark.parametrize("kernel", ["linear", "area"])
@pytest.mark.parametrize("shape", [(5,), (10,), (13,), (31,)])
def test_resampling_keeps_constants_and_the_mean(kernel, shape):
    assert np.allclose(resize(np.full(10, 3.0, np.float32), shape, kernel=kernel), 3, atol=1e-6)
    ramp = np.arange(10, dtype=np.float32)
    assert resize(ramp, shape, kernel=kernel).mean() == pytest.approx(4.5, abs=1e-4)


def test_shrinking_averages_instead_of_skipping():
    stripes = np.tile([0.0, 1.0], 32).astype(np.float32)
    assert np.abs(resize(stripes, (16,)) - 0.5)[1:-1].max() < 0.05


@pytest.mark.parametrize(("planar", "shape"), [(True, (9, 60, 40)), (False, (9, 60, 40)), (True, (60, 40))])
def test_coordinates_say_where_a_voxel_lies_in_the_whole_image(planar, shape):
    axes = ("z", "x") if len(shape) == 3 else ("x",)
    derived = derive([scanned(shape, None)], planar=planar, limit=20, field=0.5, coordinates=axes)
    assert Preprocessing.from_json(derived.to_json()) == derived
    where = place(derived, scanned(shape, None), planar=planar)
    out = to_working(np.random.default_rng(0).normal(size=(2, *shape)), derived, where).astype(float)
    assert out.shape == (2 + len(axes), *where.working)
    for axis, plane in zip(axes, out[2:], strict=True):
        along = np.moveaxis(plane, "zyx".index(axis) - 3, 0)
        assert np.ptp(along.reshape(len(along), -1), axis=1).max() == 0
        first = along.reshape(len(along), -1)[:, 0]
        assert np.allclose(np.diff(first), np.diff(first)[0], atol=0.01)
        assert first[0] == pytest.approx(-first[-1], abs=0.01)
        # The field of view holds the middle half of x, and all of z: the mean is that of the whole image.
        assert first[-1] == pytest.approx(np.sqrt(3) * (0.5 if axis == "x" else 1) * (1 - 1 / len(first)), rel=0.01)


def test_without_coordinates_keys_of_caches_stay_as_they_were():
    assert "coordinates" not in derive([scanned()], planar=True, limit=128).to_json()
