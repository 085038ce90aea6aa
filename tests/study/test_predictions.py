"""Masks as a segmenter sees them, written for people to correct or use."""

from __future__ import annotations

import csv
import re
import shutil
from functools import partial

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from nextmask.data.components import keep_largest
from nextmask.data.images import read_geometry, read_mask
from nextmask.data.preprocess import mask_to_image
from nextmask.errors import DataError, StudyError
from nextmask.study.config import parse_config, write_config
from nextmask.study.inference import Inference
from nextmask.study.new_images import Grid, list_images, of_new_images
from nextmask.study.simulate import simulate
from nextmask.study.study import Study
from nextmask.study.summary import write_report
from nextmask.training.metrics import score_case


@pytest.fixture
def trained(home) -> Study:
    """A study with one round done and a second query open."""
    study = Study(home)
    study.query(3, "random")
    study.annotate(home.parent / "patients" / "masks")
    study.train()
    study.query(4, "random")
    return study


def saved_anew(path, change=lambda mask: None) -> None:
    """Save a mask as a reader's program does."""
    mask, image = read_mask(path)[0], nib.load(path)
    change(mask)
    nib.save(nib.Nifti1Image(mask.T, image.affine, image.header), path)


def test_what_is_awaited_is_written_as_annotate_reads_it(trained, tmp_path):
    asked = trained.rounds[-1].samples
    made = trained.predict(tmp_path / "drafts")
    assert {path.name.removesuffix(".nii.gz") for path in made.written} == set(asked)
    for path in made.written:
        saved_anew(path)
    taken = trained.annotate(tmp_path / "drafts")
    assert set(taken.stored) == set(asked)
    assert (taken.refused, taken.unused, taken.untouched) == ({}, (), ())


def test_what_nobody_corrected_is_no_mask_of_a_person(trained, tmp_path):
    drafts = trained.predict(tmp_path / "drafts").written
    saved_anew(drafts[1], lambda mask: np.putmask(mask, mask != 255, 0))
    taken = trained.annotate(tmp_path / "drafts")
    assert [f"{name}.nii.gz" for name in taken.stored] == [drafts[1].name]
    assert set(taken.untouched) == set(taken.missing) == set(trained.rounds[-1].samples) - set(taken.stored)
    assert set(trained.annotate(tmp_path / "drafts", untouched=True).stored) == set(taken.untouched)


def test_predictions_of_whole_cases_are_not_taken_for_masks_either(trained, tmp_path):
    trained.predict(tmp_path / "drafts" / "pool", "pool")
    taken = trained.annotate(tmp_path / "drafts")  # which holds that folder
    assert taken.stored == ()
    assert set(taken.untouched) == set(trained.rounds[-1].samples)


def test_a_sample_shows_its_own_slice_and_255_beyond_it(trained, tmp_path):
    trained.predict(tmp_path / "whole", "pool")
    for path in trained.predict(tmp_path / "out").written:
        sample = trained.pool.samples[trained.pool.row_of[path.name.removesuffix(".nii.gz")]]
        mask, geometry = read_mask(path)
        case = trained.pool.cases[sample.case]
        assert read_geometry(case.images[0]).differences(geometry) is None
        here = np.zeros(mask.shape, bool)
        here[sample.region.slices] = True
        assert (mask[~here] == 255).all()
        whole, _ = read_mask(tmp_path / "whole" / f"{case.id}.nii.gz")
        np.testing.assert_array_equal(mask[here], whole[here])
        assert len(np.unique(whole)) > 1


@pytest.mark.parametrize("what", ["pool", "test"])
def test_all_cases_of_a_side_are_written_whole(trained, tmp_path, what):
    made = trained.predict(tmp_path / "out", what)
    cases = trained.cohort.on(what).cases
    assert [path.name for path in made.written] == [f"{case.id}.nii.gz" for case in cases]
    assert all(255 not in read_mask(path)[0] for path in made.written)


def test_what_is_there_stays_and_the_rest_is_added(trained, tmp_path):
    first = trained.predict(tmp_path / "out").written[0]
    first.write_bytes(b"corrected for an hour")
    gone = next(path for path in (tmp_path / "out").glob("*.nii.gz") if path != first)
    gone.unlink()
    again = trained.predict(tmp_path / "out")
    assert (again.written, len(again.kept)) == ((gone,), 3)
    assert first.read_bytes() == b"corrected for an hour"


