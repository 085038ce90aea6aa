"""What is usable, what is left out, and that files are read once."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nextmask.data.synthetic import write_patients
from nextmask.errors import DataError, StudyError
from nextmask.study import cohort as module
from nextmask.study.cohort import find_problems, make_cohort, read_cohort, scan_cases
from nextmask.study.study import Study


@pytest.fixture
def patients(tmp_path):
    write_patients(tmp_path / "patients", 5, seed=3, shape=(6, 32, 32), phases=1)
    return tmp_path / "patients"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "study").mkdir()
    return tmp_path / "study"


def damage(path: Path, change) -> None:
    image = nib.load(path)
    values = np.asarray(image.dataobj).astype(np.float32)
    change(values)
    nib.save(nib.Nifti1Image(values, image.affine), path)


def test_what_was_read_is_not_read_again(patients, folder, small_config, monkeypatch):
    config = small_config()
    first = make_cohort(folder, config)
    monkeypatch.setattr(module, "scan_case", lambda *args, **kwargs: pytest.fail("was read again"))
    assert scan_cases(folder, config, first.cases, None) == list(first.scans)


def test_an_interrupted_reading_goes_on_with_the_files_that_are_missing(patients, folder, small_config, monkeypatch):
    config = small_config()
    cases = module.load_table(folder, config).cases
    real, seen = module.scan_case, []

    def interrupted(case, **options):
        if len(seen) == 3:
            raise KeyboardInterrupt
        seen.append(case.id)
        return real(case, **options)

    monkeypatch.setattr(module, "scan_case", interrupted)
    with pytest.raises(KeyboardInterrupt):
        scan_cases(folder, config, cases, None)
    done = len((folder / "scans.jsonl").read_text().splitlines())
    again = []
    monkeypatch.setattr(module, "scan_case", lambda case, **options: again.append(case.id) or real(case, **options))
    assert len(scan_cases(folder, config, cases, None)) == 5
    assert len(again) == 5 - done < 5


def test_other_codes_mean_reading_again(patients, folder, small_config):
    make_cohort(folder, small_config())
    kinds = {p.kind for p in find_problems(folder, small_config(mask_codes={3: 9}))}
    assert "mask-values" in kinds


def test_a_bad_image_is_left_out_and_a_bad_mask_spoils_only_itself(patients, folder, small_config):
    images, masks = sorted((patients / "images").iterdir()), sorted((patients / "masks").iterdir())
    images[0].write_bytes(images[0].read_bytes()[:200])
    damage(images[1], lambda values: values.__setitem__((0, 0, 0), np.nan))
    damage(masks[2], lambda values: values.__setitem__((0, 0, 0), 77))
    cohort = make_cohort(folder, small_config())
    assert [case.id for case in cohort.cases] == ["patient002_ED", "patient003_ED", "patient004_ED"]
    assert [case.mask is None for case in cohort.cases] == [True, False, False]
    named = {problem.where for problem in find_problems(folder, small_config()) if problem.severity == "error"}
    assert named == {"patient000_ED", "patient001_ED", "patient002_ED"}


def test_nothing_usable_at_all_is_an_error_with_the_first_reason(patients, folder, small_config):
    for image in (patients / "images").iterdir():
        image.write_bytes(b"")
    with pytest.raises(StudyError, match="none of the 5 cases"):
        make_cohort(folder, small_config())


def test_pictures_and_volumes_do_not_mix(patients, folder, small_config):
    first = sorted((patients / "images").iterdir())[0]
    nib.save(nib.Nifti1Image(np.random.default_rng(0).normal(size=(32, 32, 1)), np.eye(4)), first)
    with pytest.raises(StudyError, match="different numbers of axes"):
        make_cohort(folder, small_config(masks=None))


def test_the_cohort_comes_back_as_it_was_written_from_wherever_it_is_opened(
    patients, folder, small_config, monkeypatch
):
    made = make_cohort(folder, small_config())
    monkeypatch.chdir(folder.parent)
    read = read_cohort(Path("study"))
    assert read.content() == made.content()
    assert all(Path(case.images[0]).is_file() for case in read.cases)


def test_a_split_that_was_written_is_never_drawn_again(patients, folder, small_config):
    made = make_cohort(folder, small_config(seed=0))
    sides = {make_cohort(folder, small_config(seed=seed)).on("test").cases[0].id for seed in range(1, 6)}
    assert sides == {made.on("test").cases[0].id}


def test_patients_on_both_sides_of_a_given_split_are_refused_and_named(patients, folder, small_config):
    table = patients / "cases.csv"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    for number, row in enumerate(rows):
        row |= {"patient": "one" if number < 2 else row["patient"], "split": "test" if number == 0 else "pool"}
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(DataError, match="one lies on both sides"):
        Study.create(folder, small_config())
    kinds = {problem.kind: problem.where for problem in find_problems(folder, small_config())}
    assert kinds["patient-on-two-sides"] == "one"


def test_the_same_exam_under_two_names_stays_on_one_side(patients, folder, small_config):
    images = sorted((patients / "images").iterdir())
    images[4].write_bytes(images[0].read_bytes())
    for seed in range(6):
        (folder / "splits.csv").unlink(missing_ok=True)
        cohort = make_cohort(folder, small_config(seed=seed, test_fraction=0.4))
        assert cohort.side["patient000_ED"] == cohort.side["patient004_ED"]


def test_two_readings_of_one_acdc_exam_stay_on_one_side(shared_data, tmp_path, small_config):
    """patient074 and patient076 hold the same pixels; see the data's README."""
    shared_data("acdc/images/patient076_frame01.nii.gz")
    with shared_data("acdc/cases.csv").open() as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["patient_id"] in ("patient072", "patient074", "patient076", "patient064")
        ]
    home = shared_data("acdc")
    with (tmp_path / "cases.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "patient", "image", "mask"])
        writer.writerows([r["case_id"], r["patient_id"], home / r["image"], home / r["mask"]] for r in rows)
    for seed in range(4):
        config = small_config(images="../cases.csv", classes=("rv", "myo", "lv"), seed=seed, test_fraction=0.5)
        (tmp_path / f"study{seed}").mkdir()
        cohort = make_cohort(tmp_path / f"study{seed}", config)
        assert len({cohort.side[case.id] for case in cohort.cases if case.patient in ("patient074", "patient076")}) == 1
