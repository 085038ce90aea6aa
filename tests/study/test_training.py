"""What a study's settings make of a training: ensembles, pseudo-labels, going on, scribbles with their far side."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from tests.study.conftest import SHAPE

from nextmask.data.strokes import Conclusions
from nextmask.errors import StudyError
from nextmask.study import config
from nextmask.study.config import parse_config
from nextmask.study.simulate import simulate
from nextmask.study.study import Study
from nextmask.study.summary import pictures_of, write_report
from nextmask.training.objectives import OBJECTIVES

PLAY = {"strategy": "random", "query_size": 4, "seed": 4}


def networks(study, number):
    return study.load_segmenter(study.rounds[number - 1].segmenter).networks


def test_an_ensemble_is_trained_and_asked(home):
    played = simulate(home, rounds=1, settings={"members": 2}, **PLAY)
    assert len(networks(played, 1)) == 2
    assert played.rounds[0].training["members"] == 2
    asked = played.query(2, "power_bald")
    assert asked.details["used"]["mutual_information"]["members"] == "ensemble"
    assert not list((played.folder / "rounds" / "01").glob("training*"))


def test_snapshots_are_members_too(home):
    played = simulate(home, rounds=1, settings={"snapshots": 2}, **PLAY)
    assert len(networks(played, 1)) == 2


def test_a_training_goes_on_from_the_last_round(home):
    settings = {"start": "last round", "members": 2}
    played = simulate(home, rounds=2, settings=settings, **PLAY)
    first, second = played.rounds
    assert first.training["start"] == {"weights": "last round", "sha256": None}
    assert second.training["start"]["sha256"] == first.segmenter.sha256
    fresh = simulate(home, rounds=2, settings={"members": 2}, **PLAY)
    assert not all(
        torch.equal(a, b)
        for a, b in zip(networks(played, 2)[0].parameters(), networks(fresh, 2)[0].parameters(), strict=True)
    )


def test_a_training_grows_with_the_labels_where_that_is_asked_for(home):
    played = simulate(home, rounds=2, settings={"iterations_per_sample": 0.6, "iterations": 100}, **PLAY)
    assert [each.training["config"]["iterations"] for each in played.rounds] == [2, 5]


def test_pseudo_labels_are_learned_from_and_never_counted(home, monkeypatch):
    monkeypatch.setattr("nextmask.study.pseudo.SURE", 0.3)  # a network of four steps is sure of nothing
    monkeypatch.setattr("nextmask.study.pseudo.SHARE", 0.5)
    settings = {"objectives": {"supervised": 1.0, "pseudo_labels": 0.3}}
    played = simulate(home, rounds=2, settings=settings, **PLAY)
    first, second = played.rounds
    assert first.training["pseudo_labeled"] == 0
    assert 0 < second.training["pseudo_labeled"] <= 4
    assert second.training["trained_on"] == len(first.masks) + len(second.masks)
    assert played.labeled.sum() == 8
    assert not list(played.folder.rglob("pseudo-*"))


def test_unlabeled_images_are_learned_from(home):
    with_them = {"objectives": {"supervised": 1.0, "fixmatch": 1.0}}
    played = simulate(home, rounds=1, settings=with_them, **PLAY)
    assert dict(played.rounds[0].training["config"]["objectives"]) == with_them["objectives"]


def test_scribbles_come_with_their_far_side_unless_that_is_switched_off(home):
    played = simulate(home, rounds=1, settings={"supervision": "scribble"}, **PLAY)
    masks = {name: played.path(file) for name, file in played.rounds[0].masks.items()}
    open_ = [
        [np.mean(load()[1] == 255) for load in played.labels.samples(masks, concluded=Conclusions(far))]
        for far in (False, True)
    ]
    assert all(less <= more for more, less in zip(*open_, strict=True))
    assert sum(open_[1]) < sum(open_[0])
    without = simulate(home, rounds=1, settings={"supervision": "scribble", "far_background": False}, **PLAY)
    assert not all(
        torch.equal(a, b)
        for a, b in zip(networks(played, 1)[0].parameters(), networks(without, 1)[0].parameters(), strict=True)
    )


def test_strokes_grow_in_what_is_trained_on_and_not_in_what_was_drawn(home):
    grown = {"supervision": "drawn_scribble", "grown_strokes": {"chamber": 0.9, "background": 0.8}}
    played = simulate(home, rounds=1, settings=grown, **PLAY)
    drawn = simulate(home, rounds=1, settings={"supervision": "drawn_scribble"}, **PLAY)
    assert played.rounds[0].masks == drawn.rounds[0].masks
    assert played.rounds[0].segmenter != drawn.rounds[0].segmenter
    masks = {name: played.path(file) for name, file in played.rounds[0].masks.items()}
    seen = [played.labels.samples(masks, concluded=each.config.concluded) for each in (drawn, played)]
    more = set()
    for before, after in ((one()[1], other()[1]) for one, other in zip(*seen, strict=True)):
        if before.shape == SHAPE[1:]:  # nothing was resampled, so that they can be compared
            np.testing.assert_array_equal(before[before != 255], after[before != 255])
            more |= set(np.unique(after[before != after]))
    assert played.rounds[0].training["concluded"] == {"far": True, "grown": [[0, 0.8], [1, 0.9]]}
    shown = write_report(played).read_text()
    assert re.search(r"training: far side of scribbled slices(.|\n){1,40}background", shown)
    assert re.search(r"training: grown strokes(.|\n){1,40}background 0.8, chamber 0.9", shown)
    shown, plain = ({each.sample: each for each in pictures_of(study, 9)} for study in (played, drawn))
    assert all(plain[name].learned is None for name in plain)
    for name, picture in shown.items():
        np.testing.assert_array_equal(picture.mask, plain[name].mask)
        told = picture.mask != 255
        np.testing.assert_array_equal(picture.learned[told], picture.mask[told])
    assert any((picture.learned == 1).sum() > (picture.mask == 1).sum() for picture in shown.values())
    assert more == {0, 1}  # background and chamber; of other classes stays what was drawn


def test_slices_train_a_network_of_volumes(home):
    played = simulate(home, rounds=1, settings={"dimensions": 3}, **{**PLAY, "query_size": 9})
    round = played.rounds[0]
    cases = {played.pool.samples[played.pool.row_of[name]].case for name in round.masks}
    assert round.training["config"]["dimensions"] == 3
    assert round.training["trained_on"] == len(cases) < len(round.masks)
    assert round.stage == "done"
    masks = {name: played.path(file) for name, file in round.masks.items()}
    annotated = sum((load()[1] != 255).any(axis=(1, 2)).sum() for load in played.labels.samples(masks, dimensions=3))
    assert annotated == len(round.masks)
    played.query(2, "most_uncertain")


def test_volumes_train_a_network_of_slices(home, small_config):
    study = Study.create(home.parent / "whole", small_config(unit="whole", dimensions=2, test_fraction=0.2))
    study.query(2, "random")
    study.annotate(home.parent / "patients" / "masks")
    round = study.train()
    assert round.training["config"]["dimensions"] == 2
    shapes = [study.labels.shapes()[study.pool.samples[study.pool.row_of[name]].case] for name in round.masks]
    assert round.training["trained_on"] == sum(slices for slices, _, _ in shapes)
    assert study.evaluate().stage == "done"
    study.query(1, "most_uncertain")


def test_an_objective_that_does_not_exist_is_an_error_of_the_settings(home):
    values = Study(home).config.model_dump() | {"objectives": {"unimach": 1.0}}
    with pytest.raises(StudyError, match="no objective unimach; expected some of supervised"):
        parse_config(values)
    with pytest.raises(StudyError, match="expected weights above 0"):
        parse_config(values | {"objectives": {"supervised": 0.0}})


def test_the_settings_know_the_objectives_of_the_training():
    assert set(config.OBJECTIVES) == set(OBJECTIVES)


@pytest.mark.parametrize(
    ("sure", "told"),
    [
        ({"lvv": 0.9}, "no class lvv; expected some of background, rv, lv"),
        ({"lv": 0.5}, "expected probabilities above 0.5, up to 1"),
        ({"background": 1.5}, "expected probabilities above 0.5, up to 1"),
    ],
)
def test_strokes_that_cannot_grow_are_an_error(sure, told):
    with pytest.raises(StudyError, match=rf"grown_strokes(.|\n)*{told}"):
        parse_config({"images": "x", "classes": ["rv", "lv"], "grown_strokes": sure})


def test_from_masks_nothing_is_concluded():
    values = {"images": "x", "classes": ["rv", "lv"], "grown_strokes": {"lv": 0.9, "background": 0.8}}
    assert not parse_config(values).concluded
    assert parse_config({**values, "supervision": "scribble"}).concluded == Conclusions(True, ((0, 0.8), (2, 0.9)))
