"""A learner of the user's own drives a study: the example from end to end, and what goes wrong is said clearly."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner

from nextmask.cli import app
from nextmask.errors import StudyError
from nextmask.selection.measures import sample_scores
from nextmask.study.config import StudyConfig
from nextmask.study.learners import LEARNERS, OF_LEARNERS
from nextmask.study.simulate import simulate
from nextmask.study.study import Study
from nextmask.study.summary import write_report
from nextmask.training.views import mirrored_views

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_learner.py"


def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("own_learner", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Threshold:
    """A segmenter in a few lines: what is bright, and rather on the right, is the first class."""

    def __init__(self, classes: int):
        self.classes = classes

    def predict(self, image: np.ndarray) -> np.ndarray:
        found = np.zeros((self.classes, *image.shape[1:]), np.float32)
        found[1] = 1 / (1 + np.exp(-image[0].astype(np.float32) - np.linspace(-2, 2, image.shape[-1])))
        found[0] = 1 - found[1]
        return found


class ThresholdLearner:
    name = "threshold"
    answer = staticmethod(lambda probabilities: probabilities)

    def fit(self, task, progress=None):
        self.task = task
        return Threshold(task.config.classes)

    def save(self, segmenter, path):
        path.write_text(str(segmenter.classes))

    def load(self, path, device):
        segmenter = Threshold(int(path.read_text()))
        predict = segmenter.predict
        segmenter.predict = lambda image: self.answer(predict(image))
        segmenter.dimensions = getattr(self, "dimensions", 2)
        return segmenter

    def describe(self, task):
        return {"path": "nowhere", "rule": "mean"}


def asked(home: Path, learner, **settings) -> Study:
    """Open a study with a learner, other settings, and a query whose masks are drawn."""
    text = (home / "study.toml").read_text()
    for name, value in settings.items():
        text = (
            "".join(line for line in text.splitlines(keepends=True) if f"{name} =" not in line) + f"{name} = {value}\n"
        )
    (home / "study.toml").write_text(text)
    study = Study(home, learner=learner)
    if not study.rounds:
        study.query(3, "strided")
        study.annotate(home.parent / "patients" / "masks")
    return study


def test_the_example_plays_a_whole_simulated_study(home):
    learner = example().ForestLearner()
    asked = {"strategy": "random", "query_size": 4, "learner": learner}
    played = simulate(home, rounds=1, **asked)
    again = simulate(home, rounds=2, **asked)
    assert again.folder == played.folder
    assert "ForestLearner" in played.folder.name
    assert [round.stage for round in again.rounds] == ["done", "done"]
    assert {round.training["learner"] for round in again.rounds} == {"ForestLearner"}
    assert again.rounds[-1].training["trees"] == 50
    assert max(each["dice"] for each in again.rounds[-1].scores.values()) > 0.3
    assert "ForestLearner" in write_report(Study(home)).read_text()


def test_evidence_that_compares_members_takes_mirrored_views(home):
    study = asked(home, ThresholdLearner())
    study.train()
    segmenter = study.load_segmenter(study.rounds[-1].segmenter)
    evidence = study._evidence(study.rounds[-1].segmenter)
    made = evidence.mapping()
    image, spacing = np.asarray(study.labels.image(4), np.float32), study.labels.spacing(4)
    one = sample_scores(segmenter.predict(image), None, spacing)
    views = sample_scores(mirrored_views(segmenter.predict, image), None, spacing)
    assert made["uncertainty"]()[4] == pytest.approx(one["uncertainty"][0], rel=1e-5)
    assert made["mutual_information"]()[4] == pytest.approx(views["mutual_information"][0], rel=1e-5)
    assert made["mutual_information"]().min() > 0.01
    assert made["class_uncertainty"]().shape == (len(study.pool), len(study.config.classes))
    assert evidence.used["mutual_information"]["members"] == "flips"


def test_it_is_told_the_spacing_and_its_word_never_hides_what_the_ledger_must_know(home):
    learner = ThresholdLearner()
    study = asked(home, learner)
    study.train()
    task, training = learner.task, study.rounds[-1].training
    assert task.spacing == pytest.approx(study.labels.spacing(0))
    assert len(task.spacing) == 2
    assert training["path"] == "rounds/01/segmenter.pt"
    assert training["rule"] == "mean"
    assert study.evaluate().scores


def test_only_the_learner_that_trained_a_segmenter_opens_it(home):
    asked(home, ThresholdLearner()).train()
    for given in (None, example().ForestLearner()):
        with pytest.raises(StudyError, match=r"learner 'threshold'.*Expected.*Study\(folder, learner="):
            Study(home, learner=given).evaluate()
    assert Study(home, learner=ThresholdLearner()).evaluate().scores


def test_the_learner_may_change_from_round_to_round(home):
    study = asked(home, ThresholdLearner())
    study.train()
    study.evaluate()
    later = Study(home)  # the segmenter of the first round is opened for nothing that this query needs
    later.query(2, "random")
    later.annotate(home.parent / "patients" / "masks")
    assert later.train().training["learner"] == "unet"
    assert later.evaluate().scores


@pytest.mark.parametrize(
    ("name", "value"), [("start", '"last round"'), ("members", "2"), ("objectives", "{dmpls = 1.0}")]
)
def test_a_setting_that_it_cannot_follow_is_refused(home, name, value):
    with pytest.raises(StudyError, match=rf"{name} = .*'threshold' cannot follow it. Expected .*Take {name} out"):
        asked(home, ThresholdLearner(), **{name: value}).train()
    assert name in OF_LEARNERS


def test_weights_of_another_learner_are_no_start(home):
    asked(home, ThresholdLearner()).train()
    Study(home, learner=ThresholdLearner()).evaluate()
    study = asked(home, None, start='"last round"')
    study.query(2, "random")
    study.annotate(home.parent / "patients" / "masks")
    with pytest.raises(StudyError, match=r"trained by the learner 'threshold'. Expected weights of 'unet'"):
        study.train()


def test_a_segmenter_without_features_is_no_encoder(home):
    study = asked(home, ThresholdLearner(), encoder='"network"')
    study.train()
    study.evaluate()
    with pytest.raises(
        StudyError, match=r"encoder = .network. takes.*no method encode. Expected.*Choose another encoder"
    ):
        study.query(2, "typiclust")


ANSWERS = [
    (lambda p: p[1:], r"shape \(3, 32, 32\)"),
    (lambda p: p.argmax(axis=0), r"shape \(32, 32\)"),
    (lambda p: p * np.nan, "not finite"),
    (lambda p: 2 * p - 0.5, "do not add up to 1"),
    (lambda p: p.tolist(), "list of shape None"),
]


@pytest.mark.parametrize(("answer", "said"), ANSWERS)
def test_an_answer_that_is_no_probabilities_is_told_before_the_ledger_has_it(home, answer, said):
    learner = ThresholdLearner()
    learner.answer = answer
    study = asked(home, learner)
    with pytest.raises(
        StudyError, match=rf"answered an image of shape \(1, 32, 32\) with .*{said}.*Mend its method predict"
    ):
        study.train()
    assert study.rounds[-1].segmenter is None


def test_slices_and_whole_cases_are_both_tried_out(home):
    learner = ThresholdLearner()
    learner.answer = lambda p: p if p.ndim == 3 else p[:, 0]  # forgets that a volume has slices
    with pytest.raises(StudyError, match=r"image of shape \(1, 6, 32, 32\) with ndarray of shape \(4, 32, 32\)"):
        asked(home, learner).train()


def test_a_learner_of_volumes_scores_slices_in_their_volumes(home):
    learner, seen = ThresholdLearner(), []
    study = asked(home, learner, dimensions=3)
    learner.answer = lambda p: seen.append(p.ndim) or p
    study.train()
    assert [load()[1].ndim for load in learner.task.samples] == [3] * len(learner.task.samples)
    assert len(learner.task.spacing) == 3
    assert set(seen) == {4}  # nothing but whole volumes was tried out
    learner.dimensions = 3
    study._evidence(study.rounds[-1].segmenter).mapping()["uncertainty"]()
    assert set(seen) == {4}


def test_what_its_code_decides_is_not_shared_with_other_studies(home):
    study = asked(home, ThresholdLearner())
    assert study.train().training["shared"] is False
    assert not (home / "cache" / "segmenters").exists()
    other = Study.create(home.parent / "other", study.config.model_copy(update={"cache": "../study/cache"}))
    mine = asked(other.folder, ThresholdLearner())
    fitted: list[object] = []
    mine._own_learner.fit = lambda task, progress=None: fitted.append(task) or Threshold(task.config.classes)
    assert mine.train().training["shared"] is False
    assert len(fitted) == 1


def test_what_it_says_of_itself_must_be_plain(home):
    learner = ThresholdLearner()
    learner.describe = lambda task: {"config": np.float32(1)}
    with pytest.raises(StudyError, match=r"cannot be written into the ledger.*Mend its method describe"):
        asked(home, learner).train()


def test_the_command_line_says_who_trained(home):
    asked(home, None)
    done = CliRunner().invoke(app, ["train", str(home)])
    assert "Round 1: unet trained on 3 samples for 4 iterations" in done.output


def test_a_learner_that_there_is_not_is_a_wrong_setting(home):
    done = CliRunner().invoke(app, ["simulate", str(home), "--learner", "forest"])
    assert isinstance(done.exception, StudyError)
    assert "learner = 'forest'" in str(done.exception)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "printed"), [("own_learner", "ForestLearner Dice"), ("own_encoder", "__z")])
def test_the_examples_run_as_scripts(name, printed):
    script = EXAMPLE.with_name(f"{name}.py")
    assert printed in subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout


def test_the_settings_know_every_learner():
    assert set(StudyConfig.model_fields["learner"].annotation.__args__) == set(LEARNERS)
