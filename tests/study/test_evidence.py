"""Evidence that tells labeled from unlabeled samples, made for one study."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from nextmask.errors import StudyError
from nextmask.features import adversarial
from nextmask.study.study import Study


@pytest.fixture
def begun(home, monkeypatch) -> Study:
    """A study with a finished round of four samples, and trainings of a few steps."""
    monkeypatch.setitem(adversarial.ITERATIONS, "cpu", (2, 3))
    study = Study(home)
    study.query(4, "strided")
    study.annotate(home.parent / "patients" / "masks")
    study.train()
    return study


def _made(study: Study, told: list[str], name: str, labeled: np.ndarray | None = None) -> np.ndarray:
    evidence = Study(study.folder, report=lambda what, done, of: told.extend([what] * (done == of)))._evidence(None)
    if labeled is not None:
        evidence._labeled = labeled
    make: Callable[[], np.ndarray] = evidence.mapping()[name]
    return np.array(make())


@pytest.mark.parametrize(("strategy", "name"), [("vaal", "unlabeledness"), ("core_gcn", "graph_embeddings")])
def test_a_query_names_what_it_rests_on_and_asks_for_unlabeled_samples(begun, strategy, name):
    labeled = begun.labeled
    asked = begun.query(3, strategy)
    assert len(asked.samples) == len(asked.reasons) == 3
    assert not any(labeled[begun.pool.row_of[sample]] for sample in asked.samples)
    used = asked.details["used"][name]
    assert used["seed"] == 0
    if strategy == "core_gcn":
        assert used["embeddings"]["encoder"] == "intensity"


@pytest.mark.parametrize("strategy", ["vaal", "core_gcn"])
def test_a_study_without_labels_says_what_to_do(home, strategy):
    with pytest.raises(StudyError, match=r"nothing is labeled yet. Expected a finished round. Choose a strategy"):
        Study(home).query(3, strategy)


@pytest.mark.parametrize("name", ["unlabeledness", "graph_embeddings"])
def test_it_is_learned_once_for_the_same_labels_and_again_for_others(begun, name):
    first, second, third = [], [], []
    once = _made(begun, first, name)
    np.testing.assert_array_equal(_made(begun, second, name), once)
    assert sum(what.startswith("training") for what in first) == 1
    assert not any(what.startswith("training") for what in second)
    others = np.roll(begun.labeled, 1)
    changed = _made(begun, third, name, others)
    assert any(what.startswith("training") for what in third)
    assert not np.array_equal(changed, once)
    assert once.shape[0] == len(begun.pool)
