"""Simulated studies: the same verbs, with an oracle in the annotator's place."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nextmask.data.files import digest_json
from nextmask.data.pool import Sample
from nextmask.data.splits import write_split
from nextmask.errors import StudyError, TooFew
from nextmask.study.cohort import SPLITS, Cohort, write_cases
from nextmask.study.config import FILE, StudyConfig, parse_config, read_config
from nextmask.study.learners import name_of
from nextmask.study.ledger import Ledger
from nextmask.study.oracle import Oracle, Truth
from nextmask.study.predictions import by_case
from nextmask.study.rounds import segmenters_of
from nextmask.study.study import Report, Study

if TYPE_CHECKING:
    from nextmask.training.learner import Learner

FOLDER = "simulations"
LONGEST = 100
"""Letters of a simulation's name, before its hash; file systems end at 255 bytes, some programs at 260 for the whole path."""


@dataclass(frozen=True)
class Plan:
    """What is asked for: ``sizes[i]`` samples in round i + 1, by ``strategy``; in round 1 by ``first``, if there is one."""

    sizes: tuple[int, ...]
    strategy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    first: str | None = None
    first_options: Mapping[str, Any] = field(default_factory=dict)

    def query(self, done: int) -> tuple[int, str, Mapping[str, Any]]:
        """Return how many samples to ask for after ``done`` rounds, by which strategy and with which options."""
        if done == 0 and self.first is not None:
            return self.sizes[0], self.first, self.first_options
        return self.sizes[done], self.strategy, self.options


def simulate(
    folder: Path | str,
    *,
    strategy: str,
    query_size: int | Sequence[int],
    rounds: int | None = None,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    learner: Learner | None = None,
    first: str | None = None,
    first_options: Mapping[str, Any] | None = None,
    to: Path | None = None,
    report: Report | None = None,
) -> Study:
    """Play rounds on the cases of a study whose masks are known, in a study of their own below it.

    The cases, the split and the cache are those of the study; nothing is written into its ledger. Called again, it goes
    on where it was; called with more rounds, it plays the rounds that are missing.

    Args:
        folder: the study.
        strategy: name of the strategy.
        query_size: samples a round, for ``rounds`` rounds; or those of each round, and then that is how many rounds there are.
        seed: of the strategy and of the training.
        settings: other values of study.toml for this simulation, for example ``{"supervision": "scribble"}``
            or ``{"reader_error": 1.0}``.
        options: options of the strategy.
        learner: one of the user's own, in place of the one that study.toml names.
        first: the strategy of the first round, if another; many strategies need a segmenter, and then there is none.
        first_options: its options.
        to: the folder to play in, if not one below the study.

    Raises:
        StudyError: no case of the pool has a mask (or scribble), or the folder holds a simulation with other settings.
    """
    parent = Study(folder)
    own = {"learner": name_of(learner)} if learner else {}
    plan = Plan(_sizes(query_size, rounds), strategy, options or {}, first, first_options or {})
    to = to or parent.folder / FOLDER / _name(plan, query_size, seed, {**(settings or {}), **own})
    study = _open(parent, to, {"seed": seed, **(settings or {})}, learner, report)
    while not _finished(study, plan):
        _advance(study, plan)
    return study


def simulations(folder: Path | str) -> list[Study]:
    """Open all simulations of a study that have begun, by name."""
    found = sorted(path.parent for path in (Path(folder) / FOLDER).glob(f"*/{FILE}"))
    return [Study(path) for path in found if has_begun(path)]


def _sizes(query_size: int | Sequence[int], rounds: int | None) -> tuple[int, ...]:
    if isinstance(query_size, int) and rounds is not None:
        return (query_size,) * rounds
    if isinstance(query_size, int) or rounds not in (None, len(query_size)):
        raise StudyError(
            f"query_size is {query_size!r} and rounds is {rounds}. Expected how many rounds to play, or a list with the query "
            "size of each. Give rounds = 4, or query_size = [20, 20, 40, 80]."
        )
    return tuple(query_size)


def _name(plan: Plan, query_size: int | Sequence[int], seed: int, settings: Mapping[str, Any]) -> str:
    """Name a simulation's folder by what is asked for; what is too long or no file name anywhere is told apart by a hash."""
    size = _text(query_size)
    begun = {} if plan.first is None else {"first": plan.first}
    opened = {f"first.{name}": value for name, value in plan.first_options.items()}
    extras = [f"{key}={_text(value)}" for key, value in sorted({**begun, **opened, **settings, **plan.options}.items())]
    whole = "-".join([plan.strategy, f"n{size}", f"seed{seed}", *extras])
    plain = re.sub(r"[^\w.+=-]+", "_", whole)
    return whole if whole == plain and len(whole) <= LONGEST else f"{plain[:LONGEST]}-{digest_json(whole)[:8]}"


