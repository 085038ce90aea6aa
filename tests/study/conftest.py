"""A small synthetic study, made once and copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nextmask.data.synthetic import CLASSES, write_patients
from nextmask.study.config import StudyConfig
from nextmask.study.study import Study

PATIENTS = 5
SHAPE = (6, 32, 32)


@pytest.fixture(scope="session")
def small_config() -> Callable[..., StudyConfig]:
    """Make settings of a study that runs in a second."""
    return _small_config


def _small_config(**changes: object) -> StudyConfig:
    values = {"images": "../patients/cases.csv", "classes": CLASSES, "unit": "slice", "iterations": 4, "device": "cpu"}
    return StudyConfig.model_validate({**values, **changes})


@pytest.fixture(scope="session")
def made_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with patients/ and a fresh study/ on them; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    write_patients(folder / "patients", PATIENTS, seed=3, shape=SHAPE, phases=1)
    Study.create(folder / "study", _small_config())
    return folder


@pytest.fixture
def home(made_study: Path, tmp_path: Path) -> Path:
    """A fresh study of one's own, with its patients beside it."""
    shutil.copytree(made_study, tmp_path, dirs_exist_ok=True)
    return tmp_path / "study"
