"""Rounds: what a study's events add up to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from nextmask.study.ledger import Event

Stage = Literal["annotate", "train", "evaluate", "done"]


@dataclass(frozen=True)
class StoredFile:
    """A file of the study folder that an event names, with the SHA-256 of its bytes."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Round:
    """A query, its masks, the segmenter trained on all masks so far, and what it scored.

    Samples are named by their id. ``minutes`` are known of simulated annotators; a mask that was replaced has cost both
    times. ``foreground`` counts the voxels that were annotated as a class. ``stage`` follows from what is there; it is
    never stored.
    """

    number: int
    strategy: str
    samples: tuple[str, ...]
    details: Mapping[str, Any] = field(default_factory=dict)
    masks: Mapping[str, StoredFile] = field(default_factory=dict)
    minutes: Mapping[str, float] = field(default_factory=dict)
    foreground: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[str, str] = field(default_factory=dict)
    segmenter: StoredFile | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Mapping[str, float | None]] | None = None
    evaluation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """Samples that were asked for and have neither a mask nor a reason why not."""
        return tuple(name for name in self.samples if name not in self.masks and name not in self.dropped)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Say of every sample why it was asked for; empty where its strategy gave no reason."""
        return tuple(self.details.get("reasons") or ("",) * len(self.samples))

    @property
    def stage(self) -> Stage:
        """Name what this round needs next."""
        if self.scores is not None:
            return "done"
        if self.segmenter is not None:
            return "evaluate"
        return "annotate" if self.missing else "train"


def fold(events: Iterable[Event]) -> tuple[Round, ...]:
    """Add up events to rounds."""
    rounds: dict[int, Round] = {}
    for event in events:
        if event.kind == "queried":
            rounds[event.payload["round"]] = _queried(event.payload)
        elif event.kind != "created":
            number = event.payload["round"]
            rounds[number] = _ADD[event.kind](rounds[number], event.payload)
        if event.kind in ("annotated", "dropped"):
            rounds[max(rounds)] = _outdated(rounds[max(rounds)])
    return tuple(rounds[number] for number in sorted(rounds))


def segmenters_of(rounds: Sequence[Round]) -> list[StoredFile]:
    """List the segmenters that were trained, the latest last."""
    return [round.segmenter for round in rounds if round.segmenter]


def labeled_after(rounds: Sequence[Round]) -> list[int]:
    """Count the samples that were dealt with up to each round; given-up samples were paid for and count."""
    return [int(n) for n in np.cumsum([len(round.masks) + len(round.dropped) for round in rounds], dtype=int)]


def foreground_after(rounds: Sequence[Round]) -> list[int]:
    """Count the voxels that were annotated as a class up to each round."""
    return [int(n) for n in np.cumsum([sum(round.foreground.values()) for round in rounds], dtype=int)]


def mean_dice(round: Round) -> float | None:
    """Average the Dice of the classes that are defined."""
    values = [scores["dice"] for scores in (round.scores or {}).values() if scores["dice"] is not None]
    return float(np.mean(values)) if values else None


def _queried(payload: Mapping[str, Any]) -> Round:
    return Round(payload["round"], payload["strategy"], tuple(payload["samples"]), payload)


def _annotated(round: Round, payload: Mapping[str, Any]) -> Round:
    file = StoredFile(payload["path"], payload["sha256"])
    name = payload["sample"]
    dropped = {other: why for other, why in round.dropped.items() if other != name}
    minutes, foreground = dict(round.minutes), dict(round.foreground)
    if "minutes" in payload:
        minutes[name] = minutes.get(name, 0.0) + payload["minutes"]
    if "foreground" in payload:  # ledgers of earlier versions have none
        foreground[name] = payload["foreground"]
    masks = {**round.masks, name: file}
    return replace(round, masks=masks, dropped=dropped, minutes=minutes, foreground=foreground)


def _dropped(round: Round, payload: Mapping[str, Any]) -> Round:
    name = payload["sample"]
    masks = {other: file for other, file in round.masks.items() if other != name}
    foreground = {other: count for other, count in round.foreground.items() if other != name}
    return replace(round, masks=masks, foreground=foreground, dropped={**round.dropped, name: payload["reason"]})


def _outdated(round: Round) -> Round:
    """Forget the segmenter of the latest round: the masks that it was trained on are no longer the masks there are."""
    return replace(round, segmenter=None, training={}, scores=None, evaluation={})


def _trained(round: Round, payload: Mapping[str, Any]) -> Round:
    file = StoredFile(payload["path"], payload["sha256"])
    return replace(round, segmenter=file, training=payload, scores=None, evaluation={})


def _evaluated(round: Round, payload: Mapping[str, Any]) -> Round:
    return replace(round, scores=payload["scores"], evaluation=payload)


_ADD = {"annotated": _annotated, "dropped": _dropped, "trained": _trained, "evaluated": _evaluated}
