"""Tables and folders give cases; what does not fit together is reported with what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from nextmask.data.table import Table, find_masks, read_table
from nextmask.errors import DataError


def write_csv(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / "cases.csv"
    path.write_bytes("\n".join(lines).encode(encoding))
    return path


def files(folder: Path, *names: str) -> Path:
    """Make small pictures (.png) or empty files of these names."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            PIL.Image.fromarray(np.zeros((3, 3), np.uint8)).save(path)
        else:
            path.touch()
    return folder


def kinds(table: Table) -> list[str]:
    return [problem.kind for problem in table.problems]


def ids(table: Table) -> list[str]:
    return [case.id for case in table.cases]


# Tables


def test_a_table_gives_its_cases_in_order(tmp_path):
    table = read_table(
        write_csv(
            tmp_path,
            "case,image,mask,scribble,patient,group,split,age",
            "b,images/b.nii.gz,m/b.nii.gz,s/b.nii.gz,p1,DCM,train,61",
            "a,images/a.nii.gz,,,p1,,TEST,",
        )
    )
    first, second = table.cases
    assert first.id == "b"
    assert first.images == (str(tmp_path / "images/b.nii.gz"),)
    assert (first.mask, first.scribble) == (str(tmp_path / "m/b.nii.gz"), str(tmp_path / "s/b.nii.gz"))
    assert (first.patient, first.group, first.split, dict(first.columns)) == ("p1", "DCM", "pool", {"age": "61"})
    assert (second.mask, second.scribble, second.split) == (None, None, "test")
    assert table.problems == ()


@pytest.mark.parametrize(
    ("encoding", "separator"), [("utf-8-sig", ","), ("utf-8", ";"), ("utf-16", "\t"), ("cp1252", ";")]
)
def test_tables_as_spreadsheets_save_them(tmp_path, encoding, separator):
    lines = ["Case_ID ;Image; Subject;note;", "  ä1 ;images\\sub\\ä1.nii.gz ; p1;x;", ";;;;", "a2;a2.nii.gz;;;"]
    path = write_csv(tmp_path, *(line.replace(";", separator) + "\r" for line in lines), encoding=encoding)
    table = read_table(path)
    assert ids(table) == ["ä1", "a2"]
    assert table.cases[0].images == (str(tmp_path / "images/sub/ä1.nii.gz"),)
    assert [case.patient for case in table.cases] == ["p1", "a2"]
    assert dict(table.cases[0].columns) == {"note": "x"}


def test_columns_of_other_names_are_mapped(tmp_path):
    path = write_csv(tmp_path, "id,picture,patient_id,eye,vessels,site", "a,a.png,p,left,v.png,x", "b,b.png,p,right,,y")
    table = read_table(path, columns={"image": "picture", "patient": "eye", "mask": "vessels", "group": "site"})
    assert [(case.patient, case.group) for case in table.cases] == [("left", "x"), ("right", "y")]
    assert table.cases[0].mask == str(tmp_path / "v.png")
    assert dict(table.cases[0].columns) == {"patient_id": "p"}
    with pytest.raises(DataError, match=r"no column 'scan_group' \(named for patient\).*picture, patient_id"):
        read_table(path, columns={"image": "picture", "patient": "scan_group"})
    with pytest.raises(DataError, match=r"'picture' is no part.*image_\*"):
        read_table(path, columns={"picture": "image"})
    with pytest.raises(DataError, match="no column with images"):
        read_table(path)


def test_channels_are_in_the_order_of_the_table(tmp_path):
    table = read_table(write_csv(tmp_path, "case,image_t1,image_flair", "a,t1.nii,flair.nii", "b,t1.nii,"))
    assert [Path(image).name for image in table.cases[0].images] == ["t1.nii", "flair.nii"]
    assert ids(table) == ["a"]
    problem = table.problems[0]
    assert (problem.kind, problem.severity, problem.where) == ("no-image", "error", "cases.csv, line 3")
    assert "1 of 2 channels" in problem.message


