"""Equal trainings are done once, and only equal ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nextmask.study.simulate import simulate
from nextmask.study.study import Study
from nextmask.training import several

PLAY: dict[str, Any] = {"strategy": "random", "query_size": [3], "seed": 4}


@pytest.fixture
def trainings(monkeypatch):
    """A list that grows by the seed of each training that is done."""
    done, real = [], several.fit

    def counted(*args, **options):
        done.append(options["seed"])
        return real(*args, **options)

    monkeypatch.setattr(several, "fit", counted)
    return done


def shared(home: Path) -> list[Path]:
    return sorted((home / "cache" / "segmenters").glob("*.pt"))


def test_the_same_samples_settings_and_seed_are_trained_on_once(home, trainings):
    one = simulate(home, **PLAY)
    other = simulate(home, settings={"encoder": "segmenter"}, **PLAY)
    assert one.folder != other.folder
    assert trainings == [[4, 1]]
    assert other.rounds[0].segmenter == one.rounds[0].segmenter
    assert [each.rounds[0].training["shared"] for each in (one, other)] == [False, True]
    assert other.rounds[0].training["seconds"] == one.rounds[0].training["seconds"]
    assert other.rounds[0].scores == one.rounds[0].scores


@pytest.mark.parametrize(
    "change",
    [
        {"settings": {"iterations": 5}},
        {"settings": {"training_seed": 5}},
        {"settings": {"supervision": "scribble"}},
        {"settings": {"supervision": "scribble", "far_background": False}},
        {"settings": {"supervision": "scribble", "grown_strokes": {"background": 0.9}}},
        {"settings": {"members": 2}},
        {"settings": {"objectives": {"partial_cross_entropy": 1.0}}},
        {"query_size": [4]},
        {"seed": 5},
        {"strategy": "typiclust"},
    ],
    ids=str,
)
def test_whatever_decides_the_weights_makes_it_another_training(home, trainings, change):
    one = simulate(home, **PLAY)
    other = simulate(home, **{**PLAY, **change})
    assert len(trainings) == 2  # of two members the first is the one that is trained already
    assert len({each.rounds[0].segmenter.sha256 for each in (one, other)}) == 2


def test_members_that_are_trained_already_are_taken_over(home, trainings):
    play = {**PLAY, "query_size": [3, 2]}
    whole = simulate(home, settings={"members": 3, "snapshots": 2, "cache": "apart"}, **play)
    assert trainings == [[4, 1], [4, 1, 1], [4, 1, 2], [4, 2], [4, 2, 1], [4, 2, 2]]
    trainings.clear()
    grown = [simulate(home, settings={"members": members, "snapshots": 2}, **play) for members in (1, 3)]
    assert trainings == [[4, 1], [4, 2], [4, 1, 1], [4, 1, 2], [4, 2, 1], [4, 2, 2]]
    for mine, expected in zip(grown[1].rounds, whole.rounds, strict=True):
        assert mine.segmenter.sha256 == expected.segmenter.sha256
        assert (mine.training["taken_over"], expected.training["taken_over"]) == (True, False)
    simulate(home, settings={"members": 2, "snapshots": 2}, **play)
    assert trainings[6:] == [[4, 1, 1], [4, 2, 1]]  # of three the first two are not known to be those of two


def test_other_weights_to_begin_with_are_another_training(home, trainings):
    pretraining = {"iterations": 2}
    for start in ("scratch", "restoration", "restoration+decoder"):
        simulate(home, settings={"start": start, "pretraining": pretraining}, **PLAY)
    assert len(trainings) == len(shared(home)) == 3


def test_a_seed_of_training_leaves_the_queries_alone(home):
    one, other = (simulate(home, settings={"training_seed": seed}, **PLAY) for seed in (1, 2))
    assert one.rounds[0].samples == other.rounds[0].samples
    assert one.rounds[0].segmenter != other.rounds[0].segmenter


def test_what_is_damaged_is_trained_anew(home, trainings):
    simulate(home, **PLAY)
    (path,) = shared(home)
    path.unlink()
    path.write_bytes(b"half")
    other = simulate(home, settings={"encoder": "segmenter"}, **PLAY)
    assert len(trainings) == 2
    assert other.load_segmenter(other.rounds[0].segmenter)


def test_the_cache_may_be_deleted(home):
    played = simulate(home, **PLAY)
    (path,) = shared(home)
    path.unlink()
    assert Study(played.folder).load_segmenter(played.rounds[0].segmenter)


def test_pseudo_labels_are_part_of_what_is_trained_on(home, trainings):
    settings = {"objectives": {"supervised": 1.0, "pseudo_labels": 1.0}}
    one = simulate(home, **{**PLAY, "query_size": [10, 3]}, settings=settings)
    other = simulate(home, **{**PLAY, "query_size": [10, 3]}, settings={**settings, "encoder": "segmenter"})
    assert trainings == [[4, 1], [4, 2]]
    assert other.rounds[1].training["pseudo_labeled"] == one.rounds[1].training["pseudo_labeled"]
    assert not list((home / "cache" / "segmenters").glob("*.unfinished"))