def _text(value: Any) -> str:
    """Write a setting without brackets and quotes.

    >>> _text({"supervised": 1, "fixmatch": 0.5}), _text([16, 32]), _text("last round")
    ('supervised=1+fixmatch=0.5', '16+32', 'last round')
    """
    if isinstance(value, Mapping):
        return "+".join(f"{key}={_text(each)}" for key, each in value.items())
    return "+".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def _open(
    parent: Study, folder: Path, changes: Mapping[str, Any], learner: Learner | None, report: Report | None
) -> Study:
    config = _config(parent, folder, changes)
    if not has_begun(folder):
        _create(parent, folder, config)
    if read_config(folder) != config:
        raise StudyError(
            f"{folder} holds a simulation with other settings than the study has now. Expected the same. "
            "Delete that folder to play it anew, or put the settings of study.toml back."
        )
    return Study(folder, learner=learner, report=report, truth=_truth(config))


def _truth(config: StudyConfig) -> Truth:
    return Truth(config.mask_codes, len(config.classes))


def has_begun(folder: Path) -> bool:
    """Say whether a study was made to its end; one that was killed while being made is made anew."""
    path = folder / "ledger.sqlite"
    return path.exists() and (folder / FILE).exists() and bool(Ledger(path).read())


def _create(parent: Study, folder: Path, config: StudyConfig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    cohort = _with_references(parent.cohort, config.supervision)
    write_cases(folder, cohort)
    write_split(folder / SPLITS, cohort.cases, cohort.side, cohort.scans, by=config.split_by)
    Study.create(folder, config, cohort=cohort)


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
    values = {**own.model_dump(), **paths, "pretraining": pretraining, **changes}
    return parse_config(values, f"the simulation in {folder}")


def _with_references(cohort: Cohort, supervision: str) -> Cohort:
    """Keep the test cases, and the cases of the pool that the oracle knows."""
    source = "scribble" if supervision == "scribble" else "mask"
    rows = zip(cohort.cases, cohort.scans, strict=True)
    kept = [(c, s) for c, s in rows if cohort.side[c.id] == "test" or getattr(c, source) is not None]
    if not any(cohort.side[case.id] == "pool" for case, _ in kept):
        raise StudyError(
            f"no case of the pool has a {source}. Expected the truth that an oracle draws from. Give it in the "
            f"{source} column of cases.csv, or with --{source}s, when the study is made."
        )
    return Cohort(tuple(case for case, _ in kept), tuple(scan for _, scan in kept), cohort.side)


def _finished(study: Study, plan: Plan) -> bool:
    done = study.rounds
    if not done or done[-1].stage != "done":
        return False
    return len(done) >= len(plan.sizes) or not study.askable.any()


def _advance(study: Study, plan: Plan) -> None:
    """Do what the latest round needs next."""
    rounds = study.rounds
    stage = rounds[-1].stage if rounds else "done"
    if stage == "done":
        _ask(study, *plan.query(len(rounds)))
    elif stage == "annotate":
        _draw(study)
    elif stage == "train":
        study.train()
    else:
        study.evaluate()


def _ask(study: Study, n: int, strategy: str, options: Mapping[str, Any]) -> None:
    """Ask for ``n`` samples, or for as many as there still are."""
    n = min(n, int(study.askable.sum()))
    try:
        study.query(n, strategy, **options)
    except TooFew as few:
        study.query(few.available, strategy, **options)


def _draw(study: Study) -> None:
    """Let the oracle annotate; samples where it has nothing to draw are given up, and count as asked for."""
    outcome = study.annotate(Oracle(study.config, _predictions(study)), author="oracle")
    if outcome.refused:
        name, why = next(iter(outcome.refused.items()))
        raise StudyError(f"the oracle's masks of {len(outcome.refused)} samples cannot be used, first {name!r}: {why}")
    if outcome.missing:
        study.drop(dict.fromkeys(outcome.missing, "the oracle has nothing to draw there"), author="oracle")


def _predictions(study: Study) -> Callable[[Sample], np.ndarray] | None:
    """Return what the last segmenter shows of a sample, for a reader who corrects; None for others, and in the first round."""
    trained = segmenters_of(study.rounds)
    if study.config.supervision != "corrected" or not trained:
        return None
    of_case = by_case(study.load_segmenter(trained[-1]), study.labels.cache, study.config.inference)
    return lambda sample: of_case(sample.case)[sample.region.slices]
