"""One round end to end, what is refused, and that nothing is lost."""

from __future__ import annotations

import csv
import multiprocessing
import shutil
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from nextmask.data.images import read_mask
from nextmask.errors import DataError, SelectionError, StudyBusy, StudyError
from nextmask.study.cohort import CASES, SPLITS
from nextmask.study.study import Study


def masks_of(home: Path) -> Path:
    return home.parent / "patients" / "masks"


@pytest.fixture
def annotated(home: Path) -> Study:
    study = Study(home)
    study.query(4, "random")
    study.annotate(masks_of(home))
    return study


def test_one_round_from_query_to_scores(home):
    study = Study(home)
    asked = study.query(4, "k_center")
    assert (asked.number, asked.stage, len(set(asked.samples))) == (1, "annotate", 4)
    assert study.annotate(masks_of(home)).stored == asked.samples
    assert study.rounds[-1].stage == "train"
    assert study.train().stage == "evaluate"
    done = study.evaluate()
    assert done.stage == "done"
    assert set(done.scores) == set(study.config.classes)
    assert all(0 <= scores["dice"] <= 1 for scores in done.scores.values() if scores["dice"] is not None)
    assert study.labeled.sum() == 4
    kinds = [event.kind for event in study.events]
    assert kinds == ["created", "queried", *["annotated"] * 4, "trained", "evaluated"]


def test_a_stored_mask_lies_on_its_images_grid_and_knows_only_its_slice(annotated):
    round = annotated.rounds[-1]
    for name, file in round.masks.items():
        sample = annotated.pool.samples[annotated.pool.row_of[name]]
        case = annotated.pool.cases[sample.case]
        stored, image, truth = nib.load(annotated.path(file)), nib.load(case.images[0]), nib.load(case.mask)
        assert stored.shape == image.shape
        assert (stored.affine == image.affine).all()
        values, z = np.asarray(stored.dataobj), sample.region.start[0]
        assert (values[..., z] == np.asarray(truth.dataobj)[..., z]).all()
        assert (np.delete(values, z, axis=2) == 255).all()


def test_the_second_query_asks_for_nothing_twice_and_may_rest_on_the_segmenter(annotated):
    first = annotated.train()
    second = annotated.query(4, "most_uncertain")
    assert not set(first.samples) & set(second.samples)
    assert second.details["used"]["uncertainty"]["segmenter"] == first.segmenter.sha256


def test_masks_must_be_trained_on_before_the_next_query(annotated):
    with pytest.raises(StudyError, match="new masks that no segmenter was trained on"):
        annotated.query(2, "random")


def test_the_same_seed_asks_for_the_same_samples(home, tmp_path):
    shutil.copytree(home, tmp_path / "twin")
    assert Study(home).query(5, "typiclust").samples == Study(tmp_path / "twin").query(5, "typiclust").samples


def test_a_strategy_of_ones_own_is_taken_and_recorded_by_its_name(home):
    def last_ones(labeled, n, *, rng, skip=0):
        return np.flatnonzero(~labeled)[::-1][skip : skip + n]

    asked = Study(home).query(2, last_ones, skip=1)
    pool = Study(home).pool
    assert asked.samples == (pool.samples[-2].id, pool.samples[-3].id)
    assert (asked.strategy, asked.details["options"]) == ("last_ones", {"skip": 1})


def test_asking_again_returns_the_open_query_and_something_else_is_refused(home):
    study = Study(home)
    asked = study.query(4, "random")
    assert study.query(4, "random") == asked
    assert len(study.events) == 2
    with pytest.raises(StudyError, match="round 1 waits"):
        study.query(5, "random")


def test_the_worklist_names_image_and_slice(home):
    asked = Study(home).query(3, "random")
    with (home / asked.details["worklist"]["path"]).open() as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == list(asked.samples)
    assert all(Path(row["image"]).is_file() and row["first_slice"] == row["last_slice"] for row in rows)


def test_masks_may_come_slice_by_slice_and_in_two_goes(home, tmp_path):
    study = Study(home)
    asked = study.query(3, "random")
    from PIL import Image

    (tmp_path / "drawn").mkdir()
    for name in asked.samples[:2]:
        sample = study.pool.samples[study.pool.row_of[name]]
        truth = read_mask(study.pool.cases[sample.case].mask)[0][sample.region.slices][0]
        Image.fromarray(truth).save(tmp_path / "drawn" / f"{name}.png")
    first = study.annotate(tmp_path / "drawn")
    assert (len(first.stored), first.missing) == (2, asked.samples[2:])
    with pytest.raises(StudyError, match="1 of 3 masks"):
        study.train()
    second = study.annotate(masks_of(home))
    assert (second.stored, study.rounds[-1].stage) == (asked.samples[2:], "train")


def test_a_mask_on_another_grid_is_refused_with_both_grids_and_the_others_are_kept(home, tmp_path):
    study = Study(home)
    asked = study.query(3, "random")
    folder = tmp_path / "drawn"
    shutil.copytree(masks_of(home), folder)
    case = study.pool.case_of(study.pool.row_of[asked.samples[0]])
    image = nib.load(folder / f"{case.id}.nii.gz")
    moved = image.affine.copy()
    moved[:3, 3] += 11
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), moved), folder / f"{case.id}.nii.gz")
    result = study.annotate(folder)
    assert "another grid" in result.refused[asked.samples[0]]
    assert result.refused[asked.samples[0]].count("voxels") >= 2
    assert set(result.stored) == set(asked.samples) - set(result.refused)