def test_beside_an_image_column_its_width_is_no_channel(tmp_path):
    table = read_table(write_csv(tmp_path, "case,image,image_width,image_id", "a,a.png,640,7"))
    assert table.cases[0].images == (str(tmp_path / "a.png"),)
    assert dict(table.cases[0].columns) == {"image_width": "640", "image_id": "7"}


def test_a_dicom_series_in_a_table_keeps_its_uid(tmp_path):
    table = read_table(write_csv(tmp_path, "case,image", "a,scans\\one::1.2.3"))
    assert table.cases[0].images == (f"{tmp_path}/scans/one::1.2.3",)


def test_without_a_case_column_the_file_gives_the_name(tmp_path):
    assert ids(read_table(write_csv(tmp_path, "image", "x/a.b.nii.gz", "x/c.png"))) == ["a.b", "c"]


def test_a_case_twice_is_left_out_and_reported(tmp_path):
    table = read_table(write_csv(tmp_path, "case,image", "a,1.png", "b,2.png", "a,3.png"))
    assert ids(table) == ["b"]
    problem = next(problem for problem in table.problems if problem.kind == "repeated-case")
    assert "1.png" in problem.message
    assert "3.png" in problem.message


@pytest.mark.parametrize("name", ["a/b", "a\\b", "a:b", ".a", "a?"])
def test_a_name_that_no_file_can_have_is_reported(tmp_path, name):
    table = read_table(write_csv(tmp_path, "case,image", f"{name},1.png", "b,2.png"))
    assert ids(table) == ["b"]
    assert table.problems[0].kind == "bad-case-name"


def test_a_split_of_other_words_is_reported_once(tmp_path):
    table = read_table(write_csv(tmp_path, "case,image,split", "a,1,train", "b,2,val", "c,3,val", "d,4,testing"))
    assert [case.split for case in table.cases] == ["pool", "", "", "test"]
    (problem,) = [problem for problem in table.problems if problem.kind == "unknown-split"]
    assert "'val' (2 cases)" in problem.message


def test_cases_without_patients_are_reported_once(tmp_path):
    assert "no-patients" in kinds(read_table(write_csv(tmp_path, "case,image,patient", "a,1,", "b,2,")))
    assert "no-patients" not in kinds(read_table(write_csv(tmp_path, "case,image,patient", "a,1,a", "b,2,b")))


def test_tables_that_are_none_are_refused(tmp_path):
    with pytest.raises(DataError, match="not there"):
        read_table(tmp_path / "cases.csv")
    with pytest.raises(DataError, match="is empty"):
        read_table(write_csv(tmp_path, "", ""))
    with pytest.raises(DataError, match="lists no case"):
        read_table(write_csv(tmp_path, "case,image"))
    with pytest.raises(DataError, match=r"line 2: 3 cells, but 2 columns"):
        read_table(write_csv(tmp_path, "case,image", "a,b,c"))
    with pytest.raises(DataError, match="column image twice"):
        read_table(write_csv(tmp_path, "case,image,image", "a,b,c"))


def test_a_table_can_take_its_masks_from_a_folder(tmp_path):
    files(tmp_path, "m/a_seg.png", "m/b.png", "own.png")
    path = write_csv(tmp_path, "case,image,mask", "a,1.png,", "b,2.png,own.png")
    table = read_table(path, masks=str(tmp_path / "m"))
    assert [Path(case.mask or "").name for case in table.cases] == ["a_seg.png", "own.png"]


# Folders


def test_a_folder_gives_a_case_a_file(tmp_path):
    files(tmp_path, "b.nii.gz", "sub/a.b.PNG", "notes.txt", ".hidden/x.png", ".DS_Store")
    table = read_table(tmp_path)
    assert ids(table) == ["a.b", "b"]
    assert table.cases[1].images == (str(tmp_path / "b.nii.gz"),)
    assert kinds(table) == ["no-patients"]


