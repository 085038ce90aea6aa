"""What a study amounts to so far: for `show`, and for the report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from nextmask.data.images import read_channels, read_mask
from nextmask.features.store import find_encoding
from nextmask.study.cohort import find_problems
from nextmask.study.cost import estimated_minutes
from nextmask.study.pool_map import Method, PoolMap, map_of_pool
from nextmask.study.report import Curve, Picture, ReportContent, RoundRow, render_report
from nextmask.study.rounds import Round, foreground_after, labeled_after, mean_dice
from nextmask.study.simulate import simulations
from nextmask.study.study import Study
from nextmask.study.trust import KEPT

PICTURES = 60


def minutes_after(study: Study) -> list[float]:
    """Add up the minutes of annotation up to each round: those recorded, and those estimated of samples without a record."""
    estimated = estimated_minutes(study.pool, study.config)

    def spent(round: Round) -> float:
        names = (*round.masks, *round.dropped)
        return sum(round.minutes.get(name, float(estimated[study.pool.row_of[name]])) for name in names)

    return [float(minutes) for minutes in np.cumsum([spent(round) for round in study.rounds])]


def facts(study: Study) -> dict[str, str]:
    """Say in a few lines what a study is and where it stands."""
    pool, test = study.cohort.on("pool"), study.cohort.on("test")
    patients = len({case.patient for case in pool.cases})
    rounds = study.rounds
    return {
        "study": str(study.folder),
        "pool": f"{len(study.pool)} samples (unit {study.config.unit}) of {len(pool.cases)} cases, {patients} patients",
        "test": f"{len(test.cases)} cases, {len({case.patient for case in test.cases})} patients",
        "classes": ", ".join(study.config.classes),
        "labeled": f"{int(study.labeled.sum())} of {len(study.pool)}, about {_spent(study):.0f} minutes of annotation",
        "next": _next(rounds),
    }


def summary(study: Study) -> dict[str, Any]:
    """Return the facts, the rounds and the simulations as plain types."""
    return {
        "facts": facts(study),
        "rounds": _rounds(study),
        "simulations": {each.folder.name: _rounds(each) for each in simulations(study.folder)},
    }


def write_report(study: Study, to: Path | None = None, *, layout: Method = "pca") -> Path:
    """Write the report of a study and of its simulations; return where. ``layout`` places the map of the pool."""
    path = to or study.folder / "report.html"
    played = simulations(study.folder)
    # A study that was only ever simulated once is reported as if the simulation were the study itself.
    own = played[0] if len(played) == 1 and not study.rounds else study
    shown = study if study.rounds or not played else played[-1]
    content = ReportContent(
        title=study.folder.resolve().name,
        created=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"),
        summary=facts(own),
        curves=tuple(curve for each in (study, *played) for curve in _curve(each, each is study)),
        rounds=tuple(
            _row(round, labeled, "" if each is own else each.folder.name)
            for each in (study, *played)
            for round, labeled in zip(each.rounds, labeled_after(each.rounds), strict=True)
        ),
        pictures=tuple(pictures_of(shown, PICTURES)),
        derived=_derived(study, shown),
        versions=study.events[0].payload["versions"],
        problems=tuple(
            f"{p.severity}: {p.where}: {p.message} {p.remedy}" for p in find_problems(study.folder, study.config)
        ),
        class_names=study.config.classes,
        map=_map(shown, layout),
    )
    render_report(content, path)
    return path


def _spent(study: Study) -> float:
    return minutes_after(study)[-1] if study.rounds else 0.0


def _next(rounds: Sequence[Round]) -> str:
    if not rounds:
        return "query"
    last = rounds[-1]
    waiting = f"annotate ({len(last.missing)} of {len(last.samples)} masks missing)"
    return {"annotate": waiting, "train": "train", "evaluate": "evaluate, or query", "done": "query"}[last.stage]


def _rounds(study: Study) -> list[dict[str, Any]]:
    rounds = study.rounds
    return [
        {
            "round": round.number,
            "stage": round.stage,
            "strategy": round.strategy,
            "asked": list(round.samples),
            "reasons": list(round.reasons),
            "labeled": labeled,
            "foreground": foreground,
            "minutes": minutes,
            "mean_dice": mean_dice(round),
            "scores": round.scores,
            "trust": {name: round.evaluation.get(name) for name in KEPT},
        }
        for round, labeled, foreground, minutes in zip(
            rounds, labeled_after(rounds), foreground_after(rounds), minutes_after(study), strict=True
        )
    ]


def _curve(study: Study, own: bool) -> Iterator[Curve]:
    points = [(n, mean_dice(round)) for round, n in zip(study.rounds, labeled_after(study.rounds), strict=True)]
    points = [(n, dice) for n, dice in points if dice is not None]
    if points:
        labeled, dice = zip(*points, strict=True)
        name = "this study" if own else study.folder.name
        yield Curve(name=name, labeled=labeled, dice=dice, group="" if own else re.sub(r"-seed\d+", "", name))


def _row(round: Round, labeled: int, name: str) -> RoundRow:
    kept = {name: round.evaluation[name] for name in KEPT if name in round.evaluation}
    return RoundRow(round.number, round.strategy, labeled, round.stage, round.scores or {}, name, kept)


def _map(study: Study, layout: Method) -> PoolMap | None:
    """Draw the map by what the last query saw; where that was nothing, or a segmenter long replaced, by intensity."""
    if not study.rounds:
        return None
    seen = [round.details.get("used", {}).get("embeddings") for round in study.rounds]
    last = next((used["encoder"] for used in reversed(seen) if used), "intensity")
    encoder = "intensity" if find_encoding(last).needs == "segmenter" else last
    pool = study.pool
    return map_of_pool(
        study.embed(encoder).array,
        tuple(sample.id for sample in pool.samples),
        pool.patient,
        pool.position,
        {pool.row_of[name]: round.number for round in study.rounds for name in round.samples},
        encoder=encoder,
        method=layout,
    )


def pictures_of(study: Study, most: int) -> Iterator[Picture]:
    """Show at most so many queried samples, evenly over all rounds; of a volume, the slice with the most annotated foreground."""
    asked = [(round, name) for round in study.rounds for name in round.samples]
    for round, name in asked[:: -(-len(asked) // most) or 1]:
        yield _picture(study, round, name)


def _picture(study: Study, round: Round, name: str) -> Picture:
    row = study.pool.row_of[name]
    case, region = study.pool.case_of(row), study.pool.samples[row].region.slices
    image = read_channels(case.images).array
    masks = _masks(study, study.path(round.masks[name]), image) if name in round.masks else []
    plane, drawn = _plane(image[(slice(None), *region)], [mask[region] for mask in masks])
    why = round.reasons[round.samples.index(name)] or round.strategy
    note = round.dropped.get(name, f"{case.patient}: {why}")
    return Picture(name, round.number, plane, next(iter(drawn), None), note, next(iter(drawn[1:]), None))


def _masks(study: Study, path: Path, image: np.ndarray) -> list[np.ndarray]:
    """Read a mask; add what is concluded from it where strokes grow: one should see how far."""
    mask, geometry = read_mask(path)
    concluded = study.config.concluded
    return [mask, concluded.drawn_from(mask, geometry.spacing, lambda: image)] if concluded.grown else [mask]


def _plane(image: np.ndarray, masks: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Choose what is shown of an image (channels, [z, ]y, x), and of its masks: the slice where the first has the most."""
    planes = list(masks)
    if image.ndim == 4:
        drawn = [((mask > 0) & (mask < 255)).sum((1, 2)) for mask in masks[:1]]
        z = int(drawn[0].argmax()) if drawn and drawn[0].any() else image.shape[1] // 2
        image, planes = image[:, z], [mask[z] for mask in masks]
    return (np.moveaxis(image, 0, -1) if len(image) == 3 else image[0]), planes


