"""The check names what is wrong with each file, says what to do, and never stops at the first."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import PIL.Image
import pytest

from nextmask.data import scan as scan_module
from nextmask.data.check import check_pool, duplicates
from nextmask.data.pool import Case
from nextmask.data.scan import PERCENTILES, Problem, Scan, fingerprint, scan_case
from nextmask.data.table import read_table

IMAGE = np.random.default_rng(0).integers(0, 900, (6, 7, 4)).astype(np.int16)
MASK = np.random.default_rng(1).integers(0, 3, (6, 7, 4)).astype(np.uint8)


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> str:
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return str(path)


def save_picture(path: Path, array: np.ndarray) -> str:
    PIL.Image.fromarray(array).save(path)
    return str(path)


def problems_of(scan: Scan) -> dict[str, Problem]:
    return {problem.kind: problem for problem in scan.problems}


def scan_masked(
    folder: Path,
    mask: np.ndarray,
    classes: int = 2,
    codes: Mapping[int, int] | None = None,
    affine: np.ndarray | None = None,
) -> Scan:
    case = Case("c", (save(folder / "i.nii.gz", IMAGE),), save(folder / "m.nii.gz", mask, affine))
    return scan_case(case, classes, codes)


# One case


def test_a_good_case_has_no_problem_and_true_numbers(tmp_path):
    scan = scan_masked(tmp_path, MASK)
    assert scan.problems == ()
    assert (scan.shape, scan.channels, scan.dtype, scan.rgb) == ((4, 7, 6), 1, "int16", False)
    assert (scan.minimum, scan.maximum) == ((IMAGE.min(),), (IMAGE.max(),))
    assert scan.mean[0] == pytest.approx(IMAGE.mean())
    assert scan.std[0] == pytest.approx(IMAGE.std())
    np.testing.assert_allclose(scan.percentiles[0], np.percentile(IMAGE, PERCENTILES))
    assert scan.fraction_at_minimum[0] == pytest.approx((IMAGE.min() == IMAGE).mean())
    assert scan.mask_values == {value: int((value == MASK).sum()) for value in range(3)}
    assert scan.scribble_values is None


def test_statistics_are_taken_channel_by_channel(tmp_path):
    two = (IMAGE * 2 + 5).astype(np.int16)
    case = Case("c", (save(tmp_path / "a.nii.gz", IMAGE), save(tmp_path / "b.nii.gz", two)))
    scan = scan_case(case, 1)
    assert scan.channels == 2
    assert scan.mean == pytest.approx((IMAGE.mean(), two.mean()))


def test_a_large_channel_is_measured_in_slabs_and_its_percentiles_on_a_fair_subsample(tmp_path, monkeypatch):
    columns = np.tile(np.arange(64, dtype=np.int16), (64, 64, 1))  # x alone says the value
    monkeypatch.setattr(scan_module, "_SAMPLE", 4096)  # every 64th voxel would be the same column
    scan = scan_case(Case("c", (save(tmp_path / "a.nii.gz", columns.T),)), 1)
    np.testing.assert_allclose(scan.percentiles[0], np.percentile(columns, PERCENTILES), atol=1)
    assert scan.std[0] == pytest.approx(columns.std())


def test_a_scan_survives_json(tmp_path):
    scan = scan_masked(tmp_path, MASK, affine=np.diag([2.0, 1, 1, 1]))
    assert scan.problems
    assert Scan.from_json(json.loads(json.dumps(scan.to_json()))) == scan


def test_all_broken_files_of_a_case_are_named_at_once(tmp_path):
    (tmp_path / "cut.nii.gz").write_bytes(Path(save(tmp_path / "a.nii.gz", IMAGE)).read_bytes()[:100])
    (tmp_path / "empty.nii.gz").touch()
    sources = [str(tmp_path / name) for name in ("cut.nii.gz", "empty.nii.gz", "absent.nii.gz")]
    scan = scan_case(Case("c", tuple(sources)), 1)
    assert [problem.kind for problem in scan.problems] == ["unreadable", "empty", "unreadable"]
    assert all(problem.severity == "error" and problem.spoils == "image" for problem in scan.problems)
    assert all(
        source in problem.message and problem.remedy for source, problem in zip(sources, scan.problems, strict=True)
    )
    assert scan.spoiled("image")
    assert scan.pixels == ""


def test_channels_on_two_grids_spoil_the_image(tmp_path):
    case = Case("c", (save(tmp_path / "a.nii.gz", IMAGE), save(tmp_path / "b.nii.gz", IMAGE, np.diag([2.0, 1, 1, 1]))))
    assert "two grids" in problems_of(scan_case(case, 1))["channel-grids"].message


def test_values_that_are_no_numbers_are_counted_by_kind(tmp_path):
    values = IMAGE.astype(np.float32)
    values[0, 0, :3], values[1, 0, 0], values[2, 0, :2] = np.nan, np.inf, -np.inf
    scan = scan_case(Case("c", (save(tmp_path / "a.nii.gz", values),)), 1)
    assert "3 NaN, 1 +inf, 2 -inf of 168 voxels" in problems_of(scan)["not-finite"].message
    assert scan.mean[0] == pytest.approx(values[np.isfinite(values)].mean())
    nothing = scan_case(Case("c", (save(tmp_path / "b.nii.gz", np.full((2, 3, 4), np.nan)),)), 1)
    assert "24 NaN" in problems_of(nothing)["not-finite"].message


def test_a_constant_image_is_an_error_and_a_constant_channel_a_warning(tmp_path):
    flat = save(tmp_path / "a.nii.gz", np.full_like(IMAGE, 7))
    assert problems_of(scan_case(Case("c", (flat,)), 1))["constant"].spoils == "image"
    scan = scan_case(Case("c", (save(tmp_path / "b.nii.gz", IMAGE), flat)), 1)
    assert problems_of(scan)["constant-channel"].severity == "warning"
    assert "channel 1" in problems_of(scan)["constant-channel"].message


def test_an_unknown_geometry_is_a_warning(tmp_path):
    scan = scan_case(Case("c", (save_picture(tmp_path / "a.png", MASK[..., 0]),)), 1)
    assert problems_of(scan)["geometry-unknown"].severity == "warning"
    assert not scan.spoiled("image")


@pytest.mark.parametrize("rim", [0, -1024, 255])
def test_the_content_box_leaves_the_rim_out(tmp_path, rim):
    array = np.full((8, 9, 10), rim, np.int16)
    array[2:5, 3:4, 1:10] = 100
    array[3, 3, 3] = -2000
    scan = scan_case(Case("c", (save(tmp_path / "a.nii.gz", array.T),)), 1)
    assert scan.content_box == ((2, 3, 1), (5, 4, 10))


def test_an_image_without_a_rim_is_all_content(tmp_path):
    assert scan_masked(tmp_path, MASK).content_box == ((0, 0, 0), (4, 7, 6))


# Masks


def test_a_mask_on_another_grid_is_unusable_and_the_image_is_not(tmp_path):
    scan = scan_masked(tmp_path, MASK, affine=np.diag([1.0, 1, 3, 1]))
    problem = problems_of(scan)["mask-grid"]
    assert "1x1x1 mm" in problem.message
    assert "1x1x3 mm" in problem.message
    assert (problem.spoils, scan.mask_values) == ("mask", None)
    assert scan.spoiled("mask")
    assert not scan.spoiled("image")


def test_values_that_are_no_class_are_named_with_their_counts(tmp_path):
    mask = MASK.astype(np.int16)
    mask[0, 0, 0], mask[1, 0, 0], mask[2, 0, 0] = 7, -1, 900
    problem = problems_of(scan_masked(tmp_path, mask))["mask-values"]
    assert "-1 (1 voxels), 7 (1 voxels), 900 (1 voxels)" in problem.message
    assert "Expected 0 to 2" in problem.message
    assert scan_masked(tmp_path, mask, codes={7: 1, -1: 255, 900: 2}).problems == ()


@pytest.mark.parametrize("code", [255, 128])
def test_a_black_and_white_mask_gets_the_codes_to_map_it(tmp_path, code):
    mask = ((MASK > 0) * code).astype(np.uint8)
    (problem,) = scan_masked(tmp_path, mask, classes=1).problems
    assert (problem.severity, problem.spoils) == ("error", "mask")
    assert f"--mask-code {code}=1" in problem.remedy
    good = scan_masked(tmp_path, mask, classes=1, codes={code: 1})
    assert good.problems == ()
    assert good.mask_values == {0: int((MASK == 0).sum()), 1: int((MASK > 0).sum())}


def test_whoever_says_that_255_is_not_annotated_is_believed(tmp_path):
    mask = ((MASK > 0) * 255).astype(np.uint8)
    assert [p.kind for p in scan_masked(tmp_path, mask, codes={255: 255}).problems] == ["mask-no-foreground"]


def test_a_mask_of_nothing_is_a_warning(tmp_path):
    assert [p.kind for p in scan_masked(tmp_path, MASK * 0).problems] == ["mask-no-foreground"]
    assert [p.kind for p in scan_masked(tmp_path, MASK * 0 + 255).problems] == ["mask-nothing"]
    assert not scan_masked(tmp_path, MASK * 0).spoiled("mask")


def test_a_jpeg_mask_is_called_lossy(tmp_path):
    image = save_picture(tmp_path / "i.png", (np.arange(900) % 256).astype(np.uint8).reshape(30, 30))
    mask = save_picture(tmp_path / "m.jpg", (np.random.default_rng(0).integers(0, 2, (30, 30)) * 255).astype(np.uint8))
    problem = problems_of(scan_case(Case("c", (image,), mask), 1, {255: 1}))["mask-values"]
    assert "JPEG" in problem.remedy


def test_fractions_and_broken_masks_spoil_only_the_mask(tmp_path):
    scan = scan_masked(tmp_path, (MASK * 0.5).astype(np.float32))
    assert problems_of(scan)["mask-unreadable"].spoils == "mask"
    (tmp_path / "m.nii.gz").write_bytes(b"")
    scan = scan_case(Case("c", (str(tmp_path / "i.nii.gz"),), str(tmp_path / "m.nii.gz")), 2)
    assert problems_of(scan)["mask-empty"].spoils == "mask"
    assert scan.pixels


# Scribbles


def scan_scribbled(folder: Path, scribble: np.ndarray, codes: Mapping[int, int] | None = None) -> Scan:
    image, mask = save(folder / "i.nii.gz", IMAGE), save(folder / "m.nii.gz", MASK)
    return scan_case(Case("c", (image,), mask, save(folder / "s.nii.gz", scribble)), 2, None, codes)


def test_an_unmapped_ignore_code_gets_the_codes_to_map_it(tmp_path):
    scribble = np.where(np.random.default_rng(2).random(MASK.shape) < 0.1, MASK, 4).astype(np.uint8)
    problem = problems_of(scan_scribbled(tmp_path, scribble))["scribble-values"]
    assert "--scribble-code 4=ignore" in problem.remedy
    assert problem.spoils == "scribble"
    good = scan_scribbled(tmp_path, scribble, {4: 255})
    assert good.problems == ()
    assert (good.scribble_values or {})[255] == (scribble == 4).sum()


def test_a_scribble_that_leaves_nothing_out_is_a_warning(tmp_path):
    assert "{0: 255}" in problems_of(scan_scribbled(tmp_path, MASK))["scribble-dense"].remedy


def test_a_scribble_that_contradicts_the_mask_is_counted(tmp_path):
    scribble = np.where(np.random.default_rng(2).random(MASK.shape) < 0.2, MASK, 255).astype(np.uint8)
    drawn = np.argwhere(scribble != 255)
    for index in drawn[:3]:
        scribble[tuple(index)] = (MASK[tuple(index)] + 1) % 3
    problem = problems_of(scan_scribbled(tmp_path, scribble))["scribble-contradicts"]
    assert problem.spoils == "none"
    assert f"3 of the {len(drawn)} voxels" in problem.message
    assert problem.severity == "warning"


def test_a_scribble_cannot_contradict_what_the_mask_leaves_out(tmp_path):
    scribble = np.where(np.random.default_rng(2).random(MASK.shape) < 0.2, MASK, 255).astype(np.uint8)
    partly = MASK.copy()
    partly[:3] = 255
    case = Case(
        "c",
        (save(tmp_path / "i.nii.gz", IMAGE),),
        save(tmp_path / "m.nii.gz", partly),
        save(tmp_path / "s.nii.gz", scribble),
    )
    assert scan_case(case, 2).problems == ()


# Fingerprints and duplicates


def test_a_fingerprint_changes_with_the_files_and_the_name_only(tmp_path):
    case = Case("c", (save(tmp_path / "i.nii.gz", IMAGE),))
    first = fingerprint(case)
    assert fingerprint(case) == first
    assert fingerprint(Case("other", case.images)) != first
    os.utime(tmp_path / "i.nii.gz", ns=(1, 1))
    assert fingerprint(case) != first


def test_a_fingerprint_sees_every_file_of_a_folder(tmp_path):
    (tmp_path / "ct").mkdir()
    (tmp_path / "ct" / "1.dcm").write_bytes(b"1")
    first = fingerprint(Case("c", (f"{tmp_path}/ct::1.2",)))
    (tmp_path / "ct" / "2.dcm").write_bytes(b"2")
    assert fingerprint(Case("c", (f"{tmp_path}/ct::1.2",))) != first


def test_equal_pixels_are_found_across_formats_and_types(tmp_path):
    image = IMAGE.copy()
    image[0, 0, 0] = 0
    whole = image.astype(np.float32)
    whole[0, 0, 0] = -0.0
    reshaped = image.T.reshape(4, 6, 7).T
    images = [image, whole, image.astype(np.int32), image + np.int16(1), reshaped]
    scans = [
        scan_case(Case(str(n), (save(tmp_path / f"{n}.nii{'.gz' * (n % 2)}", array),)), 1)
        for n, array in enumerate(images)
    ]
    assert duplicates(scans) == [("0", "1", "2")]


# The pool


def scans_of(*each: dict[str, object]) -> tuple[list[Case], list[Scan]]:
    base: dict[str, object] = {"shape": (4, 5, 6), "channels": 1, "affine": tuple(map(tuple, np.eye(4)))}
    names = "abcdefgh"
    cases = [Case(name, (f"{name}.nii",)) for name, _ in zip(names, each, strict=False)]
    return cases, [Scan(name, "", **{**base, "pixels": name, **one}) for name, one in zip(names, each, strict=False)]


def kinds(problems: Sequence[Problem]) -> list[str]:
    return [problem.kind for problem in problems]


def test_a_pool_of_one_kind_has_no_problem():
    assert check_pool(*scans_of({}, {}, {})) == []


def test_duplicates_say_whose_they_are_and_on_which_side():
    cases, scans = scans_of({"pixels": "x"}, {}, {"pixels": "x"})
    (problem,) = check_pool(cases, scans)
    assert (problem.kind, problem.severity, problem.where) == ("duplicate", "warning", "a, c")
    assert "2 patients: a, c" in problem.message
    assert "kept on one side" in problem.remedy
    (problem,) = check_pool(cases, scans, {"a": "pool", "b": "pool", "c": "test"})
    assert (problem.kind, problem.severity) == ("duplicate-on-two-sides", "error")


def test_a_patient_on_two_sides_is_named():
    cases = [Case("a1", ("x",), patient="p", split="pool"), Case("a2", ("y",), patient="p", split="test")]
    (problem,) = check_pool(cases, [])
    assert (problem.kind, problem.where) == ("patient-on-two-sides", "p")
    assert check_pool(cases, [], {"a1": "pool", "a2": "pool"}) == []


def test_mixed_pools_are_named_with_the_odd_ones():
    assert kinds(check_pool(*scans_of({}, {}, {"channels": 3}))) == ["mixed-channels"]
    (problem,) = check_pool(*scans_of({}, {"modality": "CT"}, {"modality": "CT"}, {"modality": "MR"}))
    assert (problem.kind, problem.where) == ("mixed-modality", "d")
    assert kinds(check_pool(*scans_of({}, {"affine": None}))) == ["mixed-geometry"]
    flat = {"shape": (5, 6), "affine": None}
    assert "mixed-dimensions" in kinds(check_pool(*scans_of({}, {}, flat)))
    colour = {**flat, "channels": 3, "rgb": True}
    assert kinds(check_pool(*scans_of(flat, flat, colour))) == ["mixed-channels", "mixed-colour"]


def test_very_different_spacing_is_named_with_both_ends():
    thick = {"affine": tuple(map(tuple, np.diag([8.0, 1, 1, 1])))}
    (problem,) = check_pool(*scans_of({}, {}, thick))
    assert (problem.kind, problem.where) == ("mixed-spacing", "a, c")
    assert "along z run from 1 mm (a) to 8 mm (c)" in problem.message


def test_unreadable_cases_do_not_count_as_mixed():
    broken = Problem("error", "unreadable", "c", "", "", "image")
    assert check_pool(*scans_of({}, {}, {"shape": (), "channels": 0, "problems": (broken,)})) == []


# Real data


def test_real_scribbles_contradict_as_often_as_the_table_says(shared_data):
    path = shared_data("acdc/cases.csv")
    with path.open(newline="") as stream:
        told = {row["case_id"]: int(row["scr_wrong"]) for row in csv.DictReader(stream)}
    for case in read_table(path).cases[:12]:
        problem = problems_of(scan_case(case, 3, None, {4: 255})).get("scribble-contradicts")
        assert (int(problem.message.split()[0]) if problem else 0) == told[case.id]


def test_the_real_exam_that_was_read_twice_is_found(shared_data):
    table = read_table(shared_data("acdc/cases.csv"))
    cases = [case for case in table.cases if case.patient in ("patient073", "patient074", "patient076")]
    scans = [scan_case(case, 3, None, {4: 255}) for case in cases]
    found = [problem for problem in check_pool(cases, scans) if problem.kind == "duplicate"]
    assert [problem.where for problem in found] == [
        "patient074_frame01, patient076_frame01",
        "patient074_frame12, patient076_frame12",
    ]
    assert "patient074, patient076" in found[0].message


def test_the_real_counts_of_voxels_agree_with_the_table(shared_data):
    for name, classes, columns, codes in [
        ("mscmr", 3, {}, {4: 255}),
        ("la", 1, {"patient": "scan_group"}, {}),
        ("hippocampus", 2, {}, {}),
    ]:
        for case in read_table(shared_data(f"{name}/cases.csv"), columns=columns).cases[:6]:
            scan = scan_case(case, classes, None, codes)
            values = scan.mask_values or scan.scribble_values or {}
            told = [int(n) for key, n in case.columns.items() if key.startswith(("vox_", "n_")) and "slices" not in key]
            assert sorted(n for n in told if n) == sorted(values.values())
            assert not [problem for problem in scan.problems if problem.severity == "error"]


def test_real_infinities_are_counted(shared_data):
    scan = scan_case(Case("mtr", (str(shared_data("misc/spinal_cord/mtr_with_inf_image.nii.gz")),)), 1)
    assert "633 -inf of 8000 voxels" in problems_of(scan)["not-finite"].message


def test_real_black_and_white_masks_need_codes(shared_data):
    case = read_table(shared_data("sunnybrook/cases.csv")).cases[0]
    assert "mask-white" in problems_of(scan_case(case, 1))
    scan = scan_case(case, 1, {255: 1})
    assert (scan.mask_values or {})[1] == int(case.columns["fg_pixels"])


def test_a_real_extreme_maximum_does_not_spoil_the_percentiles(shared_data):
    cases = read_table(shared_data("hippocampus/cases.csv")).cases
    extreme = max(cases, key=lambda case: float(case.columns["int_max"]))
    scan = scan_case(extreme, 2)
    assert scan.maximum[0] == pytest.approx(float(extreme.columns["int_max"]), rel=1e-4)
    assert scan.maximum[0] > 1_000_000
    assert np.isfinite(scan.std[0])


def test_the_real_flipped_model_mask_is_refused(shared_data):
    mask = str(shared_data("dicom/ct20_j2k_seg_model.nii.gz"))
    scan = scan_case(Case("ct20", (str(shared_data("dicom/ct20_j2k_series")),), mask), 117)
    assert "axes LPS" in problems_of(scan)["mask-grid"].message
    assert "axes LAS" in problems_of(scan)["mask-grid"].message
    assert scan.modality == "CT"
