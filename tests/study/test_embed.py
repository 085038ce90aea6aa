"""A study pretrains on its pool, finds what it made, and begins trainings with it."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.errors import SelectionError, StudyError
from nextmask.features import pretrain as pretraining
from nextmask.study.config import parse_config
from nextmask.study.simulate import simulate
from nextmask.study.study import Study

QUICK = {"iterations": 3}


@pytest.fixture
def study(home, small_config):
    def made(name: str = "learned", **settings: object) -> Study:
        return Study.create(home.parent / name, small_config(pretraining=QUICK, **settings))

    return made


@pytest.fixture
def counted(monkeypatch):
    """Count the steps of every pretraining."""
    steps = []
    step = pretraining._step
    monkeypatch.setattr(pretraining, "_step", lambda *given: steps.append(1) or step(*given))
    return steps


def test_an_encoder_is_pretrained_once(study, counted):
    embedded = study().embed("restoration")
    assert embedded.array.shape[0] == len(study("again").pool)
    assert np.isfinite(embedded.array).all()
    assert len(counted) == 3
    again = Study(study("other").folder.parent / "learned").embed("restoration")
    assert len(counted) == 3
    np.testing.assert_array_equal(again.array, embedded.array)
    assert again.used == embedded.used


def test_two_encoders_may_share_a_pretraining(study, counted):
    made = study()
    narrow, wide = made.embed("restoration"), made.embed("restoration_2x2")
    assert len(counted) == 3
    assert wide.array.shape[1] == 4 * narrow.array.shape[1]


def test_only_images_of_the_pool_are_looked_at(study, monkeypatch):
    from nextmask.data.cache import Cache

    made, seen = study(), set()
    opened = Cache.image
    monkeypatch.setattr(Cache, "image", lambda self, case: seen.add(self.cases[case].id) or opened(self, case))
    monkeypatch.setattr(Cache, "mask", lambda *given: pytest.fail("a mask was read"))
    made.embed("contrastive")
    assert seen == {case.id for case in made.cohort.on("pool").cases}
    assert not seen & {case.id for case in made.cohort.on("test").cases}


def test_a_query_rests_on_it_and_the_ledger_names_the_weights(study):
    made = study(encoder="group_contrastive")
    used = made.query(3, "k_center").details["used"]["embeddings"]
    assert used == made.embed().used
    assert used["encoder"] == "group_contrastive"
    assert len(used["segmenter"]) == 64


def test_settings_change_the_weights(study, small_config):
    first = study().embed("contrastive")
    settings = {**QUICK, "temperature": 0.1}
    warm = Study.create(study("x").folder.parent / "warm", small_config(pretraining=settings))
    assert warm.embed("contrastive").used != first.used


def test_simulations_of_every_seed_share_it(study, counted):
    made = study(encoder="contrastive")
    made.embed()
    for seed in (1, 2):
        simulate(made.folder, strategy="k_center", query_size=2, rounds=1, seed=seed, settings={}, options={})
    assert len(counted) == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"iterations": 0}, "iterations = 0"), ({"seed": -1}, "seed = -1"), ({"iterations": 2.5}, "iterations = 2.5")],
)
def test_wrong_numbers_are_refused(study, small_config, settings, message):
    made = Study.create(study().folder.parent / "wrong", small_config(pretraining=settings))
    with pytest.raises(StudyError, match=message):
        made.embed("restoration")


def test_wrong_names_are_refused(study, small_config):
    with pytest.raises(SelectionError, match="Did you mean 'contrastive'"):
        study().embed("contrastve")
    made = Study.create(study("x").folder.parent / "wrong", small_config(pretraining={"temprature": 1}))
    with pytest.raises(SelectionError, match="Did you mean 'temperature'"):
        made.embed("contrastive")
    with pytest.raises(StudyError, match="start"):
        parse_config({"images": "x", "classes": ["a"], "start": "imagenet"})


def test_a_damaged_file_is_made_again(study, counted):
    made = study()
    made.embed("restoration")
    (path,) = (made.folder / made.config.cache / "encoders").glob("restoration-*.pt")
    path.write_bytes(path.read_bytes()[:1000])
    made.embed("restoration")
    assert len(counted) == 6


@pytest.mark.parametrize("start", ["scratch", "restoration", "restoration+decoder", "contrastive"])
def test_a_training_begins_with_what_the_study_names(study, start, home, counted):
    made = study(start=start)
    made.query(2, "random")
    made.annotate(home.parent / "patients" / "masks")
    trained = made.train()
    assert trained.training["start"]["weights"] == start
    assert (trained.training["start"]["sha256"] is None) == (start == "scratch")
    assert len(counted) == (0 if start == "scratch" else 3)


def test_other_weights_to_begin_with_give_other_weights(study, home):
    found = set()
    for name, start in enumerate(["scratch", "restoration", "restoration+decoder"]):
        made = study(str(name), start=start)
        made.query(2, "random")
        made.annotate(home.parent / "patients" / "masks")
        found.add(made.train().segmenter.sha256)
    assert len(found) == 3
