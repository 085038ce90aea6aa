"""A query in samples or in minutes, within limits, and with the reason of each sample."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from nextmask.data.files import digest
from nextmask.errors import SelectionError, StudyError
from nextmask.features.difficulty import restoration_difficulty
from nextmask.features.pretrain import load_encoder
from nextmask.features.tasks import TASKS
from nextmask.selection.types import because
from nextmask.study.cost import estimated_minutes
from nextmask.study.request import Request, with_class_names
from nextmask.study.simulate import simulate
from nextmask.study.study import Study
from nextmask.study.summary import facts, summary, write_report


def test_the_reason_of_each_sample_is_in_the_ledger_the_worklist_and_the_report(home):
    study = Study(home)
    asked = study.query(3, "typiclust")
    assert len(asked.reasons) == 3
    assert all("cluster" in reason for reason in asked.reasons)
    assert set(map(len, asked.details["numbers"].values())) == {3}
    with (home / asked.details["worklist"]["path"]).open() as file:
        listed = list(csv.DictReader(file))
    assert [line["reason"] for line in listed] == list(asked.reasons)
    assert [line["sample"] for line in listed] == list(asked.samples)
    assert asked.reasons[0] in write_report(study).read_text()
    assert summary(study)["rounds"][0]["reasons"] == list(asked.reasons)


@pytest.mark.parametrize("strategy", ["cscs", "urds"])
def test_a_cold_study_is_asked_by_difficulty(made_study, tmp_path, small_config, strategy):
    images = str(made_study / "patients" / "cases.csv")
    config = small_config(images=images, encoder="contrastive", pretraining={"iterations": 2, "temperature": 0.2})
    study = Study.create(tmp_path / "study", config)
    asked = study.query(3, strategy)
    assert "difficulty" in asked.reasons[0]
    used = asked.details["used"]["difficulty"]
    assert (used["encoder"], used["maskings"]) == ("reconstruction", 8)
    files = sorted((tmp_path / "study" / "cache" / "encoders").glob("reconstruction-*.pt"))
    assert [digest(path) for path in files] == [used["weights"]]
    values = study._evidence(None).mapping()["difficulty"]()
    assert values.shape == (len(study.pool),)
    assert np.ptp(values) > 0
    one = load_encoder(files[0], TASKS, "cpu")
    assert values[5] == pytest.approx(restoration_difficulty(one, study.labels.image(5)), rel=1e-5)


def test_a_strategy_of_ones_own_need_not_give_reasons(home):
    def last_ones(labeled, n, *, rng):
        return np.flatnonzero(~labeled)[-n:]

    asked = Study(home).query(2, last_ones)
    assert asked.reasons == ("", "")
    assert "reasons" not in asked.details


def test_a_query_in_minutes_costs_no_more_than_that(home):
    study = Study(home)
    each = study.config.minutes_per_image + study.config.minutes_per_slice
    asked = study.query(minutes=7 * each + 0.4 * each, strategy="random")
    assert len(asked.samples) == 7
    assert asked.details["minutes"] == pytest.approx(7.4 * each)
    assert asked.details["cost"] == pytest.approx(7 * each)
    assert study.query(minutes=7 * each + 0.4 * each, strategy="random") == asked
    with pytest.raises(StudyError, match="waits for the masks"):
        study.query(7, "random")


@pytest.mark.parametrize(("n", "minutes"), [(None, None), (3, 10.0)])
def test_either_samples_or_minutes(home, n, minutes):
    with pytest.raises(StudyError, match="Expected one of the two"):
        Study(home).query(n, "random", minutes=minutes)


@pytest.mark.parametrize("minutes", [0.0, -3.0, float("nan"), float("inf")])
def test_minutes_must_be_some(home, minutes):
    with pytest.raises(StudyError, match="minutes is"):
        Study(home).query(minutes=minutes, strategy="random")


def test_limits_hold_within_a_query_and_spacing_over_rounds(home):
    study = Study(home)
    first = study.query(4, "strided", per_patient=1)
    assert len({study.pool.case_of(study.pool.row_of[name]).patient for name in first.samples}) == 4
    study.annotate(home.parent / "patients" / "masks")
    study.train()
    second = study.query(4, "random", spacing=3)
    of_case: dict[str, list[int]] = {}
    for name in (*first.samples, *second.samples):
        sample = study.pool.samples[study.pool.row_of[name]]
        of_case.setdefault(study.pool.cases[sample.case].id, []).append(sample.region.start[0])
    for case, places in of_case.items():
        new = [z for z in places if f"{case}__z{z:04d}" in second.samples]
        assert all(abs(z - other) >= 3 for z in new for other in places if other != z)
    assert second.details["limits"] == {"spacing": 3}


def test_limits_that_cannot_be_kept_say_how_many_could_be_had(home):
    with pytest.raises(SelectionError, match="4"):
        Study(home).query(9, "random", per_patient=1)


def test_boxes_that_may_overlap_are_never_asked_for_together(made_study, tmp_path, small_config):
    config = small_config(
        unit="box",
        box=(3, 16, 16),
        box_stride=(2, 8, 8),
        iterations=2,
        images=str(made_study / "patients" / "cases.csv"),
        working_size=32,
    )
    study = Study.create(tmp_path / "boxes", config)
    assert len(study.pool) > 4 * 2 * 2 * 2
    played = simulate(tmp_path / "boxes", strategy="random", query_size=6, rounds=2)
    taken = np.flatnonzero(played.labeled)
    assert len(taken) == 12
    others = played.pool.overlapping(played.labeled)
    assert others.sum() > len(taken)
    for row in taken:
        alone = np.zeros(len(played.pool), bool)
        alone[row] = True
        assert not (played.pool.overlapping(alone) & played.labeled & ~alone).any()


def test_a_simulation_of_overlapping_boxes_ends_where_no_box_is_free(made_study, tmp_path, small_config):
    config = small_config(
        unit="box",
        box=(6, 32, 32),
        box_stride=(6, 8, 32),
        iterations=1,
        images=str(made_study / "patients" / "cases.csv"),
        working_size=16,
    )
    Study.create(tmp_path / "boxes", config)
    played = simulate(tmp_path / "boxes", strategy="random", query_size=3, rounds=9)
    assert len(played.rounds) == 2
    assert played.labeled.sum() == 4
    assert not played.askable.any()


def test_minutes_are_counted_by_slices(home, made_study, tmp_path, small_config):
    slices = Study(home)
    assert set(estimated_minutes(slices.pool, slices.config).tolist()) == {1.5}
    config = small_config(unit="whole", images=str(made_study / "patients" / "cases.csv"), minutes_per_slice=2)
    whole = Study.create(tmp_path / "whole", config)
    assert set(estimated_minutes(whole.pool, whole.config).tolist()) == {0.5 + 2 * 6}
    slices.query(2, "random")
    slices.annotate(home.parent / "patients" / "masks")
    assert "about 3 minutes" in facts(slices)["labeled"]


def test_reasons_call_classes_by_their_names():
    query = because([4, 2], "for class {number}, as class 1 is", number=[1, 2])
    reasons = with_class_names(query, ("wall", "lobe")).reasons
    assert reasons == ("for class wall, as class wall is", "for class lobe, as class wall is")


def test_a_round_of_an_older_ledger_is_recognised():
    details = {"round": 1, "strategy": "random", "n": 4, "options": {}, "samples": []}
    assert Request("random", 4).is_that_of(details)
    assert not Request("random", 5).is_that_of(details)
    assert not Request("random", 4, limits={"spacing": 2}).is_that_of(details)