def test_a_glob_gives_what_it_names(tmp_path):
    files(tmp_path, "a.png", "b.nii.gz", "sub/c.png")
    assert ids(read_table(f"{tmp_path}/*.png")) == ["a"]
    assert ids(read_table(f"{tmp_path}/**/*.png")) == ["a", "c"]
    with pytest.raises(DataError, match="names nothing"):
        read_table(f"{tmp_path}/*.tif")


def test_masks_of_another_folder_pair_by_name(tmp_path):
    files(tmp_path, "i/a.png", "i/b_image.png", "i/c.png", "i/d.png")
    files(tmp_path, "m/a.png", "m/b_segmentation.png", "m/c-mask.png", "m/stray.png")
    files(tmp_path, "s/a.png")
    table = read_table(tmp_path / "i", masks=str(tmp_path / "m"), scribbles=str(tmp_path / "s"))
    assert ids(table) == ["a", "b_image", "c", "d"]
    assert [Path(c.mask).name if c.mask else None for c in table.cases] == [
        "a.png",
        "b_segmentation.png",
        "c-mask.png",
        None,
    ]
    assert [c.scribble is not None for c in table.cases] == [True, False, False, False]
    problems = {problem.kind: problem.message for problem in table.problems}
    assert "1 masks belong to no image: stray.png" in problems["mask-without-image"]
    assert "1 of 4 images have no mask: d" in problems["image-without-mask"]


def test_a_folder_of_masks_within_the_folder_gives_no_images(tmp_path):
    files(tmp_path, "images/a.png", "images/b.png", "masks/a.png", "masks/b.png")
    table = read_table(tmp_path, masks=str(tmp_path / "masks"))
    assert ids(table) == ["a", "b"]
    assert all(case.mask for case in table.cases)
    without = read_table(f"{tmp_path}/images/../images")
    assert not any(case.mask for case in without.cases)
    crowded = read_table(tmp_path)
    assert kinds(crowded).count("repeated-case") == 2
    assert "name the folder of masks" in crowded.problems[0].remedy


@pytest.mark.parametrize("ending", ["_mask", "_seg", "_Segmentation", "_labels", "_gt", "-mask", "_groundtruth"])
def test_masks_beside_the_images_are_no_images(tmp_path, ending):
    files(tmp_path, "a.png", f"a{ending}.png", "b_img.png", f"b{ending}.png", "a_scribble.png")
    table = read_table(tmp_path)
    assert ids(table) == ["a", "b_img"]
    assert [Path(case.mask or "").name for case in table.cases] == [f"a{ending}.png", f"b{ending}.png"]
    assert Path(table.cases[0].scribble or "").name == "a_scribble.png"


def test_two_masks_of_one_image_are_reported_and_neither_is_used(tmp_path):
    files(tmp_path, "a.png", "a_mask.png", "a_seg.png")
    table = read_table(tmp_path)
    assert table.cases[0].mask is None
    problem = next(problem for problem in table.problems if problem.kind == "repeated-mask")
    assert (problem.spoils, problem.where) == ("mask", "a")


def test_two_files_of_one_name_are_reported(tmp_path):
    table = read_table(files(tmp_path, "a.png", "a.nii.gz", "b.png"))
    assert ids(table) == ["b"]
    assert "repeated-case" in kinds(table)


def test_numbered_channels_are_joined(tmp_path):
    files(
        tmp_path,
        *(f"i/case{n}_000{c}.nii.gz" for n in range(3) for c in range(2)),
        "m/case1.nii.gz",
        "i/case3_0000.nii.gz",
    )
    table = read_table(tmp_path / "i", masks=str(tmp_path / "m"))
    assert ids(table) == ["case0", "case1", "case2"]
    assert [Path(image).name for image in table.cases[0].images] == ["case0_0000.nii.gz", "case0_0001.nii.gz"]
    assert [case.mask is not None for case in table.cases] == [False, True, False]
    problem = next(problem for problem in table.problems if problem.kind == "missing-channel")
    assert (problem.where, problem.severity) == ("case3", "error")
    assert "case3_0001" in problem.message


