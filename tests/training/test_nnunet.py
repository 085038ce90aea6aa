"""nnU-Net itself: trained for a few iterations, in 2D and 3D; skipped only where it is not installed."""

from __future__ import annotations

import dataclasses
from importlib.util import find_spec

import numpy as np
import pytest
from tests.training.toys import SOLID, TINY, samples, toy

from nextmask.training.learner import TrainingTask
from nextmask.training.nnunet import NNUNetLearner

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("nnunetv2") is None, reason="nnunetv2 is not installed"),
    pytest.mark.filterwarnings("ignore"),  # what nnU-Net and its dependencies warn of is not ours to mend
]


def task(folder, config, drawn, **changes):
    return TrainingTask(drawn, config, [0, 1], "cpu", folder, classes=("bright", "dark"), **changes)


def test_volumes_of_which_one_is_labeled_without_one_of_the_classes(tmp_path):
    config, (image, mask) = dataclasses.replace(SOLID, iterations=3), toy((16, 24, 20), 0)
    mask = np.where(mask == 2, 255, mask).astype(np.uint8)
    learner = NNUNetLearner()
    segmenter = learner.fit(task(tmp_path / "work", config, [lambda: (image, mask)]))
    probabilities = segmenter.predict(image)
    assert probabilities.shape == (3, 16, 24, 20)
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    learner.save(segmenter, tmp_path / "one.file")
    np.testing.assert_array_equal(learner.load(tmp_path / "one.file", "cpu").predict(image), probabilities)


def test_without_any_foreground_background_is_learned(tmp_path):
    config, (image, mask) = dataclasses.replace(TINY, iterations=40), toy((32, 32), 0)
    segmenter = NNUNetLearner().fit(task(tmp_path, config, [lambda: (image, 0 * mask)]))
    assert segmenter.predict(image).argmax(axis=0).max() == 0


def test_an_interrupted_training_goes_on_where_it_was_and_learns(tmp_path):
    config, seen = dataclasses.replace(TINY, iterations=60), []
    asked = task(tmp_path, config, samples((32, 32), 4))

    def interrupted(done, total):
        if done == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        NNUNetLearner().fit(asked, interrupted)
    segmenter = NNUNetLearner().fit(asked, lambda *counts: seen.append(counts))
    assert seen[0][0] in range(13, 17)  # from the end of the epoch before
    assert seen[-1] == (60, 60)
    image, mask = toy((32, 32), 77)
    predicted = segmenter.predict(image).argmax(axis=0)
    assert 2 * ((predicted == 1) & (mask == 1)).sum() / ((predicted == 1).sum() + (mask == 1).sum()) > 0.8