def _derived(study: Study, shown: Study) -> Mapping[str, str]:
    derived = {f"preprocessing: {key}": str(value) for key, value in study.preprocessing.to_json().items()}
    trained = [round for round in shown.rounds if round.training]
    if not trained:
        return derived
    classes = ("background", *study.config.classes)
    return derived | _of_training(trained[-1].training, classes) | _of_evaluation(trained[-1].evaluation, classes)


def _of_training(training: Mapping[str, Any], classes: Sequence[str]) -> dict[str, str]:
    told = {key: str(value) for key, value in training.get("config", {}).items()}
    told |= {
        "learner": training.get("learner", "unet"),
        "device": training["device"],
        "seconds": str(training["seconds"]),
    }
    concluded = training.get("concluded", {})
    if concluded.get("far"):
        told["far side of scribbled slices"] = "background"
    if concluded.get("grown"):
        told["grown strokes"] = ", ".join(f"{classes[value]} {sure:g}" for value, sure in concluded["grown"])
    return {f"training: {key}": value for key, value in told.items()}


def _of_evaluation(evaluation: Mapping[str, Any], classes: Sequence[str]) -> dict[str, str]:
    how = evaluation.get("inference", {})
    told = {
        "turned views": ", ".join(map(str, how.get("turned", ()))),
        "largest component": ", ".join(classes[value] for value in how.get("whole", ())),
    }
    return {f"evaluation: {key}": value for key, value in told.items() if value}
