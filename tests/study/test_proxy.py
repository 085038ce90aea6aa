"""Where there is no segmenter yet, one that learns from intensities stands in, if the study says so."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.data.files import digest
from nextmask.data.images import read_channels
from nextmask.data.preprocess import mask_to_working
from nextmask.data.proxy_masks import parse_proxy, proxy_mask
from nextmask.errors import StudyError
from nextmask.selection.measures import sample_scores
from nextmask.study.proxy import as_proxy, foreground_share, refuse_unlikely
from nextmask.study.scores import DROPPED, PASSES
from nextmask.study.study import Study
from nextmask.training import train
from nextmask.training.predict import load_segmenter


def make(folder, made_study, small_config, **changes):
    images = str(made_study / "patients" / "cases.csv")
    return Study.create(folder / "study", small_config(**{"images": images, "proxy": "otsu-bright", **changes}))


@pytest.fixture(scope="module")
def cold(tmp_path_factory, made_study, small_config):
    """A study without masks that was asked by uncertainty."""
    study = make(tmp_path_factory.mktemp("cold"), made_study, small_config)
    study.query(3, "most_uncertain")
    return study


def segmenters(study):
    return sorted((study.folder / "cache" / "encoders").glob("proxy-*.pt"))


def test_a_cold_study_is_asked_by_uncertainty(cold):
    (path,) = segmenters(cold)
    assert cold.rounds[-1].details["used"]["uncertainty"] == {
        "proxy": "otsu-bright",
        "members": "dropout",
        "passes": PASSES,
        "segmenter": digest(path),
        "measure": "entropy",
    }
    assert not list(path.parent.glob("*.checkpoint"))
    one = load_segmenter(path, "cpu")
    assert (one.config.classes, one.config.dropout) == (2, 0.2)
    assert as_proxy(cold._trainer.derived()) == one.config


def test_its_scores_are_those_of_passes_with_dropout(cold):
    one = load_segmenter(segmenters(cold)[0], "cpu")
    found = cold._evidence(None).mapping()
    for row in (0, 9):
        members = list(one.predict_dropout(np.asarray(cold.labels.image(row), np.float32), PASSES, DROPPED))
        wanted = sample_scores(members, None, cold.labels.spacing(row))
        for name in ("uncertainty", "mutual_information", "selective"):
            np.testing.assert_allclose(found[name]()[row], wanted[name][0], rtol=1e-4)
    assert found["mutual_information"]().min() > 0


def test_it_is_trained_once_whatever_is_asked(cold, monkeypatch):
    def again(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(train, "fit", again)
    monkeypatch.setattr(cold, "config", cold.config.model_copy(update={"measure": "variance"}))
    values = cold._evidence(None).mapping()["uncertainty"]()
    assert np.ptp(values) > 0
    monkeypatch.setattr(cold, "config", cold.config.model_copy(update={"proxy": "otsu-dark"}))
    with pytest.raises(AssertionError, match="trained again"):
        cold._evidence(None).mapping()["uncertainty"]()


def test_a_training_that_was_cut_off_goes_on(cold, monkeypatch):
    seen = []

    class Stop(Exception):
        pass

    def fit(samples, config, **options):
        seen.append((len(samples), options["checkpoint"]))
        raise Stop

    monkeypatch.setattr(train, "fit", fit)
    monkeypatch.setattr(cold, "config", cold.config.model_copy(update={"iterations": 5}))
    for _ in range(2):
        with pytest.raises(Stop):
            cold._proxy.open()
    assert seen[0] == seen[1]
    assert seen[0][0] == len(cold.pool)
    assert seen[0][1].parent == segmenters(cold)[0].parent


def test_masks_are_told_on_the_image_s_own_grid(cold):
    rule = parse_proxy("otsu-bright")
    case, placement = cold.pool.cases[1], cold.labels.cache.placements[1]
    wanted = mask_to_working(proxy_mask(read_channels(case.images).array, rule), placement)
    np.testing.assert_array_equal(cold.labels.proxy(1, rule), wanted)
    assert not np.array_equal(cold.labels.proxy(1, parse_proxy("otsu-dark")), wanted)
    assert 0.001 < foreground_share(cold.labels, rule) < 0.6
    image, mask = cold.labels.proxies(rule)[9]()
    np.testing.assert_array_equal(image, cold.labels.image(9))
    case, z = cold.pool.samples[9].case, cold.pool.samples[9].region.start[0]
    np.testing.assert_array_equal(mask, cold.labels.proxy(case, rule)[z])


@pytest.mark.parametrize("rule", ["hu:90000:90001", "hu:-90000:90000"])
def test_a_rule_that_shows_nothing_or_everything_is_refused(made_study, tmp_path, small_config, rule):
    study = make(tmp_path, made_study, small_config, proxy=rule, window=(-100, 300))
    with pytest.raises(StudyError, match=r"% of the pool's voxels(.|\n)*Expected 0\.1 to 60 %"):
        study.query(2, "most_uncertain")
    assert not segmenters(study)


def test_hounsfield_units_are_of_ct_only(made_study, tmp_path, small_config):
    study = make(tmp_path, made_study, small_config, proxy="hu-liver")
    with pytest.raises(StudyError, match="not all images of this study are CT"):
        study.query(2, "most_uncertain")


@pytest.mark.parametrize(("share", "fine"), [(0.0009, False), (0.0011, True), (0.59, True), (0.61, False)])
def test_shares_that_an_organ_may_have(share, fine):
    if fine:
        refuse_unlikely(parse_proxy("otsu-dark"), share)
    else:
        with pytest.raises(StudyError, match="proxy = otsu-dark makes"):
            refuse_unlikely(parse_proxy("otsu-dark"), share)


def test_it_knows_no_classes(cold):
    with pytest.raises(StudyError, match="class_uncertainty, and the proxy segmenter knows foreground only"):
        cold._evidence(None).mapping()["class_uncertainty"]()


def test_volumes_and_boxes_learn_from_whole_cases(made_study, tmp_path, small_config):
    study = make(tmp_path, made_study, small_config, unit="box", box=(3, 16, 16), working_size=32, iterations=1)
    asked = study.query(2, "most_uncertain")
    assert asked.details["used"]["uncertainty"]["members"] == "dropout"
    rule = parse_proxy("otsu-bright")
    loads = study.labels.proxies(rule)
    assert len(loads) == len(study.pool.cases) < len(study.pool)
    for load, placement in zip(loads, study.labels.cache.placements, strict=True):
        image, mask = load()
        assert image.shape[1:] == mask.shape == placement.working


def test_once_there_is_a_segmenter_it_is_asked_instead(made_study, tmp_path, small_config):
    study = make(tmp_path, made_study, small_config)
    study.query(2, "random")
    study.annotate(made_study / "patients" / "masks")
    study.train()
    used = study.query(2, "most_uncertain").details["used"]["uncertainty"]
    assert used["segmenter"] == study.rounds[0].segmenter.sha256
    assert used["members"] == "one"
    assert not segmenters(study)