def test_nothing_to_predict_with_or_for_is_said(home, tmp_path):
    study = Study(home)
    with pytest.raises(StudyError, match="no segmenter to predict with"):
        study.predict(tmp_path / "out", "pool")
    study.query(2, "random")
    study.annotate(home.parent / "patients" / "masks")
    study.train()
    with pytest.raises(StudyError, match="no mask is awaited"):
        study.predict(tmp_path / "out")
    with pytest.raises(StudyError, match="Expected query, pool or test"):
        study.predict(tmp_path / "out", "all")


def scores_of(study) -> dict[str, float]:
    """Read the Dice of each class of the first test case, as it was evaluated."""
    with (study.folder / study.rounds[0].evaluation["path"]).open() as file:
        lines = [line for line in csv.DictReader(file) if line["case"] == study.cohort.on("test").cases[0].id]
    return {line["class"]: float(line["dice"]) for line in lines}


def dice_of(study, shown) -> dict[str, float]:
    """Score a mask of the first test case."""
    test = study.cohort.on("test")
    reference, spacing = read_mask(test.cases[0].mask)[0], test.scans[0].geometry.spacing
    return {score.name: score.dice for score in score_case(shown, reference, study.config.classes, spacing)}


def test_a_class_of_one_piece_is_scored_and_written_as_one(home, tmp_path):
    names = parse_config({"images": "x", "classes": ["chamber", "wall", "lobe"], "largest_component": ["lobe", "wall"]})
    assert names.inference.whole == (3, 2)
    # Four steps teach next to nothing, so predictions lie about in pieces.
    play = {"strategy": "random", "query_size": 3, "rounds": 1}
    plain = simulate(home, **play)
    whole = simulate(home, settings={"largest_component": list(plain.config.classes)}, **play)
    assert plain.rounds[0].segmenter.sha256 == whole.rounds[0].segmenter.sha256
    path = plain.predict(tmp_path / "plain", "test").written[0]
    mask = read_mask(path)[0]
    kept = keep_largest(mask, (1, 2, 3))
    assert max(ndimage.label(mask == label, np.ones((3, 3, 3)))[1] for label in (1, 2, 3)) > 1
    np.testing.assert_array_equal(read_mask(whole.predict(tmp_path / "whole", "test").written[0])[0], kept)
    for study, shown in ((plain, mask), (whole, kept)):
        assert scores_of(study) == pytest.approx(dice_of(study, shown), abs=1e-6)
    assert plain.rounds[0].scores != whole.rounds[0].scores


def test_turned_views_are_scored_and_written_as_their_mean(home, tmp_path):
    play = {"strategy": "random", "query_size": 3, "rounds": 1}
    plain = simulate(home, **play)
    study = simulate(home, settings={"turned_views": [-20, 10]}, **play)
    assert plain.rounds[0].segmenter.sha256 == study.rounds[0].segmenter.sha256
    segmenter, cache, case = (
        study.load_segmenter(study.rounds[0].segmenter),
        study.cache("test"),
        study.cohort.on("test").cases[0],
    )
    image = np.asarray(cache.image(0), np.float32)
    turn = partial(ndimage.rotate, axes=(-1, -2), reshape=False, order=1, mode="nearest")
    views = [segmenter.predict(image), *(turn(segmenter.predict(turn(image, by)), -by) for by in (-20, 10))]
    shown = mask_to_image(np.mean(views, axis=0), cache.placements[0])
    written = study.predict(tmp_path / "test", "test").written[0]
    np.testing.assert_array_equal(read_mask(written)[0], shown)
    new = study.predict(tmp_path / "new", images=case.images[0]).written[0]
    np.testing.assert_array_equal(read_mask(new)[0], shown)
    assert (shown != mask_to_image(views[0], cache.placements[0])).any()
    assert scores_of(study) == pytest.approx(dice_of(study, shown), abs=1e-6)
    assert plain.rounds[0].scores != study.rounds[0].scores


