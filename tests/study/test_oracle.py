"""The oracle of a simulation: what it draws, how far it is off, what it costs, and who may look at what it knows."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nextmask.data.images import read_mask
from nextmask.data.pool import IGNORE, Case, Region, Sample, build_pool
from nextmask.data.work import Work, work_of
from nextmask.errors import NextmaskError, StudyError
from nextmask.selection import STRATEGIES, needs
from nextmask.study.annotations import Drawn
from nextmask.study.cost import correcting_minutes, drawing_minutes, estimated_minutes
from nextmask.study.inference import PLAIN
from nextmask.study.oracle import Oracle, Truth
from nextmask.study.scores import OF_CLASSES
from nextmask.study.simulate import _predictions, simulate
from nextmask.study.study import Study

PLAY = {"strategy": "random", "query_size": 3, "seed": 4, "rounds": 1}


@pytest.fixture
def study(home: Path) -> Study:
    return Study(home)


def _truth(study: Study, row: int) -> np.ndarray:
    return read_mask(study.pool.case_of(row).mask)[0][study.pool.samples[row].region.slices]


def _drawn(study: Study, row: int, **changes: object) -> np.ndarray:
    oracle = Oracle(study.config.model_copy(update=changes))
    return oracle(study.pool.case_of(row), study.pool.samples[row]).mask


def test_it_draws_the_truth_unless_told_to_err(study):
    for row in (0, 8):
        np.testing.assert_array_equal(_drawn(study, row), _truth(study, row))
    assert any((_drawn(study, row, reader_error=2.0) != _truth(study, row)).any() for row in range(6))


def test_it_knows_nothing_of_a_case_without_truth(study):
    case, sample = replace(study.pool.cases[0], mask=None, scribble=None), study.pool.samples[0]
    for supervision in ("mask", "scribble", "drawn_scribble"):
        assert Oracle(study.config.model_copy(update={"supervision": supervision}))(case, sample) is None


@pytest.mark.parametrize("changes", [{"supervision": "drawn_scribble"}, {"reader_error": 2.0}])
def test_a_sample_is_drawn_the_same_whenever_it_is_asked_for(study, changes):
    forwards = [_drawn(study, row, **changes) for row in range(6)]
    backwards = [_drawn(study, row, **changes) for row in reversed(range(6))]
    for one, other in zip(forwards, reversed(backwards), strict=True):
        np.testing.assert_array_equal(one, other)
    others = [_drawn(study, row, seed=9, **changes) for row in range(6)]
    assert any((one != other).any() for one, other in zip(forwards, others, strict=True))


def test_samples_that_look_alike_are_drawn_each_in_its_own_way(study):
    case, sample = study.pool.cases[0], study.pool.samples[2]
    oracle = Oracle(study.config.model_copy(update={"supervision": "drawn_scribble"}))
    assert (oracle(case, sample).mask != oracle(case, replace(sample, id="another")).mask).any()


def test_drawn_scribbles_lie_in_what_the_reader_saw(study):
    for row in range(6):
        scribble, truth = _drawn(study, row, supervision="drawn_scribble"), _truth(study, row)
        drawn = scribble != IGNORE
        np.testing.assert_array_equal(scribble[drawn], truth[drawn])
        assert set(np.unique(scribble[drawn])) == set(np.unique(truth))
    error = {"reader_error": 3.0}
    seen, drawn = _drawn(study, 2, **error), _drawn(study, 2, supervision="drawn_scribble", **error)
    np.testing.assert_array_equal(drawn[drawn != IGNORE], seen[drawn != IGNORE])


@pytest.mark.parametrize("unit", ["whole", "slice", "box"])
def test_every_unit_is_drawn_on_its_own_region(study, unit):
    case = study.pool.cases[0]
    shape = read_mask(case.mask)[0].shape
    pool = build_pool([case], [shape], unit, (3, 16, 16))
    oracle = Oracle(study.config.model_copy(update={"supervision": "drawn_scribble", "reader_error": 1.0}))
    for sample in pool.samples:
        assert oracle(case, sample).mask.shape == sample.region.shape


def test_pictures_are_drawn_too(study, tmp_path):
    from PIL import Image

    picture = np.zeros((40, 40), np.uint8)
    picture[10:25, 10:30] = 1
    Image.fromarray(picture).save(tmp_path / "mask.png")
    case = Case("lesion", ("lesion.png",), mask=str(tmp_path / "mask.png"))
    sample = Sample("lesion", 0, Region((0, 0), (40, 40)), 0.5)
    oracle = Oracle(study.config.model_copy(update={"supervision": "drawn_scribble"}))
    drawn = oracle(case, sample)
    assert set(np.unique(drawn.mask)) == {0, 1, IGNORE}
    assert drawn.minutes > study.config.minutes_per_image


# -- minutes -----------------------------------------------------------------------------------------------------------


def test_what_there_is_to_draw_decides_the_minutes(study):
    config = study.config
    empty, full = Work(1, 0, 0), Work(1, 3, 340)
    assert drawing_minutes(empty, config) == pytest.approx(0.5 + 0.1)
    assert drawing_minutes(full, config) == pytest.approx(0.5 + 0.1 + 0.3 + 0.612)
    twice = config.model_copy(update={"minutes_per_slice": 2.0})
    assert drawing_minutes(full, twice) - 0.5 == pytest.approx(2 * (drawing_minutes(full, config) - 0.5))


@pytest.mark.parametrize("supervision", ["scribble", "drawn_scribble"])
def test_a_scribble_is_fifteen_times_faster_than_the_mask_and_estimated_so(study, supervision):
    config = study.config.model_copy(update={"supervision": supervision})
    work = Work(2, 5, 500)
    ratio = (drawing_minutes(work, study.config) - 0.5) / (drawing_minutes(work, config) - 0.5)
    assert ratio == pytest.approx(15)
    assert (estimated_minutes(study.pool, config) - 0.5) * 15 == pytest.approx(
        estimated_minutes(study.pool, study.config) - 0.5
    )


def test_correcting_never_costs_more_than_drawing_anew(study):
    config, anew = study.config, Work(1, 3, 340)
    assert correcting_minutes(Work(1, 1, 30), anew, config) < drawing_minutes(anew, config)
    assert correcting_minutes(Work(1, 9, 900), anew, config) == drawing_minutes(anew, config)


def test_scribbles_of_a_case_without_mask_cost_what_was_estimated(study):
    config = study.config.model_copy(update={"supervision": "scribble"})
    case, sample = replace(study.pool.cases[0], mask=None), study.pool.samples[2]
    assert Oracle(config)(case, sample).minutes == estimated_minutes(study.pool, config)[2]


def test_correcting_a_right_prediction_costs_a_look_and_gives_the_same_mask(study):
    case, sample, truth = study.pool.cases[0], study.pool.samples[2], _truth(study, 2)
    assert truth.any()
    drawn = Oracle(study.config)(case, sample)
    right = Oracle(study.config, lambda sample: truth)(case, sample)
    wrong = Oracle(study.config, lambda sample: np.zeros_like(truth))(case, sample)
    assert right.minutes == pytest.approx(0.5 + 0.1)
    assert right.minutes < wrong.minutes <= drawn.minutes
    np.testing.assert_array_equal(right.mask, drawn.mask)


def test_a_simulated_reader_corrects_the_last_segmenter_from_the_second_round_on(home):
    play = {**PLAY, "rounds": 2, "query_size": 8}
    drew, corrected = simulate(home, **play), simulate(home, settings={"supervision": "corrected"}, **play)
    assert [round.masks for round in drew.rounds] == [round.masks for round in corrected.rounds]
    assert drew.rounds[0].minutes == corrected.rounds[0].minutes
    one, other = drew.rounds[1].minutes, corrected.rounds[1].minutes
    assert all(other[name] <= one[name] for name in one)
    assert _predictions(drew) is None
    shown, sample = _predictions(corrected), corrected.pool.samples[3]
    segmenter, cache = corrected.load_segmenter(corrected.rounds[-1].segmenter), corrected.labels.cache
    whole = segmenter.predict(np.asarray(cache.image(sample.case), np.float32)).argmax(axis=0)
    assert shown(sample).shape == sample.region.shape
    assert cache.placements[sample.case].full == whole.shape  # nothing was resampled, so that they can be compared
    np.testing.assert_array_equal(shown(sample), whole[sample.region.slices])


def test_a_simulated_reader_corrects_what_predict_would_write(home):
    play = {**PLAY, "query_size": 8, "settings": {"supervision": "corrected", "turned_views": [-40, 40]}}
    played = simulate(home, **play)
    segmenter = played.load_segmenter(played.rounds[-1].segmenter)
    shown, cache = _predictions(played), played.labels.cache
    plainly = 0
    for sample in played.pool.samples[::3]:
        image, placement = cache.image(sample.case), cache.placements[sample.case]
        np.testing.assert_array_equal(
            shown(sample), played.config.inference.predict(segmenter, image, placement)[sample.region.slices]
        )
        plainly += np.array_equal(shown(sample), PLAIN.predict(segmenter, image, placement)[sample.region.slices])
    assert plainly < len(played.pool.samples[::3])  # turned views say something else


def test_every_simulated_annotation_records_its_minutes_and_its_foreground(home):
    played = simulate(home, **PLAY)
    events = [event.payload for event in played.events if event.kind == "annotated"]
    assert len(events) == 3
    round = played.rounds[0]
    for payload in events:
        truth = _truth(played, played.pool.row_of[payload["sample"]])
        assert payload["foreground"] == np.count_nonzero(truth) == round.foreground[payload["sample"]]
        assert payload["minutes"] == pytest.approx(drawing_minutes(work_of(truth), played.config), abs=1e-3)
        assert round.minutes[payload["sample"]] == payload["minutes"]


def test_people_report_no_minutes_and_their_foreground_is_counted(home):
    study = Study(home)
    asked = study.query(2, "random")
    study.annotate(home.parent / "patients" / "masks")
    round = study.rounds[0]
    assert dict(round.minutes) == {}
    assert set(round.foreground) == set(asked.samples)
    study.drop({asked.samples[0]: "blurred"})
    assert set(study.rounds[0].foreground) == {asked.samples[1]}


def test_a_corrected_mask_has_cost_both_times(home):
    study = Study(home)
    name = study.query(1, "random").samples[0]
    study.annotate(lambda case, sample: Drawn(np.ones(sample.region.shape, np.uint8), 2.0))
    study.annotate(lambda case, sample: Drawn(np.zeros(sample.region.shape, np.uint8), 3.0), replace=True)
    assert study.rounds[0].minutes[name] == 5.0
    assert study.rounds[0].foreground[name] == 0


def test_on_real_hearts_the_estimate_is_right_on_average(study, shared_data):
    folder = shared_data("acdc")
    with (folder / "cases.csv").open() as file:
        names = [row["mask"] for row in csv.DictReader(file)][::9]
    works = [work_of(read_mask(folder / name)[0]) for name in names]
    drawn = np.mean([(drawing_minutes(work, study.config) - 0.5) / work.slices for work in works])
    assert drawn == pytest.approx(study.config.minutes_per_slice, rel=0.15)


# -- who may look ------------------------------------------------------------------------------------------------------


def test_outside_of_a_simulation_the_truth_is_refused(study):
    with pytest.raises(StudyError, match="reads the masks of samples before they are annotated"):
        study.query(2, "oracle_foreground_random")


def test_in_a_simulation_the_truth_finds_foreground_and_the_ledger_says_so(home):
    play = {**PLAY, "strategy": "oracle_foreground_random", "query_size": 6, "options": {"share": 1.0}}
    played = simulate(home, **play)
    round = played.rounds[0]
    assert all(_truth(played, played.pool.row_of[name]).any() for name in round.samples)
    assert round.details["used"]["true_class_share"] == {"read": "masks"}
    assert "known to be of class" in round.reasons[0]


def test_a_case_without_mask_is_named_where_the_truth_is_asked_for(study):
    blind = replace(study.pool, cases=tuple(replace(case, mask=None) for case in study.pool.cases))
    with pytest.raises(StudyError, match="has no mask"):
        Truth({}, 3).class_share(blind)


COLD = [name for name in STRATEGIES if not {"graph_embeddings", "unlabeledness"} & set(needs(STRATEGIES[name]))]


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache for all strategies, so that stand-in and encoders are trained once; all without a mask in reach."""
    return tmp_path_factory.mktemp("learned")


@pytest.mark.parametrize("name", COLD)
def test_no_first_round_reads_a_mask_but_that_of_the_oracle(name, home, learned):
    """All masks and scribbles are taken away once the study is made: who peeks, fails."""
    settings = {
        "# pretraining =": "pretraining = {iterations = 2}",
        "# proxy =": 'proxy = "otsu-bright"',
        'cache = "cache"': f'cache = "{learned}"',
    }
    text = (home / "study.toml").read_text()
    for line, changed in settings.items():
        assert line in text
        text = text.replace(line, changed)
    (home / "study.toml").write_text(text)
    for folder in ("masks", "scribbles"):
        shutil.rmtree(home.parent / "patients" / folder)
    study = Study(home)
    study = Study(home, truth=Truth(study.config.mask_codes, len(study.config.classes)))
    if name == "oracle_foreground_random":
        with pytest.raises((NextmaskError, OSError), match="mask"):
            study.query(3, name)
    elif set(OF_CLASSES) & set(needs(STRATEGIES[name])):  # the stand-in for a segmenter tells no classes apart
        with pytest.raises(StudyError, match="foreground only, no classes"):
            study.query(3, name)
    else:
        assert len(study.query(3, name).samples) == 3
