"""What `show` and the report say."""

from __future__ import annotations

import json

import numpy as np

from nextmask.study.cost import estimated_minutes
from nextmask.study.simulate import simulate
from nextmask.study.study import Study
from nextmask.study.summary import (
    facts,
    foreground_after,
    labeled_after,
    mean_dice,
    minutes_after,
    summary,
    write_report,
)


def test_a_fresh_study_says_what_it_is_and_what_comes_next(home):
    said = facts(Study(home))
    assert said["next"] == "query"
    assert said["labeled"] == "0 of 24, about 0 minutes of annotation"
    assert said["pool"].startswith("24 samples (unit slice) of 4 cases")


def test_what_is_missing_is_counted(home):
    study = Study(home)
    asked = study.query(3, "random")
    study.drop({asked.samples[0]: "motion"})
    assert facts(study)["next"] == "annotate (2 of 3 masks missing)"
    assert labeled_after(study.rounds) == [1]


def test_the_summary_is_json_with_the_simulations(home):
    played = simulate(home, strategy="random", query_size=2, rounds=2, seed=0)
    said = json.loads(json.dumps(summary(Study(home))))
    rounds = said["simulations"][played.folder.name]
    assert [row["labeled"] for row in rounds] == [2, 4]
    assert rounds[1]["mean_dice"] == mean_dice(played.rounds[1])
    assert said["rounds"] == []
    assert [row["foreground"] for row in rounds] == foreground_after(played.rounds)
    assert [row["minutes"] for row in rounds] == minutes_after(played)


def test_minutes_and_foreground_add_up_over_rounds_and_unrecorded_ones_are_estimated(home):
    played = simulate(home, strategy="random", query_size=2, rounds=2, seed=0)
    each = [sum(round.minutes.values()) for round in played.rounds]
    np.testing.assert_allclose(minutes_after(played), np.cumsum(each))
    assert foreground_after(played.rounds) == np.cumsum([sum(r.foreground.values()) for r in played.rounds]).tolist()
    study = Study(home)
    asked = study.query(2, "random")
    study.drop({asked.samples[0]: "motion"})
    assert minutes_after(study) == [estimated_minutes(study.pool, study.config)[0]]
    study.annotate(home.parent / "patients" / "masks")
    assert minutes_after(study) == [2 * estimated_minutes(study.pool, study.config)[0]]


def test_the_report_shows_the_study_and_its_simulations(home):
    played = simulate(home, strategy="random", query_size=2, rounds=1, seed=0)
    study = Study(home)
    study.query(2, "strided")
    page = write_report(study).read_text()
    assert played.folder.name in page
    assert "strided" in page
    assert page.count("data:image/png;base64,") >= 2
    assert "torch" in page


def test_runs_of_other_settings_are_other_curves(home):
    for seed in (0, 1):
        simulate(home, strategy="random", query_size=2, rounds=1, seed=seed)
    simulate(home, strategy="random", query_size=2, rounds=1, seed=0, settings={"supervision": "scribble"})
    page = write_report(Study(home)).read_text()
    assert "random-n2, 2 runs" in page
    assert "random-n2-supervision=scribble" in page
    assert "this study" not in page


def test_a_class_without_any_score_is_left_out_of_the_mean(home):
    from nextmask.study.rounds import Round

    assert mean_dice(Round(1, "random", (), scores={"a": {"dice": 0.5}, "b": {"dice": None}})) == 0.5
    assert mean_dice(Round(1, "random", (), scores={"a": {"dice": None}})) is None
