"""Scores of segmenters whose answers are known."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from itertools import cycle

import numpy as np
import pytest

from nextmask.data.images import read_mask
from nextmask.selection.measures import image_uncertainty
from nextmask.study.evaluation import Task, evaluate
from nextmask.study.inference import Inference
from nextmask.study.rounds import StoredFile
from nextmask.study.study import Study


class Known:
    """A segmenter that answers with the truth of the case it is shown next, except for the classes it is blind to."""

    def __init__(self, task: Task, blind: tuple[int, ...] = ()):
        self.shown = iter(range(len(task.test.cases)))
        self.task, self.blind, self.asked = task, blind, 0

    def predict(self, image: np.ndarray) -> np.ndarray:
        self.asked += 1
        row = next(self.shown)
        truth = self.task.cache.mask(row, "t" * 32, lambda: read_mask(self.task.test.cases[row].mask)[0])
        truth = np.where(np.isin(truth, self.blind), 0, truth)
        return np.stack([truth == label for label in range(4)]).astype(np.float32)


@pytest.fixture
def task(home, tmp_path) -> Task:
    study = Study(home)
    (tmp_path / "round").mkdir()
    # 32 voxels a side fit the working grid as they are, so the truth survives the way there and back.
    assert study.labels.cache.placements[0].working == study.labels.cache.placements[0].full
    cache, classes = study.cache("test"), study.config.classes
    folders, file = (tmp_path / "round", tmp_path / "known"), StoredFile("s.pt", "a" * 64)
    return Task(*folders, study.cohort.on("test"), cache, classes, {}, file, lambda file: None)


def with_segmenter(task: Task, **kwargs) -> tuple[Task, Known]:
    known = Known(task, **kwargs)
    return Task(**{**vars(task), "load": lambda file: known}), known


def test_the_truth_scores_one_and_no_distance(task):
    result = evaluate(with_segmenter(task)[0])
    assert (result["cases"], set(result["absent"].values())) == (1, {0})
    for name in task.classes:
        assert result["scores"][name] == {"dice": 1.0, "hd95": 0.0, "nsd": 1.0, "assd": 0.0}


def test_how_unsure_a_segmenter_is_is_read_from_what_it_said(task, tmp_path):
    """And not from what is left of it once a mask was made."""
    at_first, known = with_segmenter(task)
    said = []

    def blurred(image):
        said.append(np.float32(0.7) * Known.predict(known, image) + np.float32(0.3 / 4))
        return said[-1].copy()

    known.predict = blurred
    evaluate(at_first)
    (log,) = (tmp_path / "known").glob("*.jsonl")
    lines = [json.loads(line) for line in log.read_text().splitlines() if line]
    spacings = [task.cache.spacings[row] for row in range(len(said))]
    unsure = [image_uncertainty(one, spacing=spacing) for one, spacing in zip(said, spacings, strict=True)]
    assert [line["uncertainty"] for line in lines] == pytest.approx(unsure, abs=1e-6)


def test_a_class_that_is_missed_scores_zero_and_the_others_do_not_suffer(task):
    scores = evaluate(with_segmenter(task, blind=(2,))[0])["scores"]
    assert scores["wall"]["dice"] == 0.0
    assert scores["wall"]["hd95"] > 10
    assert scores["chamber"]["dice"] == scores["lobe"]["dice"] == 1.0


def test_all_scores_are_written_case_by_case(task):
    evaluate(with_segmenter(task, blind=(3,))[0])
    with (task.folder / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["case"], row["class"]) for row in rows] == [(task.test.cases[0].id, name) for name in task.classes]
    assert [row["dice"] for row in rows] == ["1.0", "1.0", "0.0"]


def scored_again(task: Task, **changes) -> dict:
    """Evaluate with a segmenter that is blind to nothing; say too how often it was asked."""
    task, known = with_segmenter(Task(**{**vars(task), **changes}))
    return {**evaluate(task), "asked": known.asked}


def test_what_this_very_segmenter_scored_before_is_kept(task):
    first = evaluate(with_segmenter(task, blind=(2,))[0])
    again = scored_again(task)
    assert again["asked"] == 0
    assert again["scores"] == first["scores"]


@pytest.mark.parametrize(
    "change",
    [
        {"segmenter": StoredFile("s.pt", "b" * 64)},
        {"codes": {7: 1}},
        {"classes": ("chamber", "wall", "hole")},
        {"inference": Inference(whole=(2,))},
    ],
    ids=str,
)
def test_whatever_decides_the_scores_is_measured_anew(task, change):
    evaluate(with_segmenter(task, blind=(2,))[0])
    again = scored_again(task, **change)
    assert again["asked"] == 1
    assert again["scores"]["wall"]["dice"] == 1.0


def test_other_views_are_measured_anew(task):
    evaluate(with_segmenter(task)[0])
    turned, known = with_segmenter(replace(task, inference=Inference(turned=(180,))))
    known.shown = cycle(known.shown)
    assert evaluate(turned)["scores"]["wall"]["dice"] < 1.0  # what it says of the turned image is turned back
    assert known.asked == 2


def test_a_mask_that_changed_is_measured_anew(task):
    evaluate(with_segmenter(task, blind=(2,))[0])
    os.utime(task.test.cases[0].mask, (1, 1))
    assert scored_again(task)["asked"] == 1


def test_a_line_that_a_crash_cut_short_spoils_no_other(task):
    evaluate(with_segmenter(task)[0])
    (log,) = task.known.glob("*.jsonl")
    log.write_text(log.read_text().strip()[:-5])
    assert scored_again(task)["asked"] == 1
    assert scored_again(task)["asked"] == 0


def test_a_class_that_is_nowhere_is_counted_and_left_out(task):
    classes = (*task.classes, "never")
    result = evaluate(with_segmenter(Task(**{**vars(task), "classes": classes}))[0])
    assert result["scores"]["never"] == {"dice": None, "hd95": None, "nsd": None, "assd": None}
    assert result["absent"] == {**dict.fromkeys(task.classes, 0), "never": 1}