def test_a_round_is_measured_anew_where_its_masks_are_made_in_another_way(trained):
    for name in trained.rounds[-1].samples:
        trained.drop({name: "not looked at"})
    trained.train()
    assert trained.evaluate().evaluation["inference"] == {"turned": [], "whole": []}
    before, events = trained.rounds[-1].scores, len(trained.events)
    write_config(
        trained.folder,
        trained.config.model_copy(update={"turned_views": (-20.0, 20.0), "largest_component": ("wall",)}),
    )
    turned = Study(trained.folder)
    assert turned.rounds[-1].scores == before
    assert turned.evaluate().evaluation["inference"] == {"turned": [-20.0, 20.0], "whole": [2]}
    turned.evaluate()
    assert (turned.rounds[-1].scores != before, len(turned.events)) == (True, events + 1)
    shown = write_report(turned).read_text()
    assert re.search(
        r"evaluation: turned views(.|\n){1,40}-20.0, 20.0(.|\n)*evaluation: largest component(.|\n){1,40}wall", shown
    )


@pytest.mark.parametrize("degrees", [[0], [10, 10], [-190], [float("nan")]])
def test_angles_that_are_no_further_views_are_an_error(degrees):
    with pytest.raises(StudyError, match=r"turned_views(.|\n)*expected different angles from -180 to 180"):
        parse_config({"images": "x", "classes": ["rv"], "turned_views": degrees})


def test_a_piece_of_no_class_is_an_error():
    with pytest.raises(StudyError, match=r"largest_component(.|\n)*no class lvv; expected some of rv, lv"):
        parse_config({"images": "x", "classes": ["rv", "lv"], "largest_component": ["lvv"]})


def test_new_images_are_predicted_as_those_of_the_study_are(trained, tmp_path):
    case = trained.cohort.on("test").cases[0]
    new = tmp_path / "new" / "stranger.nii.gz"
    new.parent.mkdir()
    shutil.copy(case.images[0], new)
    made = trained.predict(tmp_path / "out", images=new.parent)
    assert [path.name for path in made.written] == ["stranger.nii.gz"]
    known = next(path for path in trained.predict(tmp_path / "test", "test").written if case.id in path.name)
    np.testing.assert_array_equal(read_mask(made.written[0])[0], read_mask(known)[0])
    assert read_geometry(new).differences(read_geometry(made.written[0])) is None
    again = trained.predict(tmp_path / "out", images=new.parent)
    assert (again.written, again.kept, again.problems) == ((), made.written, ())


def test_new_images_are_scaled_by_their_own_spacing(trained, tmp_path):
    volume = nib.load(trained.cohort.cases[0].images[0])
    coarse = np.asarray(volume.dataobj)[::2, ::2]
    nib.save(nib.Nifti1Image(coarse, volume.affine @ np.diag([2, 2, 1, 1])), tmp_path / "coarse.nii.gz")
    cases, _ = list_images(tmp_path / "coarse.nii.gz", {})
    seen = []
    grid = Grid(trained.preprocessing, trained.planar, trained.cohort.scans[0])
    mask = of_new_images(Uniform(seen), cases, grid, Inference())(0)
    assert mask.shape == read_geometry(tmp_path / "coarse.nii.gz").shape
    assert seen[0] == (1, *trained.cache("pool").placements[0].working)


class Uniform:
    def __init__(self, seen):
        self.seen = seen

    def predict(self, image):
        self.seen.append(image.shape)
        return np.full((2, *image.shape[1:]), 0.5, np.float32)


def test_new_images_that_cannot_be_used_stop_no_other(trained, tmp_path):
    source = trained.cohort.cases[0].images[0]
    shutil.copy(source, tmp_path / "good.nii.gz")
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    image = nib.load(source)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[..., 0], image.affine), tmp_path / "flat.nii.gz")
    (tmp_path / "broken.png").write_bytes(b"no picture either")
    lines = ["scan,name", "broken.png,p", "good.nii.gz,a", "broken.nii.gz,b", "flat.nii.gz,c", "not_there.mha,m", ",d"]
    (tmp_path / "new.csv").write_text("\n".join(lines))
    cases, missing = list_images(tmp_path / "new.csv", {"image": "scan", "case": "name", "patient": "not there"})
    assert ([case.id for case in cases], "line 7" in missing[0]) == (["p", "a", "b", "c", "m"], True)
    (tmp_path / "new.csv").write_text("\n".join(["image,case", *lines[1:]]))
    made = trained.predict(tmp_path / "out", images=tmp_path / "new.csv")
    assert [path.name for path in made.written] == ["a.nii.gz"]
    expected = ("line 7", "broken.png", "b: ", "c: it has 2 axes. Expected 3", "not_there.mha")
    for found, said in zip(made.problems, expected, strict=True):
        assert said in found
    with pytest.raises(DataError, match="names nothing"):
        trained.predict(tmp_path / "out", images=tmp_path / "nowhere")
