"""What strategies may ask of a trained segmenter, as a study hands it to them."""

from __future__ import annotations

import numpy as np
import pytest

from nextmask.errors import StudyError
from nextmask.selection import STRATEGIES, needs
from nextmask.selection.measures import sample_scores
from nextmask.selection.types import EVIDENCE
from nextmask.study import scores
from nextmask.study.oracle import Truth
from nextmask.study.scores import Scorer, columns
from nextmask.study.study import Study
from nextmask.training.views import mirrored_views


@pytest.fixture(scope="module")
def trained(tmp_path_factory, made_study, small_config) -> Study:
    folder = tmp_path_factory.mktemp("trained")
    images = str(made_study / "patients" / "cases.csv")
    study = Study.create(folder / "study", small_config(images=images, iterations=12, pretraining={"iterations": 2}))
    study.query(5, "strided")
    study.annotate(made_study / "patients" / "masks")
    study.train()
    return Study(study.folder, truth=Truth({}, len(study.config.classes)))  # as a simulation opens it


def evidence_of(study: Study, name: str) -> np.ndarray:
    return study._evidence(study.rounds[-1].segmenter).mapping()[name]()


def test_every_kind_of_evidence_comes_from_a_study(trained):
    mapping = trained._evidence(trained.rounds[-1].segmenter).mapping()
    assert set(mapping) == set(EVIDENCE)
    classes = len(trained.config.classes)
    for name, make in mapping.items():
        array = make()
        assert len(array) == len(trained.pool), name
        assert array.ndim == len(EVIDENCE[name].axes), name
    assert mapping["class_uncertainty"]().shape[1] == classes
    assert mapping["residual"]().shape[1] == classes + 1


def test_scores_are_those_of_each_sample(trained):
    segmenter = trained.load_segmenter(trained.rounds[-1].segmenter)
    for row in (0, 7):
        image = np.asarray(trained.labels.image(row), np.float32)
        wanted = sample_scores(segmenter.predict(image), None, trained.labels.spacing(row))
        for name in ("uncertainty", "class_uncertainty", "residual", "foreground_share", "selective"):
            np.testing.assert_allclose(evidence_of(trained, name)[row], wanted[name][0], rtol=1e-5)
        flipped = sample_scores(mirrored_views(segmenter.predict, image), None, trained.labels.spacing(row))
        assert evidence_of(trained, "mutual_information")[row] == pytest.approx(flipped["mutual_information"][0])
    assert evidence_of(trained, "mutual_information").max() > 0


def test_the_measure_of_the_study_decides_what_uncertainty_is(trained, monkeypatch):
    entropies = evidence_of(trained, "uncertainty")
    for measure in ("margin", "variance"):
        monkeypatch.setattr(trained, "config", trained.config.model_copy(update={"measure": measure}))
        assert not np.allclose(evidence_of(trained, "uncertainty"), entropies)
        assert evidence_of(trained, "uncertainty").max() > 0


def test_without_a_segmenter_they_are_refused(home):
    with pytest.raises(StudyError, match="there is none yet"):
        Study(home).query(2, "power_entropy")


def test_spacing_is_that_of_the_working_grid(trained):
    scan = trained.cohort.on("pool").scans[0]
    placement = trained.labels.cache.placements[0]
    wanted = [s * k / w for s, k, w in zip(scan.geometry.spacing, placement.kept, placement.working, strict=True)]
    assert trained.labels.spacing(0) == pytest.approx(wanted[-2:])


class Bright:
    """Says foreground wherever a voxel is bright; keeps the shapes of what it was asked about."""

    def __init__(self):
        self.seen = []

    def predict(self, image):
        self.seen.append(image.shape)
        p = 1 / (1 + np.exp(-image[:1]))
        return np.concatenate([1 - p, p])


@pytest.mark.parametrize("members", ["one", "flips"])
def test_slices_of_a_case_are_predicted_together_and_scored_apart(trained, monkeypatch, members):
    monkeypatch.setattr(scores, "AT_ONCE", 3)
    pool, bright = trained.pool, Bright()
    scorer = Scorer(trained.labels, bright, measure="mutual_information", members=members)
    rows = pool.rows_of_case[pool.cases[1].id]
    assert len(rows) > 4
    found = {row: scorer(row) for row in [*rows[4:], *rows[:4]]}
    assert max(shape[1] for shape in bright.seen) == 3
    for row in rows:
        image = np.asarray(trained.labels.image(row), np.float32)
        alone = sample_scores(
            scores.predictor(bright, members)(image), None, trained.labels.spacing(row), measure="mutual_information"
        )
        np.testing.assert_allclose(found[row], scores._in_columns(alone)[0], rtol=1e-5, atol=1e-7)
    monkeypatch.setattr(scores, "VOXELS_AT_ONCE", 1)
    bright.seen.clear()
    Scorer(trained.labels, bright, measure="entropy", members="one")(rows[0])
    assert [len(shape) for shape in bright.seen] == [3]


def test_boxes_are_scored_in_the_prediction_of_their_case(made_study, tmp_path, small_config):
    images = str(made_study / "patients" / "cases.csv")
    config = small_config(images=images, unit="box", box=(3, 16, 16), working_size=32)
    study = Study.create(tmp_path / "boxes", config)
    bright = Bright()
    scorer = Scorer(study.labels, bright, measure="entropy", members="one")
    rows = study.pool.rows_of_case[study.pool.cases[0].id]
    share = columns(2)["foreground_share"]
    found = np.array([scorer(row)[share][0] for row in rows])
    assert len(bright.seen) == 1
    wanted = [(np.asarray(study.labels.image(row)) > 0).mean() for row in rows]
    np.testing.assert_allclose(found, wanted)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_answers_in_a_study(trained, strategy):
    n = 3
    chosen = STRATEGIES[strategy]
    evidence = trained._evidence(trained.rounds[-1].segmenter).mapping()
    given = {name: evidence[name]() for name in needs(chosen)}
    query = chosen(**given, labeled=trained.labeled, n=n, rng=np.random.default_rng(0))
    assert len(set(query.rows.tolist())) == n
