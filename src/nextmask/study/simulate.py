"""Simulated studies: the same verbs, with an oracle in the annotator's place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nextmask.data.splits import write_split
from nextmask.errors import StudyError, TooFew
from nextmask.study.annotations import Oracle
from nextmask.study.cohort import SPLITS, Cohort, write_cases
from nextmask.study.config import FILE, StudyConfig, parse_config, read_config
from nextmask.study.learners import name_of
from nextmask.study.ledger import Ledger
from nextmask.study.study import Report, Study

if TYPE_CHECKING:
    from nextmask.training.learner import Learner

FOLDER = "simulations"


def simulate(
    folder: Path | str,
    *,
    strategy: str,
    query_size: int,
    rounds: int,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    learner: Learner | None = None,
    report: Report | None = None,
) -> Study:
    """Play ``rounds`` rounds on the cases of a study whose masks are known, in a study of their own below it.

    The cases, the split and the cache are those of the study; nothing is written into its ledger. Called again, it goes
    on where it was; called with more rounds, it plays the rounds that are missing.

    Args:
        folder: the study.
        strategy: name of the strategy.
        query_size: samples a round.
        seed: of the strategy and of the training.
        settings: other values of study.toml for this simulation, for example ``{"supervision": "scribble"}``.
        options: options of the strategy.
        learner: one of the user's own, in place of the one that study.toml names.

    Raises:
        StudyError: no case of the pool has a mask (or scribble), or the folder holds a simulation with other settings.
    """
    parent = Study(folder)
    own = {"learner": name_of(learner)} if learner else {}
    name = _name(strategy, query_size, seed, {**(settings or {}), **own}, options or {})
    study = _open(parent, parent.folder / FOLDER / name, {"seed": seed, **(settings or {})}, learner, report)
    oracle = _oracle(study.config)
    while not _finished(study, rounds):
        _advance(study, oracle, strategy, query_size, options or {})
    return study


def simulations(folder: Path | str) -> list[Study]:
    """Open all simulations of a study that have begun, by name."""
    found = sorted(path.parent for path in (Path(folder) / FOLDER).glob(f"*/{FILE}"))
    return [Study(path) for path in found if _has_begun(path)]


def _name(strategy: str, query_size: int, seed: int, settings: Mapping[str, Any], options: Mapping[str, Any]) -> str:
    extras = [f"{key}={value}" for key, value in sorted({**settings, **options}.items())]
    return "-".join([strategy, f"n{query_size}", f"seed{seed}", *extras]).replace("/", "_")


def _open(
    parent: Study, folder: Path, changes: Mapping[str, Any], learner: Learner | None, report: Report | None
) -> Study:
    config = _config(parent, folder, changes)
    if not _has_begun(folder):
        _create(parent, folder, config, report)
    if read_config(folder) != config:
        raise StudyError(
            f"{folder} holds a simulation with other settings than the study has now. Expected the same. "
            "Delete that folder to play it anew, or put the settings of study.toml back."
        )
    return Study(folder, learner=learner, report=report)


def _has_begun(folder: Path) -> bool:
    """Say whether a study was made to its end; one that was killed while being made is made anew."""
    path = folder / "ledger.sqlite"
    return path.exists() and (folder / FILE).exists() and bool(Ledger(path).read())


def _create(parent: Study, folder: Path, config: StudyConfig, report: Report | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cohort = _with_references(parent.cohort, config.supervision)
    write_cases(folder, cohort)
    write_split(folder / SPLITS, cohort.cases, cohort.side, cohort.scans, by=config.split_by)
    Study.create(folder, config, cohort=cohort, report=report)


def _config(parent: Study, folder: Path, changes: Mapping[str, Any]) -> StudyConfig:
    def moved(path: str | None) -> str | None:
        return None if path is None else os.path.relpath(parent.folder / path, folder)

    own = parent.config
    paths = {
        "images": moved(own.images),
        "masks": moved(own.masks),
        "scribbles": moved(own.scribbles),
        "cache": moved(own.cache),
    }
    files = {
        name: moved(value)
        for name, value in own.pretraining.items()
        if isinstance(value, str) and (parent.folder / value).is_file()
    }
    pretraining = {**own.pretraining, **files}
    return parse_config({**own.model_dump(), **paths, "pretraining": pretraining, **changes}, "the simulation")


def _with_references(cohort: Cohort, supervision: str) -> Cohort:
    """Keep the test cases, and the cases of the pool that the oracle knows."""
    rows = zip(cohort.cases, cohort.scans, strict=True)
    kept = [(c, s) for c, s in rows if cohort.side[c.id] == "test" or getattr(c, supervision) is not None]
    if not any(cohort.side[case.id] == "pool" for case, _ in kept):
        raise StudyError(
            f"no case of the pool has a {supervision}. Expected the truth that an oracle draws from. Give it in the "
            f"{supervision} column of cases.csv, or with --{supervision}s, when the study is made."
        )
    return Cohort(tuple(case for case, _ in kept), tuple(scan for _, scan in kept), cohort.side)


def _oracle(config: StudyConfig) -> Oracle:
    codes = config.scribble_codes if config.supervision == "scribble" else config.mask_codes
    return Oracle(config.supervision, codes)


def _finished(study: Study, rounds: int) -> bool:
    done = study.rounds
    if not done or done[-1].stage != "done":
        return False
    return len(done) >= rounds or not study.askable.any()


def _advance(study: Study, oracle: Oracle, strategy: str, n: int, options: Mapping[str, Any]) -> None:
    """Do what the latest round needs next."""
    rounds = study.rounds
    stage = rounds[-1].stage if rounds else "done"
    if stage == "done":
        _ask(study, strategy, n, options)
    elif stage == "annotate":
        _draw(study, oracle)
    elif stage == "train":
        study.train()
    else:
        study.evaluate()


def _ask(study: Study, strategy: str, n: int, options: Mapping[str, Any]) -> None:
    """Ask for ``n`` samples, or for as many as there still are."""
    n = min(n, int(study.askable.sum()))
    try:
        study.query(n, strategy, **options)
    except TooFew as few:
        study.query(few.available, strategy, **options)


def _draw(study: Study, oracle: Oracle) -> None:
    """Let the oracle annotate; samples where it has nothing to draw are given up, and count as asked for."""
    outcome = study.annotate(oracle, author="oracle")
    if outcome.refused:
        name, why = next(iter(outcome.refused.items()))
        raise StudyError(f"the oracle's masks of {len(outcome.refused)} samples cannot be used, first {name!r}: {why}")
    if outcome.missing:
        study.drop(dict.fromkeys(outcome.missing, "the oracle has nothing to draw there"), author="oracle")