def test_values_that_are_no_class_are_refused(home, tmp_path):
    study = Study(home)
    name = study.query(1, "random").samples[0]
    sample = study.pool.samples[study.pool.row_of[name]]
    result = study.annotate(lambda case, sample: np.full(sample.region.shape, 9, np.uint8))
    assert "values [9]" in result.refused[name]
    assert sample.id == name


def test_an_untouched_template_is_still_missing(home):
    study = Study(home)
    asked = study.query(2, "random")
    assert study.annotate(lambda case, sample: np.full(sample.region.shape, 255, np.uint8)).missing == asked.samples


def test_a_correction_is_taken_only_when_asked_for_and_outdates_the_segmenter(annotated):
    annotated.train()
    blank = np.zeros
    assert annotated.annotate(lambda case, sample: blank(sample.region.shape, np.uint8)).stored == ()
    changed = annotated.annotate(lambda case, sample: blank(sample.region.shape, np.uint8), replace=True)
    assert changed.stored
    assert annotated.rounds[-1].stage == "train"


def test_given_up_samples_are_not_asked_for_again(home):
    study = Study(home)
    asked = study.query(2, "random")
    study.annotate(
        lambda case, sample: None if sample.id == asked.samples[0] else np.ones(sample.region.shape, np.uint8)
    )
    study.drop({asked.samples[0]: "motion"})
    assert study.train().training["trained_on"] == 1
    later = study.query(3, "random")
    assert asked.samples[0] not in later.samples
    with pytest.raises(StudyError, match="never asked for"):
        study.drop({"no such sample": ""})


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        (lambda study: study.annotate(Path("nowhere")), "no folder"),
        (lambda study: study.annotate(lambda case, sample: None), "Run `nextmask query`"),
        (lambda study: study.train(), "no masks yet"),
        (lambda study: study.evaluate(), "no segmenter"),
        (lambda study: study.query(3, "typiclus"), "Did you mean 'typiclust'"),
        (lambda study: study.query(3, "most_uncertain"), "needs a trained segmenter"),
    ],
)
def test_verbs_out_of_order_say_what_to_do(home, verb, message):
    study = Study(home)
    with pytest.raises(StudyError, match=message):
        verb(study)
    assert len(study.events) == 1


def test_more_samples_than_there_are_is_an_error(home):
    study = Study(home)
    with pytest.raises(SelectionError, match=str(len(study.pool))):
        study.query(len(study.pool) + 1, "random")


def test_training_and_evaluating_again_changes_nothing(annotated):
    annotated.train()
    annotated.evaluate()
    events = annotated.events
    annotated.train()
    annotated.evaluate()
    assert annotated.events == events


@pytest.mark.parametrize("name", [CASES, SPLITS])
def test_a_split_or_case_list_that_changed_is_noticed(home, name):
    path = home / name
    path.write_text(path.read_text().replace("test", "pool", 1) + "\n")
    with pytest.raises(StudyError, match=f"{name} was changed"):
        Study(home)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('"chamber", "wall"', '"wall", "chamber"', "classes"),
        ('unit = "slice"', 'unit = "whole"', "unit"),
        ("coordinates = []", 'coordinates = ["z"]', "coordinates"),
    ],
)
def test_settings_that_the_study_rests_on_cannot_be_changed(home, old, new, named):
    path = home / "study.toml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(StudyError, match=f"rests on: {named}"):
        Study(home)


def test_other_settings_can(home):
    path = home / "study.toml"
    path.write_text(path.read_text().replace("iterations = 4", "iterations = 2"))
    study = Study(home)
    study.query(2, "random")
    study.annotate(masks_of(home))
    assert study.train().training["config"]["iterations"] == 2


def test_a_mask_that_changed_on_disk_is_noticed(annotated):
    file = next(iter(annotated.rounds[-1].masks.values()))
    path = annotated.folder / file.path
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StudyError, match="was changed since"):
        annotated.train()


def test_an_image_that_changed_is_noticed(home):
    path = Path(Study(home).pool.cases[0].images[0])
    image = nib.load(path)
    shutil.rmtree(home / "cache", ignore_errors=True)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), path)
    with pytest.raises(DataError, match="changed since the study was created"):
        Study(home).query(2, "k_center")


def test_a_study_of_one_unlabeled_image_queries_but_has_nothing_to_test_on(made_study, small_config, tmp_path):
    image = sorted((made_study / "patients" / "images").iterdir())[0]
    (tmp_path / "images").mkdir()
    shutil.copy(image, tmp_path / "images")
    with pytest.raises(DataError, match="take 0 as the test fraction"):
        Study.create(tmp_path / "study", small_config(images="../images"))
    study = Study.create(tmp_path / "study", small_config(images="../images", test_fraction=0))
    study.query(2, "k_center")
    study.annotate(lambda case, sample: np.ones(sample.region.shape, np.uint8))
    study.train()
    with pytest.raises(StudyError, match="none of the 0 test cases has a mask"):
        study.evaluate()
    assert len(study.query(2, "most_uncertain").samples) == 2


def test_a_study_is_not_made_twice(home):
    with pytest.raises(StudyError, match="already"):
        Study.create(home, Study(home).config)


def hold(home: Path, seconds: float) -> None:
    study = Study(home)
    with study._writing("train"):
        (home / "held").touch()
        time.sleep(seconds)


def test_a_second_process_is_told_who_is_at_work(home):
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(home, 30))
    process.start()
    while not (home / "held").exists():
        time.sleep(0.05)
    with pytest.raises(StudyBusy, match="nextmask train"):
        Study(home).query(2, "random")
    (home / ".writer").write_text("")  # as it is between being opened and being written
    with pytest.raises(StudyBusy, match="not noted yet"):
        Study(home).query(2, "random")
    process.kill()
    process.join()
    assert len(Study(home).query(2, "random").samples) == 2
