"""Which learner trains the rounds of a study: one of LEARNERS by its name, or one of the user's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nextmask.errors import StudyError
from nextmask.study.config import StudyConfig
from nextmask.study.rounds import Round, StoredFile

if TYPE_CHECKING:
    from nextmask.training.learner import Learner, TrainingTask

OF_LEARNERS = ("start", "objectives", "members", "snapshots", "devices")
"""Settings of study.toml that not every learner can follow; one says which it does by its attribute ``settings``."""


def _unet() -> Learner:
    from nextmask.training.learner import UNetLearner

    return UNetLearner()


def _nnunet() -> Learner:
    from nextmask.training.nnunet import NNUNetLearner

    return NNUNetLearner()


LEARNERS: dict[str, Callable[[], Learner]] = {"unet": _unet, "nnunet": _nnunet}
"""Every learner by the name that study.toml gives it; each is imported when it is first used."""


def name_of(learner: Learner) -> str:
    """Name a learner as the ledger does: by its attribute ``name``, or else by its class."""
    return str(getattr(learner, "name", type(learner).__name__))


def choose_learner(wanted: str, own: Learner | None) -> Learner:
    """Return the learner that trains: the user's own if one is given, else the one that study.toml names."""
    return LEARNERS[wanted]() if own is None else own


def trained_by(rounds: Sequence[Round], segmenter: StoredFile) -> str:
    """Name the learner that trained a segmenter."""
    found = (round.training.get("learner") for round in rounds if round.segmenter == segmenter)
    return next(found, None) or "unet"  # ledgers of before there was a choice do not say


def learner_named(name: str, own: Learner | None) -> Learner:
    """Return the learner of that name, to open what it trained.

    Raises:
        StudyError: it is none of nextmask's, and not the one that was handed in.
    """
    if own is not None and name_of(own) == name:
        return own
    if name in LEARNERS:
        return LEARNERS[name]()
    given = "none was handed in" if own is None else f"{name_of(own)!r} was handed in"
    raise StudyError(
        f"the segmenter was trained by the learner {name!r}, and {given}. Expected that learner, which alone can open what it "
        "saved. Open the study with it: Study(folder, learner=...)."
    )


def refuse_settings(learner: Learner, config: StudyConfig) -> None:
    """Raise StudyError where a setting would be silently passed over, because the learner cannot follow it."""
    for name in OF_LEARNERS:
        value, default = getattr(config, name), StudyConfig.model_fields[name].default
        if value != default and name not in getattr(learner, "settings", ()):
            raise StudyError(
                f"{name} = {value!r} is set, and the learner {name_of(learner)!r} cannot follow it. Expected "
                f"{name} = {default!r} with this learner. Take {name} out of study.toml, or train with another learner: "
                'learner = "unet" follows all settings.'
            )


def described(learner: Learner, task: TrainingTask) -> dict[str, Any]:
    """Return what the ledger should keep of a learner: its name, and what it says of itself.

    Raises:
        StudyError: it says something that is not plain values.
    """
    said = learner.describe(task)
    try:
        json.dumps(said)
    except TypeError as error:
        raise StudyError(
            f"what the learner {name_of(learner)!r} says of itself cannot be written into the ledger: {error}. Expected a "
            "dictionary of plain values: text, numbers, lists, dictionaries. Mend its method describe."
        ) from error
    return {**said, "learner": name_of(learner)}


def refuse_answer(learner: Learner, probabilities: Any, image: np.ndarray, classes: int) -> None:
    """Raise StudyError unless a segmenter answered an image (channels, *spatial) with (classes, *spatial) probabilities."""
    wanted = (classes, *image.shape[1:])
    shape = getattr(probabilities, "shape", None)
    if shape != wanted:
        wrong = f"{type(probabilities).__name__} of shape {shape}"
    elif not np.isfinite(probabilities).all():
        wrong = "values that are not finite"
    elif abs(probabilities.sum(axis=0) - 1).max() > 0.01 or probabilities.min() < 0:
        wrong = (
            f"values from {probabilities.min():g} to {probabilities.max():g} that do not add up to 1 over the classes"
        )
    else:
        return
    raise StudyError(
        f"a segmenter of the learner {name_of(learner)!r} answered an image of shape {image.shape} with {wrong}. Expected "
        f"probabilities of shape {wanted}: background first, then the classes of the study. Mend its method predict."
    )
