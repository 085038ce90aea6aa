"""A study whose rounds are trained by nnU-Net; skipped only where it is not installed."""

from __future__ import annotations

import os
from importlib.util import find_spec

import numpy as np
import pytest

from nextmask.study.study import Study

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("nnunetv2") is None, reason="nnunetv2 is not installed"),
    pytest.mark.filterwarnings("ignore"),  # what nnU-Net and its dependencies warn of is not ours to mend
]


def set_for_nnunet() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.lower().startswith("nnunet")}


def test_a_study_is_trained_by_nnunet(home):
    text = (home / "study.toml").read_text().replace('learner = "unet"', 'learner = "nnunet"')
    (home / "study.toml").write_text(
        text.replace("members = 1", "members = 2").replace("iterations = 4", "iterations = 2")
    )
    before = set_for_nnunet()
    study = Study(home)
    for number, count in ((1, 1), (2, 3)):
        study.query(count, "strided" if number == 1 else "power_bald")
        study.annotate(home.parent / "patients" / "masks")
        trained = study.train()
        assert trained.training["learner"] == "nnunet"
        assert trained.training["config"]["iterations"] == 2
        assert trained.training["nnunetv2"] >= "2.8"
        assert set(study.evaluate().scores) == set(study.config.classes)
    assert set_for_nnunet() == before
    assert study.rounds[1].details["used"]["mutual_information"]["members"] == "ensemble"
    segmenters = [study.load_segmenter(round.segmenter) for round in study.rounds]
    assert segmenters[0].made["plans"] == segmenters[1].made["plans"]  # however much is labeled
    image = np.asarray(study.labels.image(0), np.float32)
    first, second = segmenters[0].predict_members(image)
    assert np.abs(first - second).max() > 1e-4
    np.testing.assert_allclose(segmenters[0].predict(image), (first + second) / 2, atol=1e-6)
    volume = np.stack([image, 2 * image], axis=1)  # two slices
    np.testing.assert_allclose(segmenters[0].predict(volume)[:, 0], segmenters[0].predict(image), atol=1e-3)


def test_slices_train_a_network_of_volumes_that_scores_slices(home):
    text = (home / "study.toml").read_text().replace('learner = "unet"', 'learner = "nnunet"')
    text = text.replace("# dimensions =", "dimensions = 3").replace("iterations = 4", "iterations = 1")
    (home / "study.toml").write_text(text)
    study = Study(home)
    study.query(3, "strided")
    study.annotate(home.parent / "patients" / "masks")
    assert study.train().training["config"]["configuration"] == "3d_fullres"
    assert set(study.evaluate().scores) == set(study.config.classes)
    uncertainty = study._evidence(study.rounds[-1].segmenter).mapping()["uncertainty"]()
    assert uncertainty.shape == (len(study.pool),)
    assert np.ptp(uncertainty) > 0