def test_numbered_slices_are_not_taken_for_channels(tmp_path):
    files(tmp_path, "many/p1_0000.png", "many/p1_0008.png", "later/p1_0001.png", "later/p2_0002.png")
    assert ids(read_table(tmp_path / "many")) == ["p1_0000", "p1_0008"]
    assert ids(read_table(tmp_path / "later")) == ["p1_0001", "p2_0002"]
    files(tmp_path, "few/p1_0000.png", "few/p1_0001.png", "m/p1_0000.png", "m/p1_0001.png")
    table = read_table(tmp_path / "few", masks=str(tmp_path / "m"))
    assert [(case.id, Path(case.mask or "").name) for case in table.cases] == [
        ("p1_0000", "p1_0000.png"),
        ("p1_0001", "p1_0001.png"),
    ]


def test_a_folder_without_images_says_what_was_looked_for(tmp_path):
    files(tmp_path, "notes.txt", "a_mask.png")
    with pytest.raises(DataError, match=r"No image found .*\(2 files.*\.nii\.gz"):
        read_table(tmp_path)
    with pytest.raises(DataError, match="no table"):
        read_table(tmp_path, columns={"patient": "x"})


def test_masks_are_found_by_name_with_and_without_their_ending(tmp_path):
    files(tmp_path, "a__z0001.png", "sub/b_mask.nii.gz", "notes.txt")
    found = find_masks(tmp_path)
    assert found == {
        "a__z0001": tmp_path / "a__z0001.png",
        "b_mask": tmp_path / "sub/b_mask.nii.gz",
        "b": tmp_path / "sub/b_mask.nii.gz",
    }
    files(tmp_path, "b.png")
    with pytest.raises(DataError, match="both claim to be the mask of b"):
        find_masks(tmp_path)


# Real data


def test_the_real_strays_are_reported(shared_data):
    strays = shared_data("hippocampus/strays")
    table = read_table(strays / "image_without_mask", masks=str(strays / "mask_without_image"))
    assert ids(table) == ["hippocampus_118"]
    assert kinds(table) == ["mask-without-image", "image-without-mask"]
    assert "hippocampus_010.nii.gz" in table.problems[0].message


@pytest.mark.parametrize(
    ("name", "columns", "cases", "patients", "masks"),
    [
        ("acdc", {}, 90, 45, 90),
        ("la", {"patient": "scan_group"}, 18, 12, 18),
        ("mscmr", {}, 6, 6, 3),
        ("hippocampus", {"patient": "subject_group"}, 135, 90, 135),
        ("sunnybrook", {"group": "pathology"}, 465, 26, 465),
        ("skin", {}, 32, 32, 32),
        ("fundus", {"mask": "vessels_obs1"}, 20, 20, 20),
        ("brats_sample", {}, 2, 2, 2),
    ],
)
def test_the_real_tables(shared_data, name, columns, cases, patients, masks):
    table = read_table(shared_data(f"{name}/cases.csv"), columns=columns)
    assert len(table.cases) == cases
    assert len({case.patient for case in table.cases}) == patients
    assert sum(case.mask is not None for case in table.cases) == masks
    assert all(
        Path(source).exists() for case in table.cases for source in (*case.images, case.mask, case.scribble) if source
    )
    assert kinds(table) == (["no-patients"] if name == "skin" else [])


def test_the_real_slices_are_not_taken_for_channels(shared_data):
    table = read_table(shared_data("sunnybrook/images"), masks=str(shared_data("sunnybrook/masks")))
    assert len(table.cases) == 465
    assert all(case.mask for case in table.cases)


def test_the_real_dicom_folders(shared_data):
    table = read_table(shared_data("dicom"))
    assert set(ids(table)) >= {"ct3_series", "ct17_small_series", "ct20_j2k_series", "ct_image"}
    assert kinds(table).count("not-an-image") == 2
