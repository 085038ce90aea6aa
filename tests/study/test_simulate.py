"""Simulated studies: beside the study, resumable, honest about what the oracle cannot draw."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import pytest

from nextmask.errors import StudyError
from nextmask.study.cohort import Cohort
from nextmask.study.ledger import Ledger
from nextmask.study.simulate import Plan, _name, _with_references, simulate, simulations
from nextmask.study.study import Study

PLAY = {"strategy": "random", "query_size": 3, "seed": 4}


def test_it_plays_the_rounds_that_are_asked_for_and_leaves_the_study_alone(home):
    before = Study(home).events
    played = simulate(home, rounds=2, **PLAY)
    assert [round.stage for round in played.rounds] == ["done", "done"]
    assert played.labeled.sum() == 6
    assert {event.author for event in played.events if event.kind == "annotated"} == {"oracle"}
    assert Study(home).events == before
    assert [each.folder for each in simulations(home)] == [played.folder]


def test_more_rounds_go_on_where_it_was(home):
    first = simulate(home, rounds=1, **PLAY).events
    later = simulate(home, rounds=2, **PLAY).events
    assert later[: len(first)] == first
    assert simulate(home, rounds=2, **PLAY).events == later


def test_it_ends_when_everything_is_labeled(home):
    played = simulate(home, strategy="random", query_size=17, rounds=9, seed=0)
    assert played.labeled.all()
    assert len(played.rounds) < 9
    assert len(played.rounds[-1].samples) == len(played.pool) - 17 * (len(played.rounds) - 1)


def test_scribbles_train_and_empty_ones_count_as_asked_for(home):
    played = simulate(home, rounds=1, settings={"supervision": "scribble"}, **PLAY)
    round = played.rounds[0]
    assert len(round.masks) + len(round.dropped) == 3
    assert round.training["trained_on"] == len(round.masks)


def test_other_settings_are_another_simulation(home):
    one = simulate(home, rounds=1, **PLAY)
    other = simulate(home, rounds=1, settings={"iterations": 5}, **PLAY)
    assert one.folder != other.folder
    assert other.rounds[0].training["config"]["iterations"] == 5


def test_the_seed_decides_what_is_asked_for_and_how_it_is_trained(home):
    twins = [simulate(home, strategy="random", query_size=5, rounds=1, seed=seed) for seed in (1, 2)]
    assert [study.config.seed for study in twins] == [1, 2]
    assert twins[0].rounds[0].samples != twins[1].rounds[0].samples


def test_a_study_whose_settings_changed_meanwhile_is_refused(home):
    simulate(home, rounds=1, **PLAY)
    text = (home / "study.toml").read_text()
    (home / "study.toml").write_text(text.replace("iterations = 4", "iterations = 7"))
    with pytest.raises(StudyError, match="other settings"):
        simulate(home, rounds=1, **PLAY)


def test_a_simulation_that_was_killed_while_being_made_is_not_listed_and_is_made_anew(home):
    half = home / "simulations" / "random-n3-seed4"
    half.mkdir(parents=True)
    shutil.copy(home / "study.toml", half)
    shutil.copy(home / "splits.csv", half)
    assert simulations(home) == []
    Ledger(half / "ledger.sqlite").close()
    assert simulations(home) == []
    assert simulate(home, rounds=1, **PLAY).rounds[0].stage == "done"


def test_cases_without_truth_are_left_out_of_the_pool_only(home):
    cohort = Study(home).cohort
    blind = Cohort(tuple(replace(case, mask=None) for case in cohort.cases), cohort.scans, cohort.side)
    with pytest.raises(StudyError, match="no case of the pool has a mask"):
        _with_references(blind, "mask")
    known = next(case.id for case in cohort.cases if cohort.side[case.id] == "pool")
    mixed = Cohort(
        tuple(case if case.id == known else replace(case, mask=None) for case in cohort.cases),
        cohort.scans,
        cohort.side,
    )
    left = _with_references(mixed, "mask")
    assert [case.id for case in left.on("pool").cases] == [known]
    assert len(left.on("test").cases) == len(cohort.on("test").cases)


def test_every_round_may_have_its_own_size(home):
    played = simulate(home, strategy="random", query_size=[2, 1, 4], seed=0)
    assert [len(round.samples) for round in played.rounds] == [2, 1, 4]


def test_the_first_round_may_be_another_strategy_s(home):
    played = simulate(
        home, strategy="most_uncertain", query_size=2, rounds=2, first="k_center", first_options={"first": "random"}
    )
    assert [round.strategy for round in played.rounds] == ["k_center", "most_uncertain"]
    assert played.rounds[0].details["options"] == {"first": "random"}
    assert played.rounds[1].details["options"] == {}
    assert played.folder.name == "most_uncertain-n2-seed0-first=k_center-first.first=random"


@pytest.mark.parametrize(("size", "rounds"), [(3, None), ([3, 3], 3)])
def test_it_must_be_clear_how_many_rounds_to_play(home, size, rounds):
    with pytest.raises(StudyError, match="how many rounds"):
        simulate(home, strategy="random", query_size=size, rounds=rounds)


def test_it_may_be_played_elsewhere(home, tmp_path):
    played = simulate(home, rounds=1, to=tmp_path / "else" / "where", **PLAY)
    assert played.folder == tmp_path / "else" / "where"
    assert simulations(home) == []
    assert Study(played.folder).rounds[0].scores == played.rounds[0].scores
    assert played.cache("pool").folder.resolve() == (home / "cache").resolve()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"objectives": {"supervised": 1, "fixmatch": 0.5}}, r"objectives=supervised=1\+fixmatch=0\.5"),
        ({"box": [16, 16, 16]}, r"box=16\+16\+16"),
        ({"start": "last round"}, r"start=last_round-[0-9a-f]{8}"),
        ({"proxy": "hu:100:150"}, r"proxy=hu_100_150-[0-9a-f]{8}"),
        (
            {"training": {"patch_size": [64, 64]}, "pretraining": {f"key{n}": n for n in range(99)}},
            r".{82}-[0-9a-f]{8}",
        ),
    ],
)
def test_the_folder_of_a_simulation_has_a_name_for_people_and_for_every_file_system(settings, name):
    assert re.fullmatch(rf"random-n3\+3-seed4-{name}", _name(Plan((3, 3), "random"), (3, 3), 4, settings))


@pytest.mark.parametrize(
    ("one", "other"),
    [("hu:100:150", "hu_100_150"), ({"a": 1, "b": 2}, {"a": 12}), ("x" * 300 + "1", "x" * 300 + "2")],
)
def test_settings_that_differ_have_folders_that_differ(one, other):
    plan = Plan((3,), "random")
    assert _name(plan, 3, 4, {"proxy": one}) != _name(plan, 3, 4, {"proxy": other})
